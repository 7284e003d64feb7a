"""What the benchmark of registered labels prints."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import registration
from builders.data import write_dataset, write_volume
from builders.phantom import make_phantom
from builders.tiny import add_tiny_backbone, prepare_dataset


def test_labels_of_phantoms_are_measured(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add_tiny_backbone(monkeypatch)
    raw = write_dataset(tmp_path / "raw", num_cases=5)
    shutil.rmtree(raw / "imagesTs", ignore_errors=True)
    for number in range(5):
        image, labels = make_phantom(shift=(0.0, number - 2.0, 1.0), seed=number)
        name = f"case_{number:02d}"
        write_volume(raw / "imagesTr" / f"{name}_0000.nii.gz", 100 * image[0] + 1, np.eye(4))
        write_volume(raw / "labelsTr" / f"{name}.nii.gz", labels, np.eye(4))
    prepare_dataset(tmp_path, 501, monkeypatch, views=[0], slicing_axis=0)
    words = ["registration.py", "501", "--cases", "1", "--others", "4", "--seeds", "0", "1"]
    monkeypatch.setattr("sys.argv", words)
    registration.main()
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == "Dataset501_Tiny: 1 labelled cases, 4 others"
    assert len(lines) == 2
    for seed, line in enumerate(lines):
        assert line.startswith(f"seed {seed}: Dice 0.9")
        assert " of 3, 0.9" in line
        assert " of the 2 to learn from; similarity " in line
        assert line.endswith("; 0 not registered")
