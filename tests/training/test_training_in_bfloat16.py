"""Training and predicting in bfloat16 on a CPU, whatever units it has."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from builders.tiny import TWO_CLASSES, make_configuration

from samnet.core.cpu_bfloat16 import VARIABLE
from samnet.inference.volume import predict_volume
from samnet.models.model_folder import FINAL, LAST
from samnet.models.network import load_weights
from samnet.preprocessing.storage import StoredCase
from samnet.training.loop import Trainer

STEPS = {"steps": 24, "steps_per_epoch": 24, "learning_rate": 4e-3, "augmentation": "none"}


@pytest.mark.usefixtures("cpu_bfloat16")
def test_masks_hardly_depend_on_the_precision_and_files_are_in_single_precision(
    make_trainer: Callable[..., Trainer], case: StoredCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[float] = []
    computed: set[torch.dtype] = set()
    trainer = make_trainer(
        precision="bfloat16",
        hooks={"on_step": lambda step, loss: losses.append(loss)},
        **STEPS,
    )
    layer = trainer.network.encoder.blocks[0].attn.qkv  # type: ignore[union-attr, index]
    layer.register_forward_hook(lambda module, inputs, output: computed.add(output.dtype))
    trainer.run()
    assert computed == {torch.bfloat16}
    assert np.mean(losses[-3:]) < 0.5 * losses[0]
    for kind in (LAST, FINAL):
        weights = load_weights(trainer.folder.checkpoint(kind))
        assert torch.bfloat16 not in {value.dtype for value in weights.values()}
        assert any(value.dtype == torch.float32 for value in weights.values())
    configuration = make_configuration(precision="bfloat16", **STEPS)
    masks = []
    for variable in ("1", "0"):
        monkeypatch.setenv(VARIABLE, variable)
        mask = predict_volume(
            [trainer.network.eval()],
            configuration,
            case.volume(),
            mirror=False,
            label_scheme=TWO_CLASSES,
        )
        masks.append(mask)
    assert set(np.unique(masks[0])) == {0, 1, 2}
    assert (masks[0] == masks[1]).mean() >= 0.99
