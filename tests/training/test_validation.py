"""The Dice over whole volumes that a training run is steered by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.tiny import TWO_CLASSES, make_case, make_configuration, thresholds

from samnet.preprocessing.storage import StoredCase
from samnet.training.distributed import Distributed
from samnet.training.validation import MAX_CASES, choose_validation_cases, validate


@pytest.fixture
def cases(tmp_path: Path) -> list[StoredCase]:
    """Return two cases, of which the second does not show class 2."""
    labels = np.zeros((2, 2, 8, 8), np.uint8)
    labels[:, :, :4] = 1
    labels[0, :, 4:6] = 2
    stored = []
    for number, label_map in enumerate(labels):
        stored.append(make_case(tmp_path, label_map[None], label_map, name=f"case_{number}"))
    return stored


def test_dice_is_the_mean_over_the_cases_that_show_a_class(
    cases: list[StoredCase], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of class 1 is found in the first case, all of it in the second."""
    network = thresholds([0.0], 4).train()
    given: list[tuple] = []
    done: list[int] = []

    def predict(networks: list, configuration: Any, volume: Any, **options: Any) -> np.ndarray:
        given.append((networks[0].training, options["mirror"], options["label_scheme"]))
        prediction = volume.array[0].astype(np.uint8)
        if len(given) == 1:
            prediction[:, 2:4] = 0
        return prediction

    monkeypatch.setattr("samnet.training.validation.predict_volume", predict)
    configuration = make_configuration(mirror_at_prediction=True)
    validation = validate(
        network, configuration, cases, TWO_CLASSES, after_case=lambda: done.append(len(given))
    )
    assert validation == pytest.approx([(2 / 3 + 1) / 2, 1.0])
    # Mirrored copies would take several times as long.
    assert given == [(False, False, TWO_CLASSES)] * 2
    assert done == [1, 2]
    assert network.training
    only_second = validate(network, configuration, cases[1:], TWO_CLASSES)
    assert only_second == pytest.approx([1.0, np.nan], nan_ok=True)


def test_process_predicts_its_share_and_gets_the_dice_of_all(
    cases: list[StoredCase], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process has predicted the first case, and found nothing in it."""

    class Second(Distributed):
        def gather(self, value: Any) -> list[Any]:
            return [{0: np.zeros(2)}, value]

    predicted: list[str] = []

    def predict(networks: list, configuration: Any, volume: Any, **options: Any) -> np.ndarray:
        predicted.append("case")
        return volume.array[0].astype(np.uint8)

    monkeypatch.setattr("samnet.training.validation.predict_volume", predict)
    network, second = thresholds([0.0], 4), Second(rank=1, world_size=2)
    validation = validate(network, make_configuration(), cases, TWO_CLASSES, second)
    assert validation == pytest.approx([0.5, 0.0])
    assert predicted == ["case"]


def test_validation_cases_are_chosen_evenly(cases: list[StoredCase]) -> None:
    many = []
    for number in reversed(range(2 * MAX_CASES - 1)):
        record = replace(cases[0].record, identifier=f"case_{number:02d}")
        many.append(StoredCase(cases[0].folder, record))
    chosen = [case.identifier for case in choose_validation_cases(many)]
    assert chosen == [f"case_{number:02d}" for number in range(0, 2 * MAX_CASES, 2)]
    few = choose_validation_cases(many[:MAX_CASES])
    assert [case.identifier for case in few] == sorted(case.identifier for case in many[:MAX_CASES])
