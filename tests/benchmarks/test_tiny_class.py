"""The data set with a tiny class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_class
from builders.data import write_dataset

from samnet.core.errors import UserError
from samnet.core.files import read_json
from samnet.dataset.images import read_labels


def test_ball_lies_around_the_centre_of_a_class() -> None:
    labels = np.zeros((7, 9, 9), np.uint8)
    labels[2:5, 3:6, 4:7] = 2
    found = tiny_class.with_ball(labels, 2, 1.0, 3)
    assert np.argwhere(found == 3).mean(axis=0).tolist() == [3, 4, 5]
    assert (found == 3).sum() == 7
    assert np.array_equal(np.where(found == 3, 2, found), labels)


def test_data_set_has_the_images_and_one_more_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_dataset(tmp_path / "raw", num_cases=3)
    monkeypatch.setenv("samnet_raw", str(tmp_path / "raw"))
    words = ["501", "--cases", "2", "--number", "41", "--output", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["tiny_class.py", *words])
    tiny_class.main()
    target = Path(capsys.readouterr().out.strip())
    assert target.name == "Dataset041_Tiny"
    labels = read_json(source / "dataset.json")["labels"]
    described = read_json(target / "dataset.json")
    assert described["labels"] == labels | {"tiny": 2}
    assert described["numTraining"] == 2
    images = sorted(file.name for file in (source / "imagesTr").iterdir())[:2]
    assert sorted(file.name for file in (target / "imagesTr").iterdir()) == images
    for file in sorted((target / "labelsTr").iterdir()):
        before, after = (
            read_labels(each).array[0] for each in (source / "labelsTr" / file.name, file)
        )
        assert 0 < (after == 2).sum() < (before == 1).sum()


def test_class_that_a_case_does_not_show_is_an_error_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path / "raw", num_cases=2)
    monkeypatch.setenv("samnet_raw", str(tmp_path / "raw"))
    words = ["501", "--label", "7", "--number", "41", "--output", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["tiny_class.py", *words])
    with pytest.raises(UserError, match=r"shows no voxel of label 7; choose another --label"):
        tiny_class.main()
    assert not (tmp_path / "out").exists()
