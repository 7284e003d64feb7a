"""Training runs that are stopped, and resumed to the same weights."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from builders.runs import after_step, in_validation, read_rows, send_signal

from samnet.core.errors import UserError
from samnet.core.signals import Interrupted
from samnet.models.model_folder import BEST, FINAL, LAST, PREVIOUS, RunFolder
from samnet.training.checkpoint import read_progress
from samnet.training.loop import Trainer

MakeTrainer = Callable[..., Trainer]


def stopped_after(make_trainer: MakeTrainer, step: int) -> Trainer:
    """Return a trainer that was stopped by SIGTERM after a step."""
    stop = partial(send_signal, signal.SIGTERM)
    trainer = make_trainer(hooks={"on_step": after_step(step, stop)})
    with pytest.raises(Interrupted):
        trainer.run()
    return trainer


def checkpoint_bytes(trainer: Trainer, kind: str) -> bytes:
    return trainer.folder.checkpoint(kind).read_bytes()


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("step 3", signal.SIGTERM),
        ("step 3", signal.SIGUSR1),
        ("step 3", signal.SIGINT),
        ("last step of an epoch", signal.SIGTERM),
        ("first validation", signal.SIGTERM),
        ("last validation", signal.SIGINT),
    ],
)
def test_stopped_run_resumes_to_the_same_weights(
    make_trainer: MakeTrainer, moment: str, number: signal.Signals
) -> None:
    undisturbed = make_trainer("undisturbed")
    undisturbed.run()
    handlers = signal.getsignal(number)
    stop = partial(send_signal, number)
    stopped = make_trainer()
    if moment == "step 3":
        stopped.on_step = after_step(3, stop)
    elif moment == "last step of an epoch":
        stopped.on_step = after_step(4, stop)
    else:
        in_validation(stopped, 1 if moment == "first validation" else 3, stop)

    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else Interrupted):
        stopped.run()
    assert signal.getsignal(number) == handlers
    assert not stopped.folder.is_finished
    assert read_progress(stopped.folder.checkpoint(LAST)).step == stopped.progress.step > 0

    resumed = make_trainer()
    resumed.run()
    for kind in (FINAL, BEST):
        assert checkpoint_bytes(resumed, kind) == checkpoint_bytes(undisturbed, kind)
    curves = []
    for trainer in (resumed, undisturbed):
        rows = read_rows(trainer.folder)
        curves.append([(row["step"], row["loss"], row["dice"]) for row in rows])
    assert curves[0] == curves[1]


@pytest.mark.parametrize(
    "values",
    [{"optimizer": "sgd"}, {"schedule": "plateau_by_pass", "slice_order": "passes"}],
    ids=["sgd", "passes"],
)
def test_stopped_run_of_other_values_resumes_to_the_same_weights(
    make_trainer: MakeTrainer, values: dict[str, str]
) -> None:
    undisturbed = make_trainer("undisturbed", **values)
    undisturbed.run()
    stop = partial(send_signal, signal.SIGTERM)
    stopped = make_trainer(**values, hooks={"on_step": after_step(3, stop)})
    with pytest.raises(Interrupted):
        stopped.run()
    resumed = make_trainer(**values)
    assert resumed.progress.step == 3
    resumed.run()
    assert checkpoint_bytes(resumed, FINAL) == checkpoint_bytes(undisturbed, FINAL)


def test_second_ctrl_c_ends_training_at_once(make_trainer: MakeTrainer) -> None:
    def press_twice() -> None:
        send_signal(signal.SIGINT)
        send_signal(signal.SIGINT)
        pytest.fail("the training continued")

    trainer = make_trainer(hooks={"on_step": after_step(2, press_twice)})
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert not trainer.folder.checkpoint(LAST).exists()


def test_rows_of_a_lost_epoch_are_dropped(make_trainer: MakeTrainer) -> None:
    """A run may be killed between its row and its checkpoint, or in the middle of a row."""
    stopped = stopped_after(make_trainer, 4)
    lost_row = {**read_rows(stopped.folder)[0], "epoch": 2, "loss": 99}
    with stopped.folder.metrics_file.open("a") as handle:
        handle.write(json.dumps(lost_row) + '\n{"epoch": 3, "st')
    resumed = make_trainer()
    assert [row["epoch"] for row in read_rows(resumed.folder)] == [1]
    resumed.run()
    rows = read_rows(resumed.folder)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert max(row["loss"] for row in rows) < 99


def test_checkpoint_of_another_network_is_refused(make_trainer: MakeTrainer) -> None:
    make_trainer(steps=1).run()
    with pytest.raises(UserError, match=r"checkpoint_last\.safetensors: does not fit"):
        make_trainer(head="mask_decoder")


def test_damaged_checkpoint_falls_back_to_the_one_before(
    make_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    undisturbed = make_trainer("undisturbed")
    undisturbed.run()
    last = stopped_after(make_trainer, 5).folder.checkpoint(LAST)
    os.truncate(last, last.stat().st_size - 100)
    resumed = make_trainer()
    assert resumed.progress.step == 4
    assert f"{last} is damaged: resuming from the one before it" in caplog.text
    resumed.run()
    assert checkpoint_bytes(resumed, FINAL) == checkpoint_bytes(undisturbed, FINAL)
    assert not resumed.folder.checkpoint(PREVIOUS).exists()


def test_training_does_not_begin_over_damaged_checkpoints(make_trainer: MakeTrainer) -> None:
    stopped = stopped_after(make_trainer, 5)
    for kind in (LAST, PREVIOUS):
        stopped.folder.checkpoint(kind).write_bytes(b"cut short")
    message = r"checkpoint_last\.safetensors: cannot be read .*--restart"
    with pytest.raises(UserError, match=message):
        make_trainer()


class SignallingFolder(RunFolder):
    """A folder of a run that sends a signal when the final weights are about to be written."""

    def checkpoint(self, kind: str) -> Path:
        if kind == FINAL:
            send_signal(signal.SIGUSR1)
        return super().checkpoint(kind)


def test_signal_after_the_last_step_ends_what_would_follow(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    folder = SignallingFolder(tmp_path / "run")
    trainer = make_trainer(held_out=False, folder=folder)
    with pytest.raises(Interrupted, match="the training is finished"):
        trainer.run()
    assert RunFolder(folder.path).is_finished


def test_signal_ends_a_long_case_of_the_validation_at_once(make_trainer: MakeTrainer) -> None:
    def hang() -> None:
        send_signal(signal.SIGTERM)
        time.sleep(60)

    trainer, started = make_trainer(), time.monotonic()
    in_validation(trainer, 1, hang)
    with pytest.raises(Interrupted, match="state saved at step 2"):
        trainer.run()
    assert time.monotonic() - started < 30
    assert read_progress(trainer.folder.checkpoint(LAST)).step == 2
