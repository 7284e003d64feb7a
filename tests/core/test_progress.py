"""Tests of progress: one line, one estimate, and a log file that does not fill up."""

from __future__ import annotations

import io
import logging
import sys
import time
from collections.abc import Callable

import pytest

from samnet.core import progress, progress_line
from samnet.core.progress import CommandBar, ProgressBar
from samnet.core.progress_line import HandlerAboveBars

ReadLog = Callable[[], str]


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture
def read_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[], str]:
    """Return a reader of the standard error of a job, where every change is shown."""
    monkeypatch.setattr(progress_line, "LINE_SECONDS", 0.0)
    monkeypatch.setattr(progress_line, "LINE_SHARE", 0.0)
    monkeypatch.setattr(progress, "PART_SECONDS", 0.0)
    return lambda: capsys.readouterr().err


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time, for a test to set."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_log_file_gets_few_lines_and_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand items within half a minute are one line, the last."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    assert len(list(ProgressBar(range(1000), desc="reading", unit="case"))) == 1000
    [line] = stream.getvalue().splitlines()
    assert line.startswith("reading: 100%, 1000/1000, ")
    assert "\r" not in stream.getvalue()


def test_terminal_gets_one_line_that_is_redrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with CommandBar("lora"):
        for stage in ("training", "predicting"):
            list(ProgressBar(range(3), desc=stage))
    assert stream.getvalue().count("\n") == 1
    assert "100%|" in stream.getvalue()


def test_bar_within_a_bar_is_shown_in_its_line(read_log: ReadLog) -> None:
    with ProgressBar(total=2, desc="predicting", unit="case") as cases:
        for _ in range(2):
            list(ProgressBar(range(4), desc="slice", is_part=True, only_within=True))
            cases.update()
    lines = read_log().splitlines()
    assert {line.split(":")[0] for line in lines} == {"predicting"}
    [half] = [line for line in lines if "0/2" in line and line.endswith("slice 2/4")]
    assert half.startswith("predicting: 25%")
    assert "100%, 2/2" in lines[-1]


def test_short_items_show_no_parts(read_log: ReadLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PART_SECONDS", 60.0)
    with ProgressBar(total=1, desc="predicting"):
        list(ProgressBar(range(4), desc="slice", is_part=True, only_within=True))
    assert "slice" not in read_log()


def test_parts_alone_show_nothing(read_log: ReadLog) -> None:
    list(ProgressBar(range(4), desc="slice", is_part=True, only_within=True))
    assert read_log() == ""


def test_command_has_one_estimate_over_all_stages(clock: list[float]) -> None:
    """Training takes 100 s as it knows itself, prediction 50 s as expected, then by its speed."""
    with CommandBar("lora") as command:
        command.begin_round(rounds_left=0)
        assert command.remaining() is None
        command.expect("predicting", 50.0)
        with ProgressBar(total=1000, desc="training") as training:
            training.seconds_left = 100.0
            training.update()
            assert command.remaining() == 150.0
            with ProgressBar(total=4, desc="validating", only_within=True) as validating:
                validating.update()
                assert command.remaining() == 150.0
        assert command.remaining() == 50.0
        with ProgressBar(total=10, desc="predicting") as predicting:
            clock[0] = 20.0
            predicting.update(2)
            assert command.remaining() == 80.0


def test_estimate_of_a_command_ends_with_its_limit_and_counts_all_folds(
    clock: list[float],
) -> None:
    with CommandBar("lora") as command:
        command.begin_round(rounds_left=4)
        command.end_round_at(90.0)
        command.expect("training", 500.0)
        clock[0] = 30.0
        assert command.remaining() == 60.0 + 4 * 90.0


def test_parts_that_are_timed_before_the_first_stage_are_no_stage() -> None:
    with CommandBar("lora") as command:
        list(ProgressBar(range(4), desc="slice", is_part=True, only_within=True))
        assert command.remaining() is None


def test_work_that_fails_is_not_shown_as_done(read_log: ReadLog) -> None:
    def work() -> None:
        with CommandBar("lora"), ProgressBar(total=2, desc="training") as bar:
            bar.seconds_left = 3600.0
            bar.update()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        work()
    lines = read_log().splitlines()
    assert lines[-1].startswith("lora: 0%, ")
    assert all("100%" not in line for line in lines)


def test_bars_of_an_ended_command_are_whole_again(read_log: ReadLog) -> None:
    with CommandBar("lora", disable=True):
        list(ProgressBar(range(3), desc="hidden"))
    assert read_log() == ""
    list(ProgressBar(range(3), desc="shown"))
    assert "shown: 100%" in read_log()


def test_log_line_is_written_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar is removed first: the log line begins at the left and nothing is left of the bar."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    handler = HandlerAboveBars(stream)
    with ProgressBar(total=2, desc="predicting") as bar:
        handler.emit(logging.makeLogRecord({"msg": "a message"}))
        bar.update()
    before, after = stream.getvalue().split("a message\n")
    assert before.endswith("\r")
    assert "predicting" in after
