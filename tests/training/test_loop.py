from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.tiny import make_case, make_configuration

from samnet.core.errors import SamnetError, UserError
from samnet.core.signals import Interrupted
from samnet.models.network import build_network, load_weights
from samnet.preprocessing.storage import StoredCase
from samnet.training import loop, validation
from samnet.training.checkpoint import BEST, FINAL, LAST, PREVIOUS, read_progress
from samnet.training.loop import Trainer
from samnet.training.sampling import SliceSamples
from samnet.training.task import TrainingTask


@pytest.fixture
def case(tmp_path: Path) -> StoredCase:
    labels = np.zeros((4, 24, 20), dtype=np.uint8)
    labels[:, 4:14, 4:10] = 1
    labels[:, 10:20, 12:18] = 2
    image = (
        (30 + 100 * labels + np.random.default_rng(0).normal(0, 5, labels.shape))
        .clip(1, 255)
        .astype(np.uint8)
    )
    return make_case(tmp_path / "prepared", image[None], labels)


@pytest.fixture
def make_trainer(tmp_path: Path, case: StoredCase) -> Callable[..., Trainer]:
    """A trainer of a new network; in the same folder it is the next sitting of one training."""

    def make(
        name: str = "run",
        *,
        held_out: bool = True,
        max_seconds: float | None = None,
        workers: int = 0,
        **changes: Any,
    ) -> Trainer:
        configuration = make_configuration(**changes)
        task = TrainingTask(
            configuration, ("one", "two"), None, [case], [case], held_out, 3, max_seconds, workers
        )
        torch.manual_seed(task.seed)
        return Trainer(
            build_network(configuration, 1, 3), task, tmp_path / name, torch.device("cpu")
        )

    return make


def rows(trainer: Trainer) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in (trainer.folder / "metrics.jsonl").read_text().splitlines()
    ]


def final_bytes(trainer: Trainer) -> bytes:
    return (trainer.folder / FINAL).read_bytes()


def at_step(monkeypatch: pytest.MonkeyPatch, number: int, action: Callable[[], None]) -> None:
    """Do something within the step of this number, counted from 0, once."""
    plain_step = Trainer._step

    def step(self: Trainer, images: torch.Tensor, target: torch.Tensor) -> float:
        loss = plain_step(self, images, target)
        if self.progress.step == number:
            monkeypatch.setattr(Trainer, "_step", plain_step)
            action()
        return loss

    monkeypatch.setattr(Trainer, "_step", step)


def in_validation(monkeypatch: pytest.MonkeyPatch, number: int, action: Callable[[], None]) -> None:
    """Do something within the validation of this number, counted from 1, once."""
    plain, calls = validation.predict_volume, []

    def predict(*arguments: Any, **options: Any) -> np.ndarray:
        calls.append(None)
        if len(calls) == number:
            action()
        return plain(*arguments, **options)

    monkeypatch.setattr(validation, "predict_volume", predict)


