from __future__ import annotations

import threading

import pytest

from samnet.core.prefetch import prefetch


def test_results_come_in_the_order_of_the_items() -> None:
    assert list(prefetch(lambda number: number**2, range(5))) == [0, 1, 4, 9, 16]
    assert list(prefetch(str, [])) == []


def test_the_next_result_is_at_work_while_one_is_used_and_no_other() -> None:
    begun: list[int] = []
    second_began = threading.Event()

    def work(number: int) -> int:
        begun.append(number)
        if number == 1:
            second_began.set()
        return number

    results = prefetch(work, range(4))
    assert next(results) == 0
    assert second_began.wait(60)
    assert begun == [0, 1]
    assert list(results) == [1, 2, 3]


def test_an_error_is_raised_in_its_place() -> None:
    results = prefetch(lambda number: 1 // number, [1, 0, 1])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
