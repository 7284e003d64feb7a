"""Fixtures that the tests of several packages share."""

from __future__ import annotations

import contextlib
import logging
import os
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

from samnet.core.cpu_bfloat16 import VARIABLE
from samnet.core.progress_line import HandlerAboveBars

__all__ = ["pytest_make_collect_report", "pytest_runtest_makereport"]


@pytest.fixture(scope="session", autouse=True)
def surroundings() -> Iterator[None]:
    """Hide the job or training run that the tests may be started in, and the user's folders."""
    with pytest.MonkeyPatch.context() as patch:
        hide_surroundings(patch)
        yield


@pytest.fixture(scope="session", autouse=True)
def few_figures() -> Iterator[None]:
    """Draw one case after an evaluation: six would take a second in each test that trains."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("samnet.evaluation.overlays.evaluated_cases.NUM_CASES", 1)
        yield


@pytest.fixture(autouse=True)
def no_handler_of_commands() -> Iterator[None]:
    """Remove the log handler of a command: it would write to the stream of a test that is over."""
    yield
    for handler in list(logging.root.handlers):
        if isinstance(handler, HandlerAboveBars):
            logging.root.removeHandler(handler)


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


@pytest.fixture
def cpu_bfloat16(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compute in bfloat16 on this CPU where a plan says so, however slow it is."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    monkeypatch.setenv(VARIABLE, "1")
    # Where ATEN_CPU_CAPABILITY allows fewer instructions than the CPU has, torch's fused kernel
    # fails.
    is_restricted = "ATEN_CPU_CAPABILITY" in os.environ
    with sdpa_kernel(SDPBackend.MATH) if is_restricted else contextlib.nullcontext():
        yield


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Path]:
    """Return the function that writes a synthetic data set; see `write_dataset`."""
    return write_dataset