def fix_dice(monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
    """Let the validations give these mean Dice values, then the last one for ever."""
    left = list(values)
    monkeypatch.setattr(
        loop, "validate", lambda *_, **__: np.full(2, left.pop(0) if len(left) > 1 else left[0])
    )


def test_it_learns(make_trainer: Callable[..., Trainer]) -> None:
    trainer = make_trainer(steps=45, steps_per_epoch=15, augmentation="none", learning_rate=3e-3)
    trainer.run()
    losses, dice = ([row[key] for row in rows(trainer)] for key in ("loss", "mean_dice"))
    assert losses[2] < 0.5 * losses[0]
    assert dice[2] > 0.7


def test_what_it_leaves(make_trainer: Callable[..., Trainer]) -> None:
    trainer = make_trainer(steps=5, steps_per_epoch=2)
    trainer.run()
    assert [(row["epoch"], row["step"]) for row in rows(trainer)] == [(1, 2), (2, 4), (3, 5)]
    for row in rows(trainer):
        assert set(row["dice"]) == {"one", "two"}
        assert row["validated_on"] == "held-out cases"
        assert math.isfinite(row["loss"])
    assert (trainer.folder / "progress.png").read_bytes().startswith(b"\x89PNG")
    assert {file.name for file in trainer.folder.iterdir()} == {
        FINAL,
        BEST,
        LAST,
        "metrics.jsonl",
        "progress.png",
    }


@pytest.mark.parametrize("slow", ["samples", "steps"])
def test_the_share_of_waiting_is_recorded(
    slow: str, make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(steps=2, steps_per_epoch=1)
    owner, name = (SliceSamples, "__getitem__") if slow == "samples" else (Trainer, "_step")
    original = getattr(owner, name)

    def slowed(*arguments: Any) -> Any:
        time.sleep(0.5)
        return original(*arguments)

    monkeypatch.setattr(owner, name, slowed)
    trainer.run()
    for row in rows(trainer):
        assert row["waiting_share"] > 0.5 if slow == "samples" else 0 < row["waiting_share"] < 0.5


@pytest.mark.parametrize(("share", "shown"), [(0.34, True), (0.05, False)])
def test_long_waiting_is_shown_beside_the_loss(
    make_trainer: Callable[..., Trainer], share: float, shown: bool
) -> None:
    trainer = make_trainer()
    trainer.history.rows.append({"mean_dice": None, "waiting_share": share})
    assert ("waiting for samples 34%" in trainer._postfix(0.5)) == shown


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("step 2", signal.SIGTERM),
        ("step 2", signal.SIGUSR1),
        ("step 2", signal.SIGINT),
        ("last step of an epoch", signal.SIGTERM),
        ("validation", signal.SIGTERM),
        ("last validation", signal.SIGINT),
    ],
)
def test_a_stopped_run_goes_on_to_the_same_weights(
    make_trainer: Callable[..., Trainer],
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    number: signal.Signals,
) -> None:
    undisturbed = make_trainer("undisturbed")
    undisturbed.run()
    handlers = signal.getsignal(number)

    def send_signal() -> None:
        os.kill(os.getpid(), number)

    if "validation" in moment:
        in_validation(monkeypatch, 3 if moment.startswith("last") else 1, send_signal)
    else:
        at_step(monkeypatch, {"step 2": 2, "last step of an epoch": 3}[moment], send_signal)
    stopped = make_trainer()
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else Interrupted):
        stopped.run()
    assert signal.getsignal(number) == handlers
    assert not (stopped.folder / FINAL).exists()
    assert read_progress(stopped.folder / LAST).step == stopped.progress.step > 0

    resumed = make_trainer()
    resumed.run()
    assert final_bytes(resumed) == final_bytes(undisturbed)
    assert (resumed.folder / BEST).read_bytes() == (undisturbed.folder / BEST).read_bytes()
    curve = [
        [(row["step"], row["loss"], row["dice"]) for row in rows(trainer)]
        for trainer in (resumed, undisturbed)
    ]
    assert curve[0] == curve[1]


