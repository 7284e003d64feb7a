"""Stop signals: raised at once, held back, or ignored."""

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
def test_ended_by_signals_raises_at_the_first_signal_and_ignores_later_ones(
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


def test_interrupted_is_not_caught_as_the_failure_of_a_case() -> None:
    with ended_by_signals(), pytest.raises(Interrupted), contextlib.suppress(Exception):
        send(signal.SIGTERM)


def test_held_signals_are_raised_at_the_next_safe_point() -> None:
    signals = StopSignals()
    with signals.held():
        send(signal.SIGUSR1)
        assert signals.number == signal.SIGUSR1
        with pytest.raises(Interrupted), signals.at_once():
            pytest.fail("was raised at the beginning")
        send(signal.SIGTERM)
        with pytest.raises(Interrupted):
            signals.check()


def test_signals_within_at_once_are_raised_immediately() -> None:
    signals = StopSignals()
    with signals.held():
        with pytest.raises(Interrupted), signals.at_once():
            send(signal.SIGTERM)
        send(signal.SIGTERM)  # after the block signals are held back again


def test_second_ctrl_c_is_raised_immediately() -> None:
    signals = StopSignals()
    with signals.held():
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_signal_handlers_stay_unchanged_in_other_threads() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with ended_by_signals(), StopSignals().held():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_ignore_signals_ignores_signals_until_the_end_of_the_block() -> None:
    with ended_by_signals():
        ignore_signals()
        send(signal.SIGTERM)
