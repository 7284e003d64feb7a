"""Tests of how a time limit is shared between training, validation and final prediction."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from builders.tiny import TWO_CLASSES

from samnet.models.model_folder import FINAL
from samnet.models.network import load_weights
from samnet.preprocessing.storage import StoredCase
from samnet.training import time_limit
from samnet.training.distributed import SINGLE_PROCESS
from samnet.training.loop import Trainer
from samnet.training.time_limit import TimeLimit

MakeTrainer = Callable[..., Trainer]


@pytest.mark.parametrize(
    ("times", "done", "expected"),
    [
        ({"max_seconds": None}, 0.0, None),
        ({"max_seconds": 90.0}, 0.0, 90.0),
        ({"prediction_seconds": 20.0, "validation_seconds": 9.0}, 0.0, 61.0),
        ({"prediction_seconds": 20.0, "validation_seconds": 9.1}, 0.0, 70.0),
        ({"prediction_seconds": 20.0}, 50.0, 70.0),
        ({"prediction_seconds": 1000.0}, 0.0, 45.0),
        ({"ends_at": 1030.0}, 0.0, 30.0),
        ({"ends_at": 1030.0, "prediction_seconds": 10.0}, 15.0, 35.0),
        ({"ends_at": 1090.0, "prediction_seconds": 10.0}, 50.0, 80.0),
        ({"ends_at": 900.0}, 0.0, time_limit.MIN_SECONDS),
    ],
)
def test_training_leaves_time_for_what_follows(
    make_trainer: MakeTrainer,
    monkeypatch: pytest.MonkeyPatch,
    times: dict[str, Any],
    done: float,
    expected: float | None,
) -> None:
    task = replace(make_trainer().task, **({"max_seconds": 90.0} | times))
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    seconds = TimeLimit(task, done, SINGLE_PROCESS).max_seconds
    assert seconds == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("seconds", "has_time"), [(4.0, True), (20.0, True), (40.0, False)], ids=str
)
def test_validation_is_left_out_where_it_does_not_fit(
    make_trainer: MakeTrainer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    seconds: float,
    has_time: bool,
) -> None:
    times = {"max_seconds": 1000.0, "ends_at": 1030.0, "validation_seconds": seconds}
    task = replace(make_trainer().task, **times)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    limit = TimeLimit(task, 970.0, SINGLE_PROCESS)
    both = [limit.has_time_to_validate(970.0, True), limit.has_time_to_validate(970.0, True)]
    assert both == [has_time, has_time]
    assert caplog.text.count("no time for a validation") == (0 if has_time else 1)


@pytest.mark.parametrize("held_out", [True, False])
def test_missing_validation_chooses_no_weights_only_where_cases_are_held_out(
    make_trainer: MakeTrainer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    held_out: bool,
) -> None:
    times = {"max_seconds": 1000.0, "ends_at": 1030.0, "validation_seconds": 40.0}
    task = replace(make_trainer().task, held_out=held_out, **times)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    assert not TimeLimit(task, 970.0, SINGLE_PROCESS).has_time_to_validate(970.0, True)
    assert ("the weights are those of the last step" in caplog.text) == held_out


def test_validation_corrects_what_is_expected_of_the_prediction(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few slices are timed in a busy moment: 60 s and 90 s were expected, a tenth is needed."""
    times = {"ends_at": 1200.0, "validation_seconds": 60.0, "prediction_seconds": 90.0}
    task = replace(make_trainer().task, max_seconds=200.0, **times)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    limit = TimeLimit(task, 0.0, SINGLE_PROCESS, validated_seconds=1.0)
    assert limit.max_seconds == pytest.approx(100.0)
    monkeypatch.setattr(time, "monotonic", lambda: 1050.0)
    limit.learn_from_validation(6.0 / time_limit.MARGIN, done=50.0)
    assert limit.max_seconds == pytest.approx(200.0 - 6.0 - 9.0)


@pytest.mark.parametrize(
    ("validated", "done", "is_last", "has_time"),
    [
        (0.0, 99.0, False, False),
        (0.0, 101.0, False, True),
        (0.0, 99.0, True, False),
        (10.0, 199.0, False, False),
        (10.0, 199.0, True, True),
        (10.0, 201.0, False, True),
    ],
)
def test_validations_of_a_limited_training_take_a_tenth_of_the_time(
    make_trainer: MakeTrainer, validated: float, done: float, is_last: bool, has_time: bool
) -> None:
    """Each takes 10 s. The last one chooses between its weights and earlier ones."""
    task = replace(make_trainer().task, max_seconds=1000.0, validation_seconds=10.0)
    limit = TimeLimit(task, 0.0, SINGLE_PROCESS, validated_seconds=validated)
    assert limit.has_time_to_validate(done, is_last) == has_time
    unlimited = TimeLimit(replace(task, max_seconds=None), 0.0, SINGLE_PROCESS)
    assert unlimited.has_time_to_validate(done, is_last)


