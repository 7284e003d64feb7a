"""Every named configuration, from its plan to an installed model.

It builds, learns, saves, loads, exports and installs, and predicts the same after each step.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from samnet.cli import export_model, install_model, plan_and_preprocess
from samnet.core.geometry import Grid, spacing_affine
from samnet.inference.predictor import Predictor
from samnet.models import registry
from samnet.models.encoder import build_encoder
from samnet.models.heads.mask_decoder import build_mask_decoder
from samnet.models.lora import merge_lora
from samnet.models.network import build_network
from samnet.models.sam_modules import PromptEncoder
from samnet.plan.backbones import BACKBONES, Backbone
from samnet.planning.planned_dataset import PlannedDataset
from samnet.planning.presets import configuration_names
from samnet.training.loss import segmentation_loss
from samnet.training.optimizer import OPTIMIZERS
from samnet.training.options import TrainingOptions
from samnet.training.run import train

DATASET = "Dataset008_Liver"
SIZE = 112
SHORT = {
    "input_size": SIZE,
    "zoom": 4.5,
    "steps": 2,
    "steps_per_epoch": 2,
    "batch_size": 2,
    "warmup_steps": 0,
    "mirror_at_prediction": False,
}


@pytest.fixture(scope="module")
def planned(
    tmp_path_factory: pytest.TempPathFactory, make_dataset: Any
) -> Iterator[PlannedDataset]:
    """A planned synthetic CT data set, and tiny files of weights in place of SAM's."""
    folder = tmp_path_factory.mktemp("configurations")
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("raw", "preprocessed", "results", "checkpoints"):
            patch.setenv(f"samnet_{kind}", str(folder / kind))
        for name, heads in (("vit_b", 2), ("vit_h", 4)):
            tiny = Backbone(name, 24 * heads, 2, heads, (1,), 1024)
            patch.setitem(BACKBONES, name, tiny)
            _write_weights(folder / "checkpoints" / registry.CHECKPOINTS[name].file_name, tiny)
        make_dataset(folder / "raw", number=8, name="Liver", num_cases=5, channels=("CT",))
        assert plan_and_preprocess.main(["-d", "8", "-np", "0", "--device", "cpu"]) == 0
        yield PlannedDataset.find(DATASET)


def _write_weights(file: Path, backbone: Backbone) -> None:
    torch.manual_seed(1)
    parts = {
        "image_encoder": build_encoder(backbone, 1024),
        "prompt_encoder": PromptEncoder(256, (64, 64), (1024, 1024), 16),
        "mask_decoder": build_mask_decoder(4),
    }
    file.parent.mkdir(exist_ok=True)
    torch.save(torch.nn.ModuleDict(parts).state_dict(), file)


def test_configuration_names_include_all_systems_of_the_papers() -> None:
    systems = {"samed", "samed_s", "samed_h", "autosam", "autosam_cnn", "autosam_linear", "ma_sam"}
    assert systems | {"lora", "frozen", "full", "scratch"} == set(configuration_names())


@pytest.mark.parametrize("name", configuration_names())
def test_configuration_lowers_the_loss_and_predicts_the_same_with_merged_lora(
    planned: PlannedDataset, name: str
) -> None:
    plan = planned.plan_with([name]).with_values(name, {"input_size": SIZE}, "test")
    configuration = plan.configuration(name)
    torch.manual_seed(0)
    network = build_network(configuration, 1, plan.label_scheme.num_outputs)
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = OPTIMIZERS[configuration.optimizer](trained, lr=1e-5)
    images = torch.rand(2, 3, SIZE, SIZE)
    target = (images[:, 0, :: network.stride, :: network.stride] > 0.5).long()

    def loss() -> torch.Tensor:
        return segmentation_loss(
            network(images),
            target,
            form=configuration.loss,
            cross_entropy_weight=configuration.cross_entropy_weight,
            dice_weight=configuration.dice_weight,
        )

    before = loss()
    before.backward()
    optimizer.step()
    with torch.no_grad():
        assert loss() < before
        unmerged = network.eval()(images)
        merge_lora(network)
        torch.testing.assert_close(network(images), unmerged, rtol=1e-4, atol=1e-5)


def predict_probabilities(predictor: Predictor) -> np.ndarray:
    """Return probabilities `(K, Z, Y, X)`: after two steps, the labels may all be background."""
    image = np.random.default_rng(0).normal(100, 50, (1, 3, 24, 20))
    grid = Grid((3, 24, 20), spacing_affine((2.0, 1.0, 1.0)))
    prediction = predictor.predict_and_check(image, grid, keep_probabilities=True)
    assert prediction.probabilities is not None
    return prediction.probabilities.array()


@pytest.mark.parametrize("name", configuration_names())
def test_configuration_predicts_the_same_after_export_and_install(
    planned: PlannedDataset, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = TrainingOptions(settings=SHORT, device="cpu", workers=0)
    run = train(planned, name, "0", options)
    predictor = Predictor.from_folder(run.path, device="cpu")
    expected = predict_probabilities(predictor)
    assert predictor.configuration.input_size == SIZE
    assert expected.std() > 0

    archive = tmp_path / "model.zip"
    assert export_model.main(["-m", str(run.path.parent), "-o", str(archive)]) == 0
    monkeypatch.setenv("samnet_results", str(tmp_path / "elsewhere"))
    assert install_model.main([str(archive)]) == 0
    (installed,) = (tmp_path / "elsewhere").glob("*/*/fold_0")
    again = Predictor.from_folder(installed, device="cpu")
    assert np.array_equal(predict_probabilities(again), expected)
