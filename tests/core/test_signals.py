from __future__ import annotations

import contextlib
import os
import signal
import threading

import pytest

from samnet.core.signals import (
    STOP_SIGNALS,
    Interrupted,
    StopSignals,
    ended_by_signals,
    ignore_signals,
)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_command_ends_at_the_first_signal_and_is_left_in_peace_by_the_next(
    number: signal.Signals,
) -> None:
    before = signal.getsignal(number)
    with ended_by_signals():
        with pytest.raises(
            Interrupted, match=f"stopped by {number.name}; finished files are kept"
        ) as caught:
            send(number)
        send(number)
    assert caught.value.number == number
    assert signal.getsignal(number) == before


def test_nobody_takes_it_for_the_failure_of_a_case() -> None:
    with ended_by_signals(), pytest.raises(Interrupted), contextlib.suppress(Exception):
        send(signal.SIGTERM)


def test_signals_are_held_back_and_then_raised_where_it_does_no_harm() -> None:
    signals = StopSignals()
    with signals.held():
        send(signal.SIGUSR1)
        assert signals.number == signal.SIGUSR1
        with pytest.raises(Interrupted), signals.at_once():
            pytest.fail("was raised at the beginning")
        send(signal.SIGTERM)
        with pytest.raises(Interrupted):
            signals.check()


def test_at_once_means_where_it_comes() -> None:
    signals = StopSignals()
    with signals.held():
        with pytest.raises(Interrupted), signals.at_once():
            send(signal.SIGTERM)
        send(signal.SIGTERM)  # held back again


def test_only_the_second_ctrl_c_tears_apart() -> None:
    signals = StopSignals()
    with signals.held():
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_other_threads_leave_signals_alone() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with ended_by_signals(), StopSignals().held():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_deaf_until_the_end() -> None:
    with ended_by_signals():
        ignore_signals()
        send(signal.SIGTERM)
