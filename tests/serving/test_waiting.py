"""Requests that wait, models in memory, and images that are kept for a while."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from builders.serving import files_below
from builders.tiny import make_model

from samnet.core.errors import UserError
from samnet.dataset.cases import Case
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.dataset.images import read_image
from samnet.models.model_folder import ModelFolder
from samnet.serving.errors import Conflict, NotFound, QueueFull
from samnet.serving.queueing import ClientGone, PredictionQueue
from samnet.serving.served_models import ServedModel, ServedModels
from samnet.serving.server import choose_models
from samnet.serving.service import Service
from samnet.serving.sessions import Sessions
from samnet.serving.settings import Limits, ServerSettings
from samnet.serving.strategies import STRATEGIES, NextSamples, SamplePool, Strategy


async def _stays() -> bool:
    return False


async def _is_gone() -> bool:
    return True


def test_predictions_take_turns_in_order() -> None:
    queue, events = PredictionQueue(5), []

    async def request(name: str) -> None:
        async with queue.turn(_stays):
            events.append(f"{name} begins")
            await asyncio.sleep(0.03)
            events.append(f"{name} ends")

    async def all_requests() -> None:
        await asyncio.gather(*map(request, "abc"))

    asyncio.run(all_requests())
    assert events == [f"{name} {what}" for name in "abc" for what in ("begins", "ends")]
    assert len(queue) == 0


def test_queue_is_bounded_and_forgets_clients_that_have_gone() -> None:
    queue, refused = PredictionQueue(1), []

    async def waiting(is_gone: object) -> None:
        try:
            async with queue.turn(is_gone):  # type: ignore[arg-type]
                refused.append("served")
        except (QueueFull, ClientGone) as error:
            refused.append(type(error).__name__)

    async def all_requests() -> None:
        async with queue.turn(_stays):
            task = asyncio.create_task(waiting(_stays))
            await asyncio.sleep(0.01)
            await waiting(_stays)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await waiting(_is_gone)
            assert len(queue) == 1

    asyncio.run(all_requests())
    assert refused == ["QueueFull", "ClientGone"]
    assert len(queue) == 0
    assert QueueFull("x").headers == {"Retry-After": "5"}


def make_sessions(tmp_path: Path, now: list[float], **limits: int) -> Sessions:
    return Sessions(tmp_path / "sessions", Limits(**limits), lambda: now[0])


def upload(tmp_path: Path, size: int = 10) -> list[Path]:
    file = tmp_path / "0000.nii.gz"
    file.write_bytes(b"x" * size)
    return [file]


def test_sessions_expire_unless_they_are_used(tmp_path: Path) -> None:
    now = [1000.0]
    sessions = make_sessions(tmp_path, now, session_seconds=100)
    session = sessions.add(upload(tmp_path), 500)
    assert session.seconds == 100
    now[0] += 90
    sessions.find(session.identifier, is_used=True)
    now[0] += 90
    with sessions.in_use(session.identifier):
        now[0] += 1000
        sessions.remove_expired()
        assert len(sessions) == 1
    now[0] += 101
    with pytest.raises(NotFound):
        sessions.find(session.identifier)
    assert files_below(tmp_path) == set()


def test_sessions_are_bounded_and_leave_nothing(tmp_path: Path) -> None:
    sessions = make_sessions(tmp_path, [0.0], sessions=2, session_bytes=100)
    sessions.add(upload(tmp_path, 60))
    with pytest.raises(QueueFull, match="GiB"):
        sessions.add(upload(tmp_path, 60))
    sessions.add(upload(tmp_path, 10))
    with pytest.raises(QueueFull, match="2 images"):
        sessions.add(upload(tmp_path, 1))
    sessions.close()
    assert not (tmp_path / "sessions").exists()
    left = tmp_path / "sessions" / "of-a-killed-server" / "a.nii.gz"
    left.parent.mkdir(parents=True)
    left.touch()
    make_sessions(tmp_path, [0.0])
    assert not left.exists()


def test_few_models_are_kept_and_replaced_ones_are_loaded_again(folder: DatasetFolder) -> None:
    make_model(folder.model("other") / "fold_0", seed=1)
    chosen = choose_models(folder)
    models = ServedModels(chosen, "cpu", max_loaded=1)
    image = read_image([folder.training_images / "case_00_0000.nii.gz"])
    kept = []

    def predict(name: str) -> bytes:
        model = models.find(name)
        return models.predict(model, image.array, image.grid).labels.tobytes()

    first = predict("lora")
    assert predict("lora") == first
    assert predict("other") != first
    assert predict("lora") == first
    make_model(folder.model("lora") / "fold_all", seed=2)  # as a training run of the server leaves
    kept.append(predict("lora"))
    assert kept[0] != first
    assert models.find("lora").as_json()["description"].endswith("lora, fold_all")


def test_untrained_models_are_not_served(folder: DatasetFolder) -> None:
    models = ServedModels([ServedModel("new", ModelFolder.of(folder, "full"))], "cpu", 1)
    assert models.trained() == {}
    with pytest.raises(NotFound, match="none yet; train one first"):
        models.find("new")


def test_models_of_one_name_are_told_apart(folder: DatasetFolder, tmp_path: Path) -> None:
    elsewhere = tmp_path / "Dataset009_Other" / "lora"
    make_model(elsewhere / "fold_0")
    names = [model.name for model in choose_models(folder, [elsewhere], ["lora"])]
    assert names == ["lora", "Dataset009_Other-lora"]


def test_strategies_can_be_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRATEGIES, "last", Strategy("the last", lambda pool: pool.names[::-1]))
    pool = SamplePool([Case(name, (Path(name),)) for name in "abc"], 0)
    now = [0.0]
    samples = NextSamples(lambda: now[0])
    assert [samples.choose("last", pool) for _ in range(3)] == ["c", "b", "a"]
    now[0] += 10_000
    assert samples.choose("last", pool) == "c"
    drawn = {NextSamples().choose("random", replace(pool, seed=seed)) for seed in range(20)}
    assert drawn == set("abc")
    assert samples.choose("first", SamplePool([], 0)) is None


def test_images_are_labelled_in_the_order_of_a_ranking(tmp_path: Path) -> None:
    ranking = tmp_path / "next.csv"
    pool = SamplePool([Case(name, (Path(name),)) for name in "abcd"], 0, ranking=ranking)
    samples = NextSamples()
    with pytest.raises(Conflict, match="cannot be read"):
        samples.choose("ranked", pool)
    ranking.write_text("case,rank,score,why\nb,2,,\nz,1,,\nd,10,,\nc,9,,\n", encoding="utf-8")
    assert [samples.choose("ranked", pool) for _ in range(4)] == ["b", "c", "d", "a"]
    ranking.write_text("name,place\nb,2\n", encoding="utf-8")
    with pytest.raises(Conflict, match="samnet_next writes"):
        samples.choose("ranked", pool)
    with pytest.raises(NotFound, match="without --ranking"):
        samples.choose("ranked", replace(pool, ranking=None))


def test_ranking_that_cannot_be_read_ends_the_start(folder: DatasetFolder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"next\.csv: cannot be read"):
        Service(folder, [], ServerSettings(ranking=tmp_path / "next.csv"))
