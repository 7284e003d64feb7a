"""The three commands on a few cases of every real data set, and on a made one of oblique, anisotropic voxels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from builders.tiny import one_process, tiny_backbone
from scipy.spatial.transform import Rotation
from skimage import io

from samnet.cli.evaluate import main as evaluate
from samnet.cli.plan_and_preprocess import main as plan_and_preprocess
from samnet.cli.predict import main as predict
from samnet.cli.train import main as train
from samnet.plan.plan import Plan

__all__ = ["tiny_backbone"]
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", (10, -12, 85), degrees=True).as_matrix() @ np.diag(
    [0.9, 1.1, 4.5]
)
OBLIQUE[:3, 3] = 12.5, -40.0, 3.25


@pytest.fixture
def folders(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    one_process(monkeypatch)
    return folders


def link_some_cases(source: Path, target: Path, num_training: int, num_test: int) -> None:
    """A data set of a few evenly chosen cases, its files links to the real ones."""
    description = json.loads((source / "dataset.json").read_text())
    ending = description["file_ending"]
    for images, labels, count in (
        ("imagesTr", "labelsTr", num_training),
        ("imagesTs", "labelsTs", num_test),
    ):
        names = sorted(
            file.name.removesuffix(ending) for file in (source / labels).glob(f"*{ending}")
        )
        for index in np.linspace(0, len(names) - 1, count).round().astype(int):
            for file in (
                source / labels / f"{names[index]}{ending}",
                *(source / images).glob(f"{names[index]}_0*"),
            ):
                (target / file.parent.name).mkdir(parents=True, exist_ok=True)
                (target / file.parent.name / file.name).symlink_to(file)
    (target / "dataset.json").write_text(json.dumps({**description, "numTraining": num_training}))


def run_all_commands(dataset: Path, output: Path, fold: str) -> Plan:
    """Nothing but the size of the network and the length of the training is said; returns the plan of the model."""
    number = dataset.name[7:10]
    size = ["--set", "backbone=tiny", "--set", "input_size=64"]
    length = ["--steps", "4", "--set", "steps_per_epoch=2", "--batch-size", "2", "--workers", "0"]
    assert plan_and_preprocess(["-d", number, "-np", "0", "--device", "cpu", *size]) == 0
    assert train([number, "lora", fold, "--device", "cpu", *length]) == 0
    assert predict(["-i", str(dataset / "imagesTs"), "-o", str(output), "--device", "cpu"]) == 0
    assert evaluate(["-p", str(output), "-r", str(dataset / "labelsTs"), "-np", "0"]) == 0
    return Plan.load(
        output.parent / "samnet_results" / dataset.name / "lora" / f"fold_{fold}" / "plan.json"
    )


def check_predictions(dataset: Path, output: Path, plan: Plan) -> None:
    """Each on the grid of its image, and with declared labels only."""
    references = sorted((dataset / "labelsTs").glob(f"*{plan.file_ending}"))
    assert sorted(output.glob(f"*{plan.file_ending}")) == [
        output / file.name for file in references
    ]
    for file in references:
        image_file = (
            dataset / "imagesTs" / file.name.replace(plan.file_ending, f"_0000{plan.file_ending}")
        )
        if plan.file_ending == ".png":
            labels = io.imread(output / file.name)
            assert labels.shape == io.imread(image_file).shape[:2]
        else:
            image, prediction = nibabel.load(image_file), nibabel.load(output / file.name)
            assert prediction.shape == image.shape
            assert np.array_equal(prediction.affine, image.affine)
            for form in ("get_sform", "get_qform"):
                matrices = [getattr(one.header, form)(coded=True) for one in (prediction, image)]
                assert matrices[0][1] == matrices[1][1]
                assert matrices[0][0] is None or np.allclose(matrices[0][0], matrices[1][0])
            labels = np.asarray(prediction.dataobj)
        assert set(np.unique(labels)) <= set(plan.labels.values())


@pytest.mark.parametrize(
    ("name", "fold", "num_training"),
    [
        ("Dataset004_Hippocampus", "0", 5),
        ("Dataset010_SarcomaCT", "all", 2),
        ("Dataset020_CardiacLV", "0", 6),
        ("Dataset030_Nuclei", "all", 4),
    ],
)
def test_real_data(
    real_data: Path,
    folders: dict[str, Path],
    tmp_path: Path,
    name: str,
    fold: str,
    num_training: int,
) -> None:
    dataset = folders["raw"] / name
    link_some_cases(real_data / name, dataset, num_training, 2)
    plan = run_all_commands(dataset, tmp_path / "predictions", fold)
    check_predictions(dataset, tmp_path / "predictions", plan)


@pytest.mark.parametrize(
    "affine", [OBLIQUE, OBLIQUE @ np.diag([-1, 1, -1, 1])[:, [2, 0, 1, 3]]], ids=["zyx", "other"]
)
def test_oblique_anisotropic_data(
    folders: dict[str, Path], tmp_path: Path, make_dataset: Callable[..., Path], affine: np.ndarray
) -> None:
    """Three classes, two channels; in the second form the thick slices lie across another axis of the file."""
    labels = {"background": 0, "left": 1, "right": 2, "other": 3}
    dataset = make_dataset(
        folders["raw"],
        shape=(12, 26, 22),
        affine=affine,
        labels=labels,
        channels=("T1", "T2"),
        num_test=2,
    )
    plan = run_all_commands(dataset, tmp_path / "predictions", "0")
    configuration = plan.configuration("lora")
    assert configuration.views == (configuration.slicing_axis,)
    assert configuration.channel_layout == "pair_mean"
    check_predictions(dataset, tmp_path / "predictions", plan)
