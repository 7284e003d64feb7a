"""What several stations' tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from builders.data import write_dataset

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "raw"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real raw data sets beside the repository, never to be written to."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"the real data sets are not at {REAL_DATA}")
    return REAL_DATA


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Empty folders `raw`, `preprocessed` and `results`, which samnet finds by its environment variables."""
    paths = {
        station: tmp_path / f"samnet_{station}" for station in ("raw", "preprocessed", "results")
    }
    for station, path in paths.items():
        path.mkdir()
        monkeypatch.setenv(f"samnet_{station}", str(path))
    return paths


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Path]:
    return write_dataset
