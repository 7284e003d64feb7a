"""Training runs with a network for each view: views take turns, and all resume as one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from builders.runs import Stopped, after_step, read_rows, stop
from builders.tiny import TWO_CLASSES, make_case, make_configuration
from torch import Tensor

from samnet.inference.volume import predict_volume
from samnet.models.network import load_weights
from samnet.models.view_networks import ViewNetworks
from samnet.preprocessing.storage import StoredCase
from samnet.training.loop import Trainer
from samnet.training.sampling import SliceSamples
from samnet.training.slice_reader import SampleSpecification

MakeTrainer = Callable[..., Trainer]
OWN = {"views": (0, 1), "view_weights": "own"}


@pytest.fixture
def case(tmp_path: Path) -> StoredCase:
    """Return a case of 20 x 24 x 20 voxels with two classes, with slices across Z and Y."""
    labels = np.zeros((20, 24, 20), dtype=np.uint8)
    labels[4:12, 4:14, 4:10] = 1
    labels[8:16, 10:20, 12:18] = 2
    noise = np.random.default_rng(0).normal(0, 5, labels.shape)
    image = (30 + 100 * labels + noise).clip(1, 255).astype(np.uint8)
    return make_case(tmp_path / "prepared", image[None], labels, views=(0, 1))


def batch(rows: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(rows, 3, 32, 32, generator=generator)
    return images, torch.randint(0, 3, (rows, 16, 16), generator=generator)


def weights_of(trainer: Trainer, axis: int) -> Tensor:
    network = trainer.network.of_view(axis)
    return torch.cat([weight.detach().flatten() for weight in network.parameters()])


def test_a_step_changes_the_network_of_its_view_alone(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(**OWN)
    assert isinstance(trainer.network, ViewNetworks)
    for step, (seen, other) in enumerate([(0, 1), (1, 0), (0, 1)]):
        before = {axis: weights_of(trainer, axis) for axis in (0, 1)}
        trainer.steps.make(*batch(), 1e-3, step)
        assert not torch.equal(weights_of(trainer, seen), before[seen])
        assert torch.equal(weights_of(trainer, other), before[other])


def test_all_slices_of_a_step_are_of_its_view(case: StoredCase) -> None:
    for share in (0.0, 0.5, 1.0):
        configuration = make_configuration(batch_size=3, foreground_share=share, **OWN)
        samples = SliceSamples([case], SampleSpecification(configuration, TWO_CLASSES, 2, 0))
        axes = [samples.draw(number)[0].choice.axis for number in range(12)]
        assert axes == [0, 0, 0, 1, 1, 1] * 2


def test_every_view_learns(make_trainer: MakeTrainer, case: StoredCase) -> None:
    trainer = make_trainer(
        steps=60, steps_per_epoch=60, augmentation="none", learning_rate=3e-3, **OWN
    )
    trainer.run()
    [row] = read_rows(trainer.folder)
    assert row["mean_dice"] > 0.7
    for axis in (0, 1):
        configuration = make_configuration(slicing_axis=axis, views=(axis,))
        labels = predict_volume(
            [trainer.network.eval()],
            configuration,
            case.volume(),
            mirror=False,
            label_scheme=TWO_CLASSES,
        )
        assert (labels == case.labels()).mean() > 0.9


def test_interrupted_run_ends_with_the_same_weights(make_trainer: MakeTrainer) -> None:
    values = OWN | {"steps": 5, "steps_per_epoch": 2, "weight_average": 0.9}
    whole = make_trainer("whole", **values)
    whole.run()
    part = make_trainer("part", hooks={"on_step": after_step(3, stop)}, **values)
    with pytest.raises(Stopped):
        part.run()
    rest = make_trainer("part", **values)
    assert rest.progress.step == 2
    rest.run()
    [one, other] = [load_weights(run.folder.checkpoint("final")) for run in (whole, rest)]
    assert set(one) == set(other)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_where_memory_runs_out_all_views_compute_blocks_again(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(batch_size=1, **OWN)
    fallbacks = []
    trainer.on_fallback = fallbacks.append
    network = trainer.network.of_view(0)

    def run_out(module: object, inputs: tuple[Tensor, ...]) -> None:
        if not network.encoder.gradient_checkpointing:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    network.register_forward_pre_hook(run_out)
    trainer.steps.make(*batch(1), 1e-3, 0)
    assert [fallback.gradient_checkpointing for fallback in fallbacks] == [True]
    assert all(encoder.gradient_checkpointing for encoder in trainer.network.encoders)
