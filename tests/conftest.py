"""Fixtures that the tests of several packages share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from builders.data import write_dataset
from builders.skips import (
    NO_REAL_DATA,
    REAL_DATA,
    pytest_make_collect_report,
    pytest_runtest_makereport,
)
from builders.surroundings import hide_surroundings

__all__ = ["pytest_make_collect_report", "pytest_runtest_makereport"]


@pytest.fixture(scope="session", autouse=True)
def surroundings() -> Iterator[None]:
    """Hide the job or training run that the tests may be started in, and the user's folders."""
    with pytest.MonkeyPatch.context() as patch:
        hide_surroundings(patch)
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real raw data sets next to the repository, never to be written to."""
    if not REAL_DATA.is_dir():
        pytest.skip(NO_REAL_DATA)
    return REAL_DATA / "raw"


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
