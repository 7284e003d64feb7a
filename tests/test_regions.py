"""Nested regions from planning to an installed model, and plain labels of the same files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from builders.data import write_dataset
from builders.tiny import (
    add_tiny_backbone,
    prepare_dataset,
    tiny_backbone,
    use_folders,
)

from samnet.cli.evaluate import main as evaluate
from samnet.cli.export_model import main as export_model
from samnet.cli.install_model import main as install_model
from samnet.cli.plan import main as plan
from samnet.cli.predict import main as predict
from samnet.cli.train import main as train
from samnet.core.files import read_json
from samnet.dataset.images import read_labels
from samnet.fingerprint.records import Fingerprint
from samnet.preprocessing.storage import load_case

__all__ = ["tiny_backbone"]
NESTED = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "inner": 3, "ignore": 4}
ORDER = {"regions_class_order": [1, 2, 3]}
PLAIN = {"background": 0, "rim": 1, "middle": 2, "inner": 3, "ignore": 4}
NAMES = {501: "Dataset501_Nested", 502: "Dataset502_Plain"}
SHAPE = (6, 28, 26)


def nested_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return three nested balls, brighter inwards, and their labels; `(Z, Y, X)`."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE), indexing="ij"))
    distance = np.sqrt(((grid - generator.uniform(-0.2, 0.2, (3, 1, 1, 1))) ** 2).sum(axis=0))
    inside = [distance < 0.3, distance < 0.5, distance < 0.75]
    labels = np.select(inside, [3, 2, 1], 0).astype(np.uint8)
    image = (20 + 55 * labels + generator.normal(0, 6, SHAPE)).clip(1, 255).astype(np.uint8)
    return image, labels


def write_nested(raw: Path, number: int, labels: dict[str, Any], **more: Any) -> None:
    """Write training cases whose last fifth of the columns is not annotated, and test cases."""
    name = NAMES[number]
    folder = write_dataset(raw, number=number, name=name[11:], shape=SHAPE, num_test=2)
    for index, file in enumerate(sorted(folder.glob("labelsT[rs]/*.nii.gz"))):
        image, label_map = nested_case(index)
        part = file.parent.name[-2:]
        if part == "Tr":
            label_map[:, :, -5:] = 4
        affine = np.diag([1.0, 1.0, 2.0, 1.0])
        nibabel.save(nibabel.Nifti1Image(label_map.transpose(), affine), file)
        stem = file.name.removesuffix(".nii.gz")
        nibabel.save(
            nibabel.Nifti1Image(image.transpose(), affine),
            folder / f"images{part}" / f"{stem}_0000.nii.gz",
        )
    description = read_json(folder / "dataset.json") | {"labels": labels} | more
    (folder / "dataset.json").write_text(json.dumps(description))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both data sets, prepared."""
    root = tmp_path_factory.mktemp("regions")
    with pytest.MonkeyPatch.context() as patch:
        add_tiny_backbone(patch)
        write_nested(root / "raw", 501, NESTED, **ORDER)
        write_nested(root / "raw", 502, PLAIN)
        for number in NAMES:
            prepare_dataset(root, number, patch, views=[0], slicing_axis=0)
    return root


def test_commands_train_and_score_regions(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_folders(root, tmp_path / "results", monkeypatch)
    assert plan(["-d", "501", "--explain", "--device", "cpu"]) == 0
    assert "core = 2, 3, written as 2" in capsys.readouterr().out
    length = ["--steps", "80", "--set", "steps_per_epoch=40"]
    values = ["--lr", "3e-3", "--set", "augmentation=none"]
    assert train(["501", "lora", "0", "--device", "cpu", "--workers", "0", *length, *values]) == 0
    run = tmp_path / "results" / NAMES[501] / "lora" / "fold_0"
    last_row = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert list(last_row["dice"]) == ["whole", "core", "inner"]
    keys = ["(1, 2, 3)", "(2, 3)", "3"]
    assert list(read_json(run / "validation" / "summary.json")["mean"]) == keys

    images = root / "raw" / NAMES[501] / "imagesTs"
    references = root / "raw" / NAMES[501] / "labelsTs"
    output = tmp_path / "predictions"
    assert predict(["-i", str(images), "-o", str(output), "--device", "cpu"]) == 0
    capsys.readouterr()
    assert evaluate(["-p", str(output), "-r", str(references), "-np", "0"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table[3:6]] == ["whole", "core", "inner"]
    scores = read_json(output / "summary.json")["mean"]
    assert all(scores[key]["Dice"] > 0.6 for key in keys), scores
    for file in output.glob("*.nii.gz"):
        assert set(np.unique(read_labels(file).array)) == {0, 1, 2, 3}

    archive, again = tmp_path / "nested.zip", tmp_path / "again"
    assert export_model(["-m", str(run.parent), "-o", str(archive)]) == 0
    assert install_model([str(archive), "--name", "copy"]) == 0
    copy = tmp_path / "results" / NAMES[501] / "copy"
    assert predict(["-i", str(images), "-o", str(again), "-m", str(copy), "--device", "cpu"]) == 0
    for file in output.glob("*.nii.gz"):
        assert np.array_equal(read_labels(file).array, read_labels(again / file.name).array)


def test_regions_and_plain_labels_of_the_same_files_agree_where_they_must(root: Path) -> None:
    folders = [root / "preprocessed" / name for name in NAMES.values()]
    nested, plain = (Fingerprint.load(folder / "dataset_fingerprint.json") for folder in folders)
    assert nested.foreground == plain.foreground
    for identifier, case in nested.cases.items():
        other = plain.cases[identifier]
        assert case.classes["inner"] == other.classes["inner"]
        assert case.classes["whole"].voxels == sum(entry.voxels for entry in other.classes.values())
        assert (case.channels, case.labelled_slices) == (other.channels, other.labelled_slices)
        first, second = (load_case(folder / "slices", identifier) for folder in folders)
        assert np.array_equal(first.labels(), second.labels())
        assert first.record.class_slices == second.record.class_slices
    first_splits, second_splits = (read_json(folder / "splits_final.json") for folder in folders)
    assert first_splits == second_splits
