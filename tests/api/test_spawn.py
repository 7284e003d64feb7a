"""The API in processes that are started with `spawn`, as on Windows and macOS."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from builders.data import write_dataset

SCRIPT = """
import multiprocessing
import sys

import samnet


def check(raw):
    # This process starts worker processes of its own.
    return samnet.verify(501, raw=raw, processes=1)


def refuse(raw):
    return samnet.verify(7, raw=raw, processes=0)


if __name__ == "__main__":
    from concurrent.futures import ProcessPoolExecutor

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        found = pool.submit(check, sys.argv[1]).result()
        assert found.is_usable and found.num_cases == 2, found
        try:
            pool.submit(refuse, sys.argv[1]).result()
        except samnet.UserError as error:
            print("refused:", str(error)[:16])
    print(repr(found))
"""


def test_results_and_errors_come_from_spawned_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path / "raw", num_cases=2, shape=(4, 12, 10))
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script, tmp_path / "raw"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "refused: no data set '7' ",
        "Verification('Dataset501_Tiny', 2 cases, 0 faults, 0 remarks)",
    ]