def test_short_limited_training_ends_with_its_last_weights(
    make_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    """Its validations would take too long, and a resumed one knows those that took place."""
    calls = []

    def validator(*args: Any, **options: Any) -> np.ndarray:
        calls.append(1)
        return np.array([0.5, 0.5])

    trainer = make_trainer(
        steps=4,
        steps_per_epoch=2,
        max_seconds=1000.0,
        times={"validation_seconds": 50.0},
        hooks={"validator": validator},
    )
    with caplog.at_level("INFO"):
        trainer.run()
    assert calls == []
    assert caplog.text.count("validations are left out") == 1
    assert [row["mean_dice"] for row in trainer.history.rows] == [None, None]
    final = load_weights(trainer.folder.checkpoint(FINAL))
    assert all(torch.equal(final[name], value) for name, value in trainer.network.adapter().items())


def test_training_ends_in_time_without_a_validation_that_does_not_fit(
    make_trainer: MakeTrainer,
) -> None:
    def validator(*args: Any, **options: Any) -> np.ndarray:
        raise AssertionError("there was no time for this")

    times = {"ends_at": time.monotonic() + 1, "validation_seconds": 60.0}
    hooks = {"validator": validator}
    trainer = make_trainer(steps=100_000, max_seconds=1.0, times=times, hooks=hooks)
    trainer.run()
    assert trainer.folder.is_finished
    assert trainer.history.rows[-1]["mean_dice"] is None


def test_prediction_is_estimated_from_a_few_slices(
    make_trainer: MakeTrainer, case: StoredCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prediction that takes a second for each slice takes as many seconds as there are slices."""
    trainer, clock = make_trainer(), [0.0]
    axis = trainer.task.configuration.slicing_axis

    def predict(networks: Any, configuration: Any, volume: Any, **options: Any) -> None:
        clock[0] += volume.array.shape[axis + 1] * (2 if options["mirror"] else 1)

    monkeypatch.setattr(time_limit, "predict_volume", predict)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    configuration = replace(trainer.task.configuration, mirror_at_prediction=True, views=(axis,))
    scored = [case] * 20
    validation, final = time_limit.estimate_prediction(
        trainer.network, configuration, scored, scored, TWO_CLASSES, 1
    )
    slices = case.num_slices(axis)
    assert validation == pytest.approx(12 * slices * time_limit.MARGIN)
    assert final == pytest.approx(20 * slices * 2 * time_limit.MARGIN)
    assert trainer.network.training
    nothing = time_limit.estimate_prediction(trainer.network, configuration, [], [], TWO_CLASSES, 1)
    assert nothing == (0.0, 0.0)
    on_training_cases = time_limit.estimate_prediction(
        trainer.network, configuration, scored, [], TWO_CLASSES, 1
    )
    assert on_training_cases == (pytest.approx(validation), 0.0)


def test_estimate_counts_every_view_and_shares_the_cases(
    make_trainer: MakeTrainer, case: StoredCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, clock = make_trainer(), [0.0]

    def predict(networks: Any, configuration: Any, volume: Any, **options: Any) -> None:
        [axis] = configuration.views
        clock[0] += volume.array.shape[axis + 1]

    monkeypatch.setattr(time_limit, "predict_volume", predict)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    configuration = replace(trainer.task.configuration, views=(0, 1, 2))
    for processes in (1, 2):
        validation, final = time_limit.estimate_prediction(
            trainer.network, configuration, [case] * 3, [case], TWO_CLASSES, processes
        )
        slices = sum(case.record.shape)
        assert validation == pytest.approx(3 * slices * time_limit.MARGIN / processes)
        assert final == pytest.approx(slices * time_limit.MARGIN / processes)


def test_estimate_changes_no_weight(make_trainer: MakeTrainer, case: StoredCase) -> None:
    trainer = make_trainer()
    before = {name: value.clone() for name, value in trainer.network.adapter().items()}
    estimated = time_limit.estimate_prediction(
        trainer.network, trainer.task.configuration, [case], [case], TWO_CLASSES, 1
    )
    assert min(estimated) > 0
    after = trainer.network.adapter()
    assert all(torch.equal(before[name], after[name]) for name in before)
