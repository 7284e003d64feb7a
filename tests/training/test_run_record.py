from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from builders.tiny import make_configuration

from samnet.core.errors import UserError
from samnet.core.records import to_json
from samnet.models.model_folder import RunFolder
from samnet.plan.configuration import PLAN_KEYS
from samnet.training.embeddings.choice import CacheChoice
from samnet.training.out_of_memory import Fallback
from samnet.training.run_record import RunRecord, RunRequest, Session, check_continuation
from samnet.training.warm_start import Source

CPU = torch.device("cpu")
# The values of a plan on which the weights of a half-trained network do not rest.
RESUMABLE = {
    "mirror_axes",
    "background_outside",
    "batch_size",
    "precision",
    "gradient_checkpointing",
    "steps",
    "steps_per_epoch",
    "patience",
    "learning_rate",
    "warmup_steps",
    "weight_decay",
    "decay_power",
    "decay_share",
    "schedule",
    "loss",
    "gradient_clip",
    "cross_entropy_weight",
    "dice_weight",
    "foreground_share",
    "slice_order",
    "augmentation",
    "structure_copying",
    "copied_labels",
    "weight_average",
    "unlabelled_weight",
    "unlabelled_share",
    "tile_overlap",
    "mirror_at_prediction",
}
FALLBACK = Fallback(step=7, rows=2, gradient_checkpointing=True, reason="CUDA out of memory.")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "fold_0")


def make_request(**changes: Any) -> RunRequest:
    values = {
        "fold": "0",
        "training_cases": ("case_00", "case_01"),
        "seed": 3,
        "max_seconds": 60.0,
        "data_key": "key",
        "configuration": to_json(make_configuration()),
        "num_patients": None,
        "cache_size": 0.5,
        "start_from": Source("/models/other/fold_0", "0" * 64),
    }
    return RunRequest(**(values | changes))


def make_session() -> Session:
    session = Session.begin(CPU, "bfloat16", CacheChoice(0.5, 4))
    session.out_of_memory.append(FALLBACK)
    return session


def read(folder: RunFolder) -> dict[str, Any]:
    return json.loads(folder.record_file.read_text())


def write(folder: RunFolder, content: Any) -> None:
    folder.path.mkdir(exist_ok=True)
    folder.record_file.write_text(json.dumps(content))


def old_content() -> dict[str, Any]:
    """Return the content of a record as samnet wrote it before version 0.2."""
    session = to_json(make_session())
    session["embeddings"] = {"size": 0.5, "views": 4}
    return {"asked": to_json(make_request()), "sittings": [session]}


def test_record_that_was_saved_is_loaded(folder: RunFolder) -> None:
    record = RunRecord(make_request(), [make_session(), Session.begin(CPU, "float32", None)])
    record.save(folder)
    assert RunRecord.load(folder) == record
    assert list(read(folder)) == ["request", "sessions"]


def test_folder_without_a_record_has_none(folder: RunFolder) -> None:
    assert RunRecord.load(folder) is None


def test_record_with_old_keys_is_read_and_saved_with_new_ones(folder: RunFolder) -> None:
    write(folder, old_content())
    record = RunRecord.load(folder)
    assert record is not None
    assert record.request == make_request()
    [session] = record.sessions
    assert session.embeddings == CacheChoice(size=0.5, variants=4)
    assert session.out_of_memory == [FALLBACK]

    record.save(folder)
    content = read(folder)
    assert list(content) == ["request", "sessions"]
    assert content["sessions"][0]["embeddings"] == {"size": 0.5, "variants": 4}
    assert RunRecord.load(folder) == record


def test_old_record_without_newer_values_of_a_request_is_read(folder: RunFolder) -> None:
    content = old_content()
    for key in ("num_patients", "cache_size", "start_from"):
        del content["asked"][key]
    write(folder, content)
    record = RunRecord.load(folder)
    assert record is not None
    assert record.request == make_request(cache_size=None, start_from=None)


def test_record_older_than_keys_of_the_plan_means_by_them_what_was_done_then(
    folder: RunFolder,
) -> None:
    content = {"request": to_json(make_request()), "sessions": []}
    for key in ("frame", "orientation", "slice_order"):
        del content["request"]["configuration"][key]
    write(folder, content)
    record = RunRecord.load(folder)
    assert record is not None
    assert record.request == make_request()


