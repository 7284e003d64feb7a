"""The three commands on a few cases of every real data set, and on a synthetic one.

The synthetic data set has oblique, anisotropic voxels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
from builders.tiny import tiny_backbone
from scipy.spatial.transform import Rotation
from skimage import io

from samnet.cli.evaluate import main as evaluate
from samnet.cli.plan_and_preprocess import main as plan_and_preprocess
from samnet.cli.predict import main as predict
from samnet.cli.train import main as train
from samnet.core.files import read_json
from samnet.models.model_folder import ModelFolder
from samnet.plan.plan import Plan

__all__ = ["tiny_backbone"]
ROTATION = Rotation.from_euler("xyz", (10, -12, 85), degrees=True)
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = ROTATION.as_matrix() @ np.diag([0.9, 1.1, 4.5])
# A training run of seconds that learns to tell the classes by their brightness.
LONGER = ("--steps=60", "--set=steps_per_epoch=60", "--batch-size=4", "--lr=0.01")
OBLIQUE[:3, 3] = 12.5, -40.0, 3.25


def link_some_cases(source: Path, target: Path, num_training: int, num_test: int) -> None:
    """Make a data set of a few evenly chosen cases, whose files are links to the real ones."""
    description = json.loads((source / "dataset.json").read_text())
    ending = description["file_ending"]
    for part, count in (("Tr", num_training), ("Ts", num_test)):
        images, labels = source / f"images{part}", source / f"labels{part}"
        names = sorted(file.name.removesuffix(ending) for file in labels.glob(f"*{ending}"))
        for index in np.linspace(0, len(names) - 1, count).round().astype(int):
            name = names[index]
            for file in (labels / f"{name}{ending}", *images.glob(f"{name}_0*")):
                (target / file.parent.name).mkdir(parents=True, exist_ok=True)
                (target / file.parent.name / file.name).symlink_to(file)
    (target / "dataset.json").write_text(json.dumps({**description, "numTraining": num_training}))


def run_all_commands(dataset: Path, output: Path, fold: str, options: Sequence[str] = ()) -> Plan:
    """Set the size of the network and the length of the training; return the model's plan.

    The options are those of `samnet_train`, beyond a training run of a few steps.
    """
    number = dataset.name[7:10]
    size = ["--set", "backbone=tiny", "--set", "input_size=64"]
    length = ["--steps", "4", "--set", "steps_per_epoch=2", "--batch-size", "2", "--workers", "0"]
    assert plan_and_preprocess(["-d", number, "-np", "0", "--device", "cpu", *size]) == 0
    assert train([number, "lora", fold, "--device", "cpu", *length, *options]) == 0
    assert predict(["-i", str(dataset / "imagesTs"), "-o", str(output), "--device", "cpu"]) == 0
    assert evaluate(["-p", str(output), "-r", str(dataset / "labelsTs"), "-np", "0"]) == 0
    return ModelFolder(output.parent / "samnet_results" / dataset.name / "lora").run(fold).plan


def check_predictions(dataset: Path, output: Path, plan: Plan) -> None:
    """Check that each lies on the grid of its image, and has declared labels only."""
    ending = plan.file_ending
    names = sorted(file.name for file in (dataset / "labelsTs").glob(f"*{ending}"))
    assert sorted(file.name for file in output.glob(f"*{ending}")) == names
    for name in names:
        image_file = dataset / "imagesTs" / name.replace(ending, f"_0000{ending}")
        if ending == ".png":
            labels = io.imread(output / name)
            assert labels.shape == io.imread(image_file).shape[:2]
        else:
            labels = read_on_the_same_grid(output / name, image_file)
        assert set(np.unique(labels)) <= set(plan.label_scheme.labels.values())


def read_on_the_same_grid(file: Path, image_file: Path) -> np.ndarray:
    """Read a label map; check that its header has the grid of the image."""
    image, prediction = nibabel.load(image_file), nibabel.load(file)
    assert prediction.shape == image.shape
    assert np.array_equal(prediction.affine, image.affine)
    for form in ("get_sform", "get_qform"):
        matrix, code = getattr(prediction.header, form)(coded=True)
        image_matrix, image_code = getattr(image.header, form)(coded=True)
        assert code == image_code
        assert matrix is None or np.allclose(matrix, image_matrix)
    return np.asarray(prediction.dataobj)


@pytest.mark.parametrize(
    ("name", "fold", "num_training"),
    [
        ("Dataset004_Hippocampus", "0", 5),
        ("Dataset010_SarcomaCT", "all", 2),
        ("Dataset020_CardiacLV", "0", 6),
        ("Dataset030_Nuclei", "all", 4),
    ],
)
def test_commands_on_real_data(
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
def test_commands_on_oblique_anisotropic_data(
    folders: dict[str, Path], tmp_path: Path, make_dataset: Callable[..., Path], affine: np.ndarray
) -> None:
    """There are three classes and two channels.

    In the second form the thick slices lie across another axis of the file.
    """
    labels = {"background": 0, "left": 1, "right": 2, "other": 3}
    dataset = make_dataset(
        folders["raw"],
        shape=(12, 26, 22),
        affine=affine,
        labels=labels,
        channels=("T1", "T2"),
        num_test=2,
    )
    output = tmp_path / "predictions"
    plan = run_all_commands(dataset, output, "0", LONGER)
    configuration = plan.configuration("lora")
    assert configuration.views == (configuration.slicing_axis,)
    assert configuration.channel_layout == "pair_mean"
    check_predictions(dataset, output, plan)
    summary = read_json(output / "summary.json")
    # About 0.65, as the balls of three classes hide each other; 0 for background everywhere.
    assert summary["foreground_mean"]["Dice"] > 0.5
