from __future__ import annotations

import argparse
import dataclasses
import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import samnet
from samnet.cli import predict
from samnet.cli.command import (
    Command,
    add_part_options,
    add_processes_option,
    duration,
    positive_float,
)
from samnet.core.errors import DatasetFaults, SamnetError, UserError


def command(run: Callable[[argparse.Namespace], None] = lambda options: None) -> Command:
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("-d", nargs="+", type=int)
        parser.add_argument("--epochs", type=int)
        add_processes_option(parser)
        add_part_options(parser)

    return Command("samnet_try", "Tries things out.", add_arguments, run)


def fail_with(error: BaseException) -> Callable[[argparse.Namespace], None]:
    def run(options: argparse.Namespace) -> None:
        raise error

    return run


def test_command_passes_its_options_to_run() -> None:
    seen: list[argparse.Namespace] = []
    typed = ["-d", "1", "2", "--epochs", "3", "-np", "0", "--num-parts", "4", "--part-id", "3"]
    assert command(seen.append).main(typed) == 0
    (options,) = seen
    assert (options.d, options.epochs, options.processes) == ([1, 2], 3, 0)
    assert (options.num_parts, options.part_id, options.verbose) == (4, 3, False)


@pytest.mark.parametrize(
    "typed",
    [
        ["--unknown"],
        ["--epoch", "3"],
        ["--ep=3"],
        ["--verb"],
        ["-n", "2"],
        ["-n=2"],
        ["-np2"],
        ["-x"],
        ["extra"],
        ["--epochs", "many"],
        ["-np", "-1"],
        ["-np", "²"],
        ["--num-parts", "0"],
        ["--part-id", "1.5"],
    ],
)
def test_command_refuses_unknown_abbreviated_and_bad_options(
    typed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        command(fail_with(AssertionError("ran"))).main(typed)
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "samnet_try: error: " in printed.err


def test_command_reads_values_of_short_options_in_every_usual_form() -> None:
    for typed in (["-d3"], ["-d", "3"], ["--epochs=3"], ["-np=3"]):
        assert command().main(typed) == 0


def test_command_help_shows_the_summary_and_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command().main(["--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    for part in (
        "usage: samnet_try",
        "Tries things out.",
        "--epochs",
        "--processes N",
        "--part-id",
        "--version",
    ):
        assert part in printed


def test_command_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command().main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"samnet {samnet.__version__}\n"


@pytest.mark.parametrize(
    ("error", "exit_code", "message"),
    [
        (UserError("a.nii: 4D; split it"), 2, "a.nii: 4D; split it"),
        (DatasetFaults("Set", ["one", "two"]), 2, "Set: 2 faults\n  1. one\n  2. two"),
        (SamnetError("a case failed"), 1, "a case failed"),
        (KeyboardInterrupt(), 130, "interrupted; the same command resumes it"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/disk/a"),
            1,
            "/disk/a: No space left on device",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/root/a"),
            1,
            "/root/a: Permission denied",
        ),
        (
            NotADirectoryError(errno.ENOTDIR, "Not a directory", f"{__file__}/.partial-1"),
            2,
            f"{__file__}: is a file, and has to be a folder; name another",
        ),
        (
            FileExistsError(errno.EEXIST, "File exists", __file__),
            2,
            f"{__file__}: is a file, and has to be a folder; name another",
        ),
    ],
)
def test_command_turns_errors_into_an_exit_code_and_a_message(
    error: BaseException, exit_code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(fail_with(error)).main([]) == exit_code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("samnet_try: error: ")
    assert message in printed.err
    assert "Traceback" not in printed.err


def test_a_stopped_prediction_names_the_option_that_resumes_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stopped = dataclasses.replace(predict.COMMAND, run=fail_with(KeyboardInterrupt()))
    assert stopped.main(["-i", "in", "-o", "out"]) == 130
    assert "resumes it with --continue" in capsys.readouterr().err


def test_verbose_shows_the_traceback_of_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(fail_with(UserError("bad"))).main(["--verbose"]) == 2
    printed = capsys.readouterr().err
    assert "samnet_try: error: bad" in printed
    assert "Traceback" in printed


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("defect"), FileNotFoundError(errno.ENOENT, "no file", "a")]
)
def test_command_does_not_hide_an_unexpected_error(error: Exception) -> None:
    with pytest.raises(type(error)):
        command(fail_with(error)).main([])


def run_python(program: str, **options: object) -> subprocess.Popen:
    text = (
        "import argparse, sys\nfrom samnet.cli.command import Command\n"
        f"def run(options):\n    {program}\n"
        "sys.exit(Command('samnet_try', 'Tries.', lambda parser: None, run).main([]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(samnet.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-c", text], env=environment, text=True, stderr=subprocess.PIPE, **options
    )


def test_command_fails_without_a_traceback_when_nobody_reads_its_output() -> None:
    process = run_python("print('x' * 100)", stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    printed = process.stderr.read()
    assert process.wait() == 1
    assert re.fullmatch(r"samnet_try: error: .*closed.*\n", printed)


def test_command_module_imports_nothing_heavy() -> None:
    heavy = "('numpy', 'torch', 'nibabel', 'SimpleITK', 'skimage', 'matplotlib')"
    process = run_python(f"sys.exit(sum(name in sys.modules for name in {heavy}))")
    _, printed = process.communicate()
    assert process.returncode == 0, printed


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("45s", 45), ("30m", 1800), ("1.5h", 5400), ("2d", 172800), ("1e3", 1000)],
)
def test_duration_in_seconds(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "0", "-5m", "30 minutes", "nan", "inf", "1:30"])
def test_duration_refuses_other_texts(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a duration; write for example"):
        duration(text)


def test_positive_float() -> None:
    assert positive_float("1e-4") == 1e-4
    for text in ("0", "-1", "nan", "inf", "much"):
        with pytest.raises(argparse.ArgumentTypeError, match="is not a number above 0"):
            positive_float(text)