def test_unknown_and_missing_facts_of_a_session_are_no_fault(folder: RunFolder) -> None:
    sessions = [{"device": "cuda", "hostname": "node7", "command": ["samnet_train", 8]}, "lost"]
    write(folder, {"request": to_json(make_request()), "sessions": sessions})
    record = RunRecord.load(folder)
    assert record is not None
    first, second = record.sessions
    assert (first.device, first.command) == ("cuda", ["samnet_train", "8"])
    assert first.started == first.torch == second.device == "unknown"
    assert first.precision == ""
    assert (second.command, second.embeddings, second.out_of_memory) == ([], None, [])


@pytest.mark.parametrize("sessions", [None, "lost", 3, {}], ids=repr)
def test_record_without_a_list_of_sessions_has_none(folder: RunFolder, sessions: Any) -> None:
    write(folder, {"request": to_json(make_request()), "sessions": sessions})
    record = RunRecord.load(folder)
    assert record is not None
    assert record.sessions == []


def damaged_contents() -> dict[str, tuple[Any, str]]:
    """Return kind of damage -> (content of a record, what is said of it)."""
    request = to_json(make_request())
    without_seed = {key: value for key, value in request.items() if key != "seed"}
    embeddings = {"request": request, "sessions": [{"embeddings": {"size": 1.0}}]}
    fallbacks = {"request": request, "sessions": [{"out_of_memory": [{"step": 1}]}]}
    return {
        "no object": ([1, 2], "no record of a training run; --restart trains again"),
        "no request": ({"sessions": []}, "no record of a training run; --restart trains again"),
        "request is text": ({"request": "lora"}, "request: expected an object, found 'lora'"),
        "request lacks a key": ({"request": without_seed}, "request: the key 'seed' is missing"),
        "value of the wrong type": (
            {"request": request | {"seed": "three"}},
            "request: seed: expected a whole number, found 'three'",
        ),
        "embeddings lack a key": (
            embeddings,
            r"sessions\[0\]: embeddings: the key 'variants' is missing",
        ),
        "fallback lacks a key": (fallbacks, r"sessions\[0\]: out_of_memory: the key 'rows'"),
    }


@pytest.mark.parametrize(
    ("content", "message"), damaged_contents().values(), ids=damaged_contents()
)
def test_damaged_record_is_named(folder: RunFolder, content: Any, message: str) -> None:
    write(folder, content)
    with pytest.raises(UserError, match=rf"run\.json: {message}"):
        RunRecord.load(folder)


def test_record_that_is_cut_short_is_named(folder: RunFolder) -> None:
    RunRecord(make_request()).save(folder)
    text = folder.record_file.read_text()
    folder.record_file.write_text(text[: len(text) // 2])
    with pytest.raises(UserError, match=r"run\.json: not valid JSON"):
        RunRecord.load(folder)


def test_fallback_is_noted_in_the_last_session(folder: RunFolder) -> None:
    record = RunRecord(
        make_request(), [Session.begin(CPU, "float32", None), Session.begin(CPU, "float32", None)]
    )
    record.add_fallback(FALLBACK, folder)
    loaded = RunRecord.load(folder)
    assert loaded is not None
    assert [session.out_of_memory for session in loaded.sessions] == [[], [FALLBACK]]


@pytest.mark.parametrize(
    "changes",
    [
        {"training_cases": ("case_00",)},
        {"seed": 4},
        {"data_key": "other"},
        {"start_from": None},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_continuation_refuses_another(folder: RunFolder, changes: dict[str, Any]) -> None:
    [name] = changes
    with pytest.raises(UserError, match=rf"began with another {name}; --restart begins again"):
        check_continuation(folder, make_request(), make_request(**changes))


def test_continuation_may_change_the_time_and_the_size_of_the_cache(folder: RunFolder) -> None:
    longer = make_request(max_seconds=None, cache_size=2.0)
    check_continuation(folder, make_request(), longer)


@pytest.mark.parametrize("key", PLAN_KEYS)
def test_continuation_may_change_the_resumable_values_of_a_plan_alone(
    folder: RunFolder, key: str
) -> None:
    before = make_request()
    after = replace(before, configuration=before.configuration | {key: "other"})
    if key in RESUMABLE:
        check_continuation(folder, before, after)
        return
    with pytest.raises(UserError, match=rf"began with {key} .*, not 'other'; --restart"):
        check_continuation(folder, before, after)
