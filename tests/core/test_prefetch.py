"""Order, overlap and errors of prefetched results."""

from __future__ import annotations

import threading

import pytest

from samnet.core.prefetch import prefetch


def test_prefetch_keeps_the_order_of_the_items() -> None:
    assert list(prefetch(lambda number: number**2, range(5))) == [0, 1, 4, 9, 16]
    assert list(prefetch(str, [])) == []


def test_prefetch_computes_only_the_next_result_while_one_is_used() -> None:
    started: list[int] = []
    second_started = threading.Event()

    def work(number: int) -> int:
        started.append(number)
        if number == 1:
            second_started.set()
        return number

    results = prefetch(work, range(4))
    assert next(results) == 0
    assert second_started.wait(60)
    assert started == [0, 1]
    assert list(results) == [1, 2, 3]


def test_prefetch_raises_an_error_in_the_place_of_its_result() -> None:
    results = prefetch(lambda number: 1 // number, [1, 0, 1])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
