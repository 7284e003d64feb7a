"""The run of all steps: what only illustrates them ends nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders.data import write_volume

from samnet.dataset.cases import Case
from samnet.dataset.label_scheme import LabelScheme
from samnet.demo.run import illustrate

CLASSES = LabelScheme({"background": 0, "organ": 1})


def draw(folder: Path, figure: Path) -> bool:
    """Draw one case as the demo does."""
    labels = np.zeros((3, 20, 30), np.uint8)
    labels[:, 4:9, 3:12] = 1
    files = [folder / "images" / "a_0000.nii.gz"]
    files += [folder / name / "a.nii.gz" for name in ("predictions", "references")]
    for file in files:
        write_volume(file, labels, np.eye(4))
    case = Case("a", (files[0],))
    return illustrate([case], folder / "predictions", folder / "references", CLASSES, figure)


def test_figure_of_the_demo_is_drawn(tmp_path: Path) -> None:
    assert draw(tmp_path, tmp_path / "overlays.png")
    assert (tmp_path / "overlays.png").is_file()


def test_figure_that_cannot_be_drawn_does_not_end_the_demo(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    figure = tmp_path / "overlays.png"
    figure.mkdir()  # so no file can have this name
    assert not draw(tmp_path, figure)
    assert "overlays.png: not drawn, everything else is unaffected" in caplog.text
