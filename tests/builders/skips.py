"""Tests may be skipped for known reasons only. A pytest plugin: any other skip is a failure."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
NO_REAL_DATA = f"the real data are not at {REAL_DATA}"
NO_HUB_LIBRARY = "huggingface-hub is not installed"
NO_OPENSSL = "there is no openssl"
# How the reason of a skip begins, and whether it can be true on this machine.
EXPECTED = (
    (NO_REAL_DATA, not REAL_DATA.is_dir()),
    ("starts a SLURM", os.environ.get("SAMNET_SLURM") != "1"),
    ("needs the right to mount a disk", True),
    ("Windows has no umask", os.name == "nt"),
    ("all views are kept in memory", os.name == "nt"),
    ("needs a shell that closes descriptors", os.name == "nt"),
    ("this operating system has no file that cannot be read", sys.platform != "linux"),
    ("this file system does not tell upper from lower case", True),
    ("samnet is not installed in editable form", True),
    ("there is no Chromium", True),
    ("the client of MONAI Label cannot be installed", True),
    ("there is no bash", os.name == "nt"),
    ("there is no zsh", True),
    ("there is no fish", True),
    ("`make docs` has not set up", importlib.util.find_spec("mkdocs") is None),
    (NO_HUB_LIBRARY, True),
    (NO_OPENSSL, True),
    ("the package mlflow is not installed", importlib.util.find_spec("mlflow") is None),
    ("the package wandb is not installed", importlib.util.find_spec("wandb") is None),
    ("needs /proc", sys.platform != "linux"),
)


def is_expected(reason: str) -> bool:
    """Tell whether a test may be skipped.

    Args:
        reason: The reason it gives.

    Returns:
        Whether it is among the known ones, and can be true on this machine.
    """
    return any(can_be and reason.startswith(known) for known, can_be in EXPECTED)


def _fail_unless_expected(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not is_expected(reason.removeprefix("Skipped: ")):
        report.outcome = "failed"
        report.longrepr = (
            f"{report.nodeid} is skipped, and must not be ({reason}). What the tests need is in "
            "the extra `dev`; other reasons to skip are listed in tests/builders/skips.py"
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a test fail that is skipped for another reason."""
    report = yield
    _fail_unless_expected(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Let a file fail that is skipped for another reason."""
    report = yield
    _fail_unless_expected(report)
    return report
