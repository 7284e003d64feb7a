"""Standard streams that are missing, closed, or unable to show a letter."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

import samnet
from samnet.core.progress import ProgressBar
from samnet.core.streams import CosmeticStream, prepare_standard_streams

LIVER = "\u809d\u81d3"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(samnet.__file__).parents[1])}
COMMAND = (
    "import argparse, logging, sys, os\n"
    "from samnet.cli.command import Command\n"
    "def run(options):\n    {}\n"
    "sys.exit(Command('samnet_try', 'Tries.', lambda parser: None, run).main([]))\n"
)


class ClosedStream(io.StringIO):
    """A stream as a terminal that was closed leaves it."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def run_command(tmp_path: Path, work: str, redirection: str = "", **environment: str) -> str:
    """Run a command of samnet that does `work`; return what it writes into `done.txt`."""
    script, done = tmp_path / "command.py", tmp_path / "done.txt"
    script.write_text(COMMAND.format(work.replace("DONE", repr(str(done)))), encoding="utf-8")
    shell = f"'{sys.executable}' '{script}' {redirection}"
    finished = subprocess.run(
        shell,
        shell=True,
        env=ENVIRONMENT | environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return done.read_text(encoding="utf-8") if done.exists() else finished.stdout


@pytest.mark.skipif(os.name != "posix", reason="needs a shell that closes descriptors")
@pytest.mark.parametrize("redirection", ["2>&-", ">&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_command_works_without_standard_streams(tmp_path: Path, redirection: str) -> None:
    work = (
        "print('result'); logging.getLogger('samnet').warning('a line'); "
        "print('an error', file=sys.stderr); open(DONE, 'w').write('done')"
    )
    if "full" in redirection:  # the line on standard error fails by itself there
        work = work.replace("print('an error', file=sys.stderr); ", "")
    assert run_command(tmp_path, work, redirection) == "done"


@pytest.mark.skipif(os.name != "posix", reason="needs a shell that closes descriptors")
def test_text_of_libraries_does_not_end_up_in_a_file_where_a_descriptor_is_closed(
    tmp_path: Path,
) -> None:
    work = (
        "file = open(DONE, 'w'); [os.write(number, b'from C') for number in (1, 2)]; "
        "os.system('echo from a worker; echo from a worker >&2'); file.write('data')"
    )
    assert run_command(tmp_path, work, ">&- 2>&-") == "data"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "ascii:surrogateescape"])
def test_letters_that_the_output_cannot_show_are_shown_as_numbers(
    tmp_path: Path, encoding: str
) -> None:
    work = r"print('\u809d'); print('\udcff'); print('\u809d', file=sys.stderr)"
    assert run_command(tmp_path, work, PYTHONIOENCODING=encoding) == "\\u809d\n\\udcff\n"


def test_handling_of_letters_that_the_user_chose_stays(tmp_path: Path) -> None:
    work = r"print('\u809d')"
    assert run_command(tmp_path, work, PYTHONIOENCODING="ascii:replace") == "?\n"


def test_closed_streams_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    monkeypatch.setattr(sys, "stderr", None)
    prepare_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        assert stream.write(LIVER) == len(LIVER)
        stream.close()


@pytest.mark.parametrize("stream", [None, ClosedStream(), io.TextIOWrapper(io.BytesIO(), "ascii")])
def test_progress_bar_never_ends_the_work(
    stream: io.TextIOBase | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a program that uses samnet as a library, where no command prepares the streams."""
    monkeypatch.setattr(sys, "stderr", stream)
    with ProgressBar(range(3), desc=LIVER, mininterval=0) as bar:
        assert list(bar) == [0, 1, 2]
        bar.set_postfix_str(LIVER)


def test_progress_bar_on_a_stream_that_is_closed_halfway(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    bar = ProgressBar(range(3), mininterval=0)
    stream.close()
    assert list(bar) == [0, 1, 2]


def test_cosmetic_stream_shows_what_it_can() -> None:
    shown = io.BytesIO()
    stream = CosmeticStream(io.TextIOWrapper(shown, "ascii"))
    stream.write("liver \u809d")
    stream.flush()
    assert shown.getvalue() == b"liver \\u809d"
    assert not stream.isatty()
