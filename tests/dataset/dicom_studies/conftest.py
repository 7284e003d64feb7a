from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from samnet.cli.convert_dicom import main
from samnet.core.paths import raw_folder
from samnet.dataset.images import read_image, read_labels


@dataclass(frozen=True)
class Converted:
    """What a conversion has written."""

    folder: Path

    @property
    def description(self) -> dict:
        return json.loads((self.folder / "dataset.json").read_text("utf-8"))

    @property
    def cases(self) -> list[str]:
        return sorted(file.name[:-7] for file in (self.folder / "labelsTr").iterdir())

    def labels(self, number: int = 0) -> np.ndarray:
        """Return the label map `(Z, Y, X)` of a case."""
        return read_labels(self.folder / "labelsTr" / f"{self.cases[number]}.nii.gz").array[0]

    def image(self, channel: int = 0, number: int = 0) -> np.ndarray:
        """Return a channel `(Z, Y, X)` of a case."""
        file = self.folder / "imagesTr" / f"{self.cases[number]}_{channel:04d}.nii.gz"
        return read_image([file]).array[0]

    def mask(self, name: str, number: int = 0) -> np.ndarray:
        """Return where a case has a class or region."""
        value = self.description["labels"][name]
        return np.isin(self.labels(number), value)


@pytest.fixture
def studies(tmp_path: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder; return the folder of the studies in it."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "studies").mkdir()
    return tmp_path / "studies"


@pytest.fixture
def convert(studies: Path) -> Callable[..., int]:
    """Run the command on the studies; return the exit code."""

    def run(*options: str) -> int:
        return main(["-i", str(studies), "-d", "7", "--name", "Organs", *options])

    return run


@pytest.fixture
def converted(convert: Callable[..., int]) -> Callable[..., Converted]:
    """Run the command on the studies; return what it has written."""

    def run(*options: str) -> Converted:
        assert convert(*options) == 0
        return Converted(raw_folder() / "Dataset007_Organs")

    return run