def test_a_second_ctrl_c_does_not_wait(
    make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def press_twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("went on")

    at_step(monkeypatch, 1, press_twice)
    trainer = make_trainer()
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert not (trainer.folder / LAST).exists()


def test_it_also_trains_in_a_thread(make_trainer: Callable[..., Trainer]) -> None:
    """As in a notebook's or a server's, where Python lets nobody handle signals."""
    trainer = make_trainer(steps=2)
    thread = threading.Thread(target=trainer.run)
    thread.start()
    thread.join()
    assert (trainer.folder / FINAL).is_file()


def test_rows_of_a_lost_epoch_are_dropped(
    make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run killed between its row and its checkpoint, the row of the next epoch cut short."""
    at_step(monkeypatch, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    stopped = make_trainer()
    with pytest.raises(Interrupted):
        stopped.run()
    with (stopped.folder / "metrics.jsonl").open("a") as handle:
        handle.write(
            json.dumps({**rows(stopped)[0], "epoch": 2, "loss": 99}) + '\n{"epoch": 3, "st'
        )
    resumed = make_trainer()
    assert [row["epoch"] for row in rows(resumed)] == [1]
    resumed.run()
    assert [row["epoch"] for row in rows(resumed)] == [1, 2, 3]
    assert max(row["loss"] for row in rows(resumed)) < 99


def test_early_stop_takes_the_best_weights_and_leaves_no_process(
    make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    fix_dice(monkeypatch, 0.3, 0.6, 0.5)
    trainer = make_trainer(steps=1000, patience=2, workers=1)
    trainer.run()
    assert multiprocessing.active_children() == []
    assert [row["mean_dice"] for row in rows(trainer)] == [0.3, 0.6, 0.5, 0.5]
    assert final_bytes(trainer) == (trainer.folder / BEST).read_bytes()
    last, final = load_last(trainer), load_final(trainer)
    assert not all(torch.equal(last[name], final[name]) for name in final)

    (trainer.folder / FINAL).unlink()  # killed just before the end: nothing is trained on top
    make_trainer(steps=1000, patience=2).run()
    assert len(rows(trainer)) == 4
    assert final_bytes(trainer) == (trainer.folder / BEST).read_bytes()


def load_final(trainer: Trainer) -> dict[str, torch.Tensor]:
    return load_weights(trainer.folder / FINAL)


def load_last(trainer: Trainer) -> dict[str, torch.Tensor]:
    weights = load_weights(trainer.folder / LAST)
    return {
        name.removeprefix("network."): value
        for name, value in weights.items()
        if name.startswith("network.")
    }


def test_without_held_out_cases_the_last_weights_are_final(
    make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    fix_dice(monkeypatch, 0.6, 0.5)
    trainer = make_trainer(held_out=False, patience=1)
    trainer.run()
    assert rows(trainer)[-1]["step"] == trainer.task.configuration.steps
    assert rows(trainer)[-1]["validated_on"] == "training cases"
    assert not (trainer.folder / BEST).exists()
    last, final = load_last(trainer), load_final(trainer)
    assert last.keys() == final.keys()
    assert all(torch.equal(last[name], final[name]) for name in final)


@pytest.mark.parametrize("dice", [math.nan, 0.0])
def test_a_validation_that_says_nothing_is_no_obstacle(
    make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch, dice: float
) -> None:
    fix_dice(monkeypatch, dice)
    trainer = make_trainer(steps=2)
    trainer.run()
    assert rows(trainer)[0]["mean_dice"] == (None if math.isnan(dice) else 0.0)
    assert (trainer.folder / FINAL).is_file()


def test_time_is_up_after_one_step_at_least_and_counts_over_sittings(
    make_trainer: Callable[..., Trainer],
) -> None:
    trainer = make_trainer(steps=1000, max_seconds=1e-9)
    trainer.run()
    assert rows(trainer)[-1]["step"] == 1
    seconds = read_progress(trainer.folder / LAST).seconds
    assert seconds > 0
    longer = make_trainer(steps=1000, max_seconds=seconds + 0.2)
    longer.run()
    assert rows(longer)[-1]["step"] > 1
    assert read_progress(longer.folder / LAST).seconds >= seconds + 0.2


def test_the_rate_follows_the_schedule(make_trainer: Callable[..., Trainer]) -> None:
    values = {"steps": 12, "steps_per_epoch": 4, "warmup_steps": 4, "learning_rate": 0.01}
    trainer = make_trainer(**values)
    trainer.run()
    expected = [0.01, 0.01 * (1 - 3 / 8) ** 0.9, 0.01 * (1 - 7 / 8) ** 0.9]
    assert [row["learning_rate"] for row in rows(trainer)] == pytest.approx(expected)


def test_divergence_is_told_with_a_remedy(
    make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, calls = loop.segmentation_loss, []

    def diverge(*arguments: Any, **options: Any) -> torch.Tensor:
        calls.append(None)
        return plain(*arguments, **options) * (math.nan if len(calls) == 4 else 1)

    monkeypatch.setattr(loop, "segmentation_loss", diverge)
    trainer = make_trainer(learning_rate=0.03)
    with pytest.raises(
        SamnetError, match=r"loss is nan at step 3: .*diverged.*--lr 0\.01 --restart"
    ):
        trainer.run()
    assert not (trainer.folder / FINAL).exists()
    assert all(
        value.isfinite().all() for value in load_last(trainer).values()
    )  # it could still be gone on with


def test_a_checkpoint_of_another_network_is_refused(make_trainer: Callable[..., Trainer]) -> None:
    make_trainer(steps=1).run()
    with pytest.raises(UserError, match=r"checkpoint_last\.safetensors: does not fit"):
        make_trainer(head="mask_decoder")


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    make_trainer: Callable[..., Trainer],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    make_trainer("undisturbed").run()
    at_step(monkeypatch, 4, lambda: os.kill(os.getpid(), signal.SIGTERM))
    stopped = make_trainer()
    with pytest.raises(Interrupted):
        stopped.run()
    last = stopped.folder / LAST
    os.truncate(last, last.stat().st_size - 100)
    resumed = make_trainer()
    assert resumed.progress.step == 4
    assert f"{LAST} is damaged: going on from the one before it" in caplog.text
    resumed.run()
    assert final_bytes(resumed) == (resumed.folder.parent / "undisturbed" / FINAL).read_bytes()
    assert not (resumed.folder / PREVIOUS).exists()


def test_without_any_readable_checkpoint_nothing_is_trained_over_it(
    make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step(monkeypatch, 4, lambda: os.kill(os.getpid(), signal.SIGTERM))
    stopped = make_trainer()
    with pytest.raises(Interrupted):
        stopped.run()
    for name in (LAST, PREVIOUS):
        (stopped.folder / name).write_bytes(b"cut short")
    with pytest.raises(
        UserError, match=r"checkpoint_last\.safetensors: cannot be read .*--restart"
    ):
        make_trainer()


def test_the_state_is_saved_by_time(
    make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = []
    monkeypatch.setattr(
        loop,
        "save_training",
        lambda folder, network, optimizer, progress: saved.append(progress.step),
    )
    often = make_trainer("often", steps=4, steps_per_epoch=4)
    often.task = replace(often.task, save_seconds=0)
    often.run()
    make_trainer("seldom", steps=4, steps_per_epoch=4).run()
    assert saved == [1, 2, 3, 4, 4, 4]


def test_a_jump_of_the_clock_changes_nothing(
    make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a machine's clock is set: neither the limit of time nor the rate that falls with it depends on it."""
    at_step(monkeypatch, 1, lambda: monkeypatch.setattr(time, "time", lambda: 0.0))
    trainer = make_trainer(max_seconds=1e6)
    trainer.run()
    assert rows(trainer)[-1]["step"] == 6
    assert 0 < rows(trainer)[-1]["seconds"] < 1000


def test_a_signal_after_the_last_step_ends_what_would_follow(
    make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = loop.save_weights

    def save(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        plain(*arguments)

    trainer = make_trainer(held_out=False)
    monkeypatch.setattr(loop, "save_weights", save)
    with pytest.raises(Interrupted, match="the training is finished"):
        trainer.run()
    assert (trainer.folder / FINAL).is_file()


def test_a_signal_ends_a_long_case_of_the_validation_at_once(
    make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    in_validation(monkeypatch, 1, hang)
    trainer, started = make_trainer(), time.monotonic()
    with pytest.raises(Interrupted, match="state saved at step 2"):
        trainer.run()
    assert time.monotonic() - started < 30
    assert read_progress(trainer.folder / LAST).step == 2
