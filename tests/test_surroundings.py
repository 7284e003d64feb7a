"""The suite gives the same results within a job, and skips no test unnoticed."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from builders.surroundings import is_hidden

from samnet.core.cpu_bfloat16 import VARIABLE

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "samnet"
# What samnet sets or reads that is no matter of a job: they do not change what is done.
HARMLESS = {
    "ATEN_CPU_CAPABILITY",
    "BLOSC_NTHREADS",
    "DNNL_MAX_CPU_ISA",
    "MPLBACKEND",
    "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
    "SC_PAGE_SIZE",
    "SC_PHYS_PAGES",
}
JOB = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "4"}


def names_of_variables(file: Path) -> Iterator[str]:
    """Yield the texts of a file that look like the names of environment variables."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        if re.fullmatch(r"[A-Z]+(_[A-Z]+)+", node.value):
            yield node.value


def run_pytest(*options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    plugins = ["-p", "no:cacheprovider", "-p", "no:xdist"]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, *options]
    return subprocess.run(
        command,
        cwd=TESTS.parent,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_variable_of_a_job_is_seen() -> None:
    """Except the one by which all tests compute in single precision, whatever the CPU."""
    assert [name for name in os.environ if is_hidden(name)] == [VARIABLE]
    assert os.environ[VARIABLE] == "0"


def test_no_variable_of_a_job_is_seen_within_one(tmp_path: Path) -> None:
    here = f"{__file__}::{test_no_variable_of_a_job_is_seen.__name__}"
    variables = JOB | {"RANK": "1", "samnet_results": str(tmp_path)}
    finished = run_pytest(here, f"--basetemp={tmp_path / 'inner'}", **variables)
    assert finished.returncode == 0, finished.stdout
    assert "1 passed" in finished.stdout


def test_every_variable_that_samnet_reads_is_hidden() -> None:
    found = set()
    for file in PACKAGE.rglob("*.py"):
        if "os.environ" in file.read_text(encoding="utf-8"):
            found.update(names_of_variables(file))
    assert {"SLURM_JOB_ID", "LSB_JOBINDEX", "PBS_ARRAY_INDEX", "JOB_COMPLETION_INDEX"} <= found
    assert [name for name in sorted(found - HARMLESS) if not is_hidden(name)] == []


SKIPPING = """
import pytest

def test_known_reason():
    pytest.skip("needs the right to mount a disk in memory (root)")

@pytest.mark.xfail
def test_expected_failure():
    assert False

def test_other_reason():
    pytest.skip("no time")

@pytest.mark.skip(reason="no time")
def test_mark():
    pass

def test_missing_package():
    pytest.importorskip("not_there")
"""


def test_skip_for_an_unknown_reason_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "test_inner.py").write_text(SKIPPING, encoding="utf-8")
    whole_file = "import pytest\npytest.importorskip('not_there')\n"
    (tmp_path / "test_whole_file.py").write_text(whole_file, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    folders = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    options = ["-p", "builders.skips", "-c", str(tmp_path / "pytest.ini"), str(tmp_path)]
    finished = run_pytest(*options, "-rA", "--continue-on-collection-errors", PYTHONPATH=folders)
    failed = set(re.findall(r"^(?:FAILED|ERROR) .*?test_inner.py::(\w+)", finished.stdout, re.M))
    assert failed == {"test_other_reason", "test_mark", "test_missing_package"}, finished.stdout
    assert "test_whole_file.py is skipped, and must not be" in finished.stdout
    assert "1 skipped" in finished.stdout
    assert "1 xfailed" in finished.stdout
