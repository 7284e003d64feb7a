"""Fixtures that the tests of several packages share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from builders.data import write_dataset

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "raw"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real raw data sets next to the repository, never to be written to."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"the real data sets are not at {REAL_DATA}")
    return REAL_DATA


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Return the folders `raw`, `preprocessed` and `results` that samnet uses, all empty."""
    paths = {}
    for kind in ("raw", "preprocessed", "results"):
        paths[kind] = tmp_path / f"samnet_{kind}"
        paths[kind].mkdir()
        monkeypatch.setenv(f"samnet_{kind}", str(paths[kind]))
    return paths


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Path]:
    """Return the function that writes a synthetic data set; see `write_dataset`."""
    return write_dataset
