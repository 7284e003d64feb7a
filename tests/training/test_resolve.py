"""From a request to a run. No run is trained: its folder is written as a session leaves it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from builders.tiny import SHORT, use_folders
from torch import Tensor

from samnet.core.errors import UserError
from samnet.core.files import read_json, write_json
from samnet.models.model_folder import FINAL, LAST, ModelFolder, RunFolder
from samnet.models.network import save_weights
from samnet.plan.configuration import PLAN_KEYS, earlier_values
from samnet.planning.planned_dataset import PlannedDataset
from samnet.training.checkpoint import Progress, save_training
from samnet.training.options import TrainingOptions
from samnet.training.resolve import ResolvedRun, resolve_run
from samnet.training.run_record import RunRecord


@pytest.fixture
def dataset(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlannedDataset:
    use_folders(prepared, tmp_path / "results", monkeypatch)
    return PlannedDataset.find("501")


@pytest.fixture
def resolve(dataset: PlannedDataset) -> Callable[..., ResolvedRun]:
    """Return a function that resolves the request for a fold."""

    def resolve_fold(fold: str = "0", *, world_size: int = 1, **options: Any) -> ResolvedRun:
        return resolve_run(dataset, "lora", fold, TrainingOptions(**options), world_size)

    return resolve_fold


@pytest.fixture
def folder(dataset: PlannedDataset) -> RunFolder:
    return ModelFolder.of(dataset.folder, "lora").run("0")


Resolve = Callable[..., ResolvedRun]


class OneWeight:
    """A network of a single weight, as far as checkpoints need a network."""

    def __init__(self) -> None:
        self.weight = torch.nn.Parameter(torch.ones(1))

    def adapter(self) -> dict[str, Tensor]:
        return {"weight": self.weight.detach()}

    def load_adapter(self, weights: dict[str, Tensor], where: str) -> None:
        self.weight.data = weights["weight"]


def leave(run: ResolvedRun, *, step: int, seconds: float = 5.0, is_finished: bool = False) -> None:
    """Write the folder of a run as a session leaves it after some steps."""
    run.plan.save(run.folder.plan_file)
    RunRecord(run.request).save(run.folder)
    network = OneWeight()
    optimizer = torch.optim.Adam([network.weight])
    save_training(run.folder, network, optimizer, Progress(step=step, seconds=seconds))
    if is_finished:
        save_weights(network.adapter(), run.folder.checkpoint(FINAL))


def test_new_run_is_resolved_from_plan_splits_and_options(
    resolve: Resolve, dataset: PlannedDataset, folder: RunFolder
) -> None:
    run = resolve(seed=4, max_seconds=60.0, settings={"learning_rate": 0.01})
    assert run.folder == folder
    assert run.record is None
    assert not run.is_finished
    assert run.cases.training == sorted(dataset.splits[0]["train"])
    assert run.cases.held_out
    request = run.request
    assert (request.fold, request.seed, request.max_seconds) == ("0", 4, 60.0)
    assert request.training_cases == tuple(run.cases.training)
    assert request.configuration["learning_rate"] == 0.01
    assert request.data_key == dataset.plan.data_key
    assert not folder.path.exists()


def test_plan_of_a_run_has_its_configuration_alone(resolve: Resolve) -> None:
    plan = resolve(settings={"learning_rate": 0.01}).plan
    assert plan.single_name == "lora"
    decision = plan.configuration_decisions("lora")["learning_rate"]
    assert "command line" in decision.because


def test_labels_that_the_data_set_lacks_cannot_be_copied(resolve: Resolve) -> None:
    resolve(settings={"structure_copying": 0.5, "copied_labels": [1]})
    resolve(settings={"structure_copying": 0.0, "copied_labels": [7]})
    with pytest.raises(UserError, match=r"copied_labels are \[1, 7\], but the labels .* are \[1\]"):
        resolve(settings={"structure_copying": 0.5, "copied_labels": [1, 7]})


LEARNS = {"unlabelled_weight": 1.0, "weight_average": 0.9}


def test_run_takes_all_cases_without_labels_where_the_plan_has_a_weight_for_them(
    resolve: Resolve, dataset: PlannedDataset
) -> None:
    expected = ("case_00", "case_01", "case_02", "case_03", "case_04", "case_05")
    assert resolve(settings=LEARNS).request.unlabelled_cases == expected
    assert resolve(settings={"registered_cases": 2}).request.unlabelled_cases == expected
    assert resolve().request.unlabelled_cases == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight_average": 0.0}, r"weight_average 0: .* Add --set weight_average=0\.99"),
        ({"depth": 3}, r"and depth 3: .* Take depth=1"),
    ],
    ids=["no teacher", "stacks"],
)
def test_values_that_do_not_go_with_cases_without_labels_are_refused(
    resolve: Resolve, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=f"unlabelled_weight is 1, .*{message}"):
        resolve(settings=LEARNS | settings)


def test_slices_without_labels_have_to_be_split_evenly_over_processes(resolve: Resolve) -> None:
    with pytest.raises(UserError, match=r"^4 slices .* over 3 .* --set unlabelled_share=1"):
        resolve(settings=LEARNS | {"batch_size": 6, "unlabelled_share": 0.7}, world_size=3)


def test_weight_without_prepared_cases_without_labels_is_refused(
    resolve: Resolve, dataset: PlannedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samnet.training.run_cases.list_cases", lambda folder: [])
    with pytest.raises(UserError, match=r"put images into .*imagesUn and run samnet_preprocess"):
        resolve(settings=LEARNS)
    with pytest.raises(UserError, match=r"^registered_cases is 2, but .* --set registered_cases=0"):
        resolve(settings={"registered_cases": 2})


def test_epochs_are_counted_in_planned_or_given_steps(resolve: Resolve) -> None:
    assert resolve(epochs=5).plan.single_configuration.steps == 5 * SHORT["steps_per_epoch"]
    longer = resolve(epochs=5, settings={"steps_per_epoch": 7}).plan.single_configuration
    assert (longer.steps, longer.steps_per_epoch) == (35, 7)


@pytest.mark.parametrize(
    ("steps", "warmup_steps"), [(5, 0), (19, 1), (400, 1)], ids=["5", "19", "400"]
)
def test_warm_up_takes_at_most_a_tenth_of_the_requested_steps(
    resolve: Resolve, steps: int, warmup_steps: int
) -> None:
    found = resolve(settings={"steps": steps}).plan.single_configuration
    assert found.warmup_steps == warmup_steps
    kept = resolve(settings={"steps": steps, "warmup_steps": 3}).plan.single_configuration
    assert kept.warmup_steps == 3


def test_multiply_batch_gives_each_process_the_planned_batch(resolve: Resolve) -> None:
    planned = SHORT["batch_size"]
    for world_size, expected in ((1, planned), (3, 3 * planned)):
        run = resolve(multiply_batch=True, world_size=world_size)
        assert run.plan.single_configuration.batch_size == expected
    assert resolve(world_size=3).plan.single_configuration.batch_size == planned


def test_fewer_cases_are_a_part_of_the_request(resolve: Resolve) -> None:
    run = resolve(num_cases=2)
    assert len(run.request.training_cases) == 2
    assert run.request.num_patients is None
    by_patient = resolve(num_patients=3)
    assert by_patient.request.num_patients == 3
    assert len(by_patient.request.training_cases) == 3


def test_same_request_resumes_an_unfinished_run(resolve: Resolve) -> None:
    leave(resolve(), step=3)
    again = resolve()
    assert not again.is_finished
    assert again.record is not None
    assert again.record.request == again.request


@pytest.mark.parametrize("options", [{}, {"resume": True}], ids=["again", "--continue"])
def test_run_older_than_keys_of_the_plan_is_resumed(
    resolve: Resolve, options: dict[str, bool]
) -> None:
    run = resolve()
    leave(run, step=3)
    for file in (run.folder.plan_file, run.folder.record_file):
        content = json.loads(file.read_text())
        values = content.get("request", {}).get("configuration")
        for key in earlier_values():
            del (values or content["configurations"]["lora"]["decisions"])[key]
        file.write_text(json.dumps(content))
    again = resolve(**options)
    assert not again.is_finished
    assert again.request == run.request
    assert again.plan.single_configuration == run.plan.single_configuration


def test_same_request_leaves_a_finished_run_alone(resolve: Resolve) -> None:
    leave(resolve(), step=6, is_finished=True)
    assert resolve().is_finished


@pytest.mark.parametrize(
    ("is_finished", "message"),
    [
        (False, "an unfinished training run with other settings ({}); --continue resumes it"),
        (True, "a finished training run with other settings ({}); --continue with more --steps"),
    ],
    ids=["unfinished run", "finished run"],
)
@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"seed": 1}, "seed 0, now 1"),
        ({"settings": {"learning_rate": 1e-4}}, "learning_rate 0.001, now 0.0001"),
        ({"num_cases": 2}, "other training_cases"),
        ({"cache_size": 3.0}, "other cache_size"),
    ],
    ids=["seed", "value of the plan", "cases", "cache"],
)
def test_another_request_is_refused(
    resolve: Resolve, is_finished: bool, message: str, options: dict[str, Any], difference: str
) -> None:
    leave(resolve(), step=6, is_finished=is_finished)
    with pytest.raises(UserError, match=re.escape(message.format(difference))):
        resolve(**options)


def test_run_that_saved_no_state_may_be_replaced_by_another_request(
    resolve: Resolve, folder: RunFolder
) -> None:
    leave(resolve(), step=3)
    folder.checkpoint(LAST).unlink()
    assert not resolve(seed=1).is_finished


def test_continue_takes_what_is_not_given_from_the_record(resolve: Resolve) -> None:
    began = resolve(seed=5, num_cases=3, max_seconds=60.0, cache_size=2.0)
    leave(began, step=3)
    resumed = resolve(resume=True)
    assert resumed.request == began.request
    longer = resolve(resume=True, max_seconds=90.0, settings={"learning_rate": 1e-4})
    assert longer.request.max_seconds == 90.0
    assert longer.request.training_cases == began.request.training_cases
    assert longer.request.configuration["learning_rate"] == 1e-4


def test_continue_goes_by_the_plan_of_the_run(
    resolve: Resolve, dataset: PlannedDataset, folder: RunFolder
) -> None:
    """The plan of the data set may have changed since the run began."""
    leave(resolve(settings={"zoom": 1.5}), step=3)
    assert dataset.plan.configuration("lora").zoom == 1.0
    assert resolve(resume=True).plan.single_configuration.zoom == 1.5
    folder.plan_file.unlink()
    with pytest.raises(UserError, match=r"plan\.json: no such file; --restart begins again"):
        resolve(resume=True)


def test_continue_without_a_run_is_refused(resolve: Resolve) -> None:
    with pytest.raises(UserError, match=r"--continue: there is no training in .*fold_0"):
        resolve(resume=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 9}, "began with another seed"),
        ({"num_cases": 2}, "began with another training_cases"),
        (
            {"settings": {"head": "mask_decoder"}},
            "began with head 'upsampling', not 'mask_decoder'",
        ),
        ({"settings": {"backbone": "small"}}, "began with backbone 'tiny', not 'small'"),
    ],
    ids=["seed", "cases", "head", "backbone"],
)
def test_continue_refuses_to_change_what_the_weights_rest_on(
    resolve: Resolve, options: dict[str, Any], message: str
) -> None:
    leave(resolve(), step=3)
    with pytest.raises(UserError, match=f"--continue: .*{message}"):
        resolve(resume=True, **options)


@pytest.mark.parametrize(
    ("options", "is_finished"),
    [
        ({}, True),
        ({"settings": {"steps": 6, "patience": 2}}, True),
        ({"settings": {"steps": 8}}, False),
        ({"epochs": 3}, True),
        ({"epochs": 4}, False),
        ({"max_seconds": 60.0}, True),
        ({"max_seconds": 4.0, "settings": {"steps": 8}}, True),
        ({"max_seconds": 60.0, "settings": {"steps": 8}}, False),
    ],
    ids=[
        "nothing else",
        "another patience",
        "more steps",
        "as many epochs",
        "more epochs",
        "another time limit",
        "more steps and no time left",
        "more steps and time left",
    ],
)
def test_continue_prolongs_a_finished_run_where_more_is_requested(
    resolve: Resolve, options: dict[str, Any], is_finished: bool
) -> None:
    leave(resolve(), step=SHORT["steps"], seconds=5.0, is_finished=True)
    assert resolve(resume=True, **options).is_finished == is_finished


def test_continue_prolongs_a_run_that_ended_with_its_time(resolve: Resolve) -> None:
    leave(resolve(max_seconds=5.0), step=4, seconds=5.0, is_finished=True)
    assert resolve(resume=True).is_finished
    assert not resolve(resume=True, max_seconds=9.0).is_finished


def test_continue_leaves_a_run_that_kept_time_for_its_prediction(resolve: Resolve) -> None:
    """It ended before its limit, and nothing more is requested."""
    leave(resolve(max_seconds=9.0), step=4, seconds=5.0, is_finished=True)
    assert resolve(resume=True, settings={"patience": 2}).is_finished


def leave_without(key: str, run: ResolvedRun) -> None:
    """Write the folder of a run as a version of samnet leaves it that does not know a key."""
    leave(run, step=2)
    for file in (run.folder.record_file, run.folder.plan_file):
        content = read_json(file)
        places = [content["request"]["configuration"]] if "request" in content else []
        places += [entry["decisions"] for entry in content.get("configurations", {}).values()]
        for place in places:
            del place[key]
        write_json(file, content)


def test_run_that_is_older_than_a_key_resumes_by_the_same_command(
    resolve: Resolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = resolve()
    leave_without("tile_overlap", run)
    value = run.plan.single_configuration.tile_overlap
    key = replace(PLAN_KEYS["tile_overlap"], earlier=value)
    monkeypatch.setitem(PLAN_KEYS, "tile_overlap", key)
    again = resolve()
    assert again.record is not None
    assert again.record.request == again.request == run.request
    assert resolve(resume=True).request == run.request
    with pytest.raises(UserError, match="other settings"):
        resolve(settings={"tile_overlap": value / 2})


def test_run_without_a_key_that_older_plans_may_not_lack_is_another_run(resolve: Resolve) -> None:
    leave_without("tile_overlap", resolve())
    with pytest.raises(UserError, match="other settings"):
        resolve()


def test_restart_does_not_need_a_readable_record_or_state(
    resolve: Resolve, folder: RunFolder
) -> None:
    leave(resolve(), step=6, is_finished=True)
    folder.record_file.write_text("{ cut short")
    folder.checkpoint(LAST).write_bytes(b"cut short")
    folder.plan_file.unlink()
    with pytest.raises(UserError, match=r"run\.json: not valid JSON"):
        resolve()
    run = resolve(restart=True, seed=1)
    assert run.record is None
    assert not run.is_finished
    assert folder.is_finished  # nothing is deleted yet


@pytest.mark.parametrize(
    ("fold", "options", "message"),
    [
        ("7", {}, "choose from 0, 1, 2, 3, 4, all, or cv"),
        ("0", {"num_cases": 7}, "--num-cases 7: fold 0 has"),
        ("0", {"settings": {"zom": 2}}, "zom"),
        ("0", {"settings": {"steps": "many"}}, "steps"),
        ("0", {"epochs": 2, "settings": {"steps_per_epoch": "x"}}, "steps_per_epoch"),
        ("0", {"settings": {"backbone": "vit_x"}}, "vit_x"),
        ("0", {"settings": {"orientation": "file"}}, "train with orientation=patient"),
    ],
    ids=[
        "fold",
        "number of cases",
        "unknown key",
        "steps",
        "steps of an epoch",
        "backbone",
        "orientation",
    ],
)
def test_request_that_cannot_be_met_is_refused(
    resolve: Resolve, fold: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        resolve(fold, **options)
