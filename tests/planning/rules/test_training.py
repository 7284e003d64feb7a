"""The rules for splits, batch, steps and learning rate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from builders.fingerprint import make_fingerprint
from builders.planned import CPU, GPU, decide, values

from samnet.core.machine import Machine
from samnet.fingerprint.records import Fingerprint
from samnet.planning.planner import make_plan


@pytest.mark.parametrize(
    ("names", "key", "folds"),
    [
        (("only",), None, 1),
        (("a", "b"), None, 2),
        (tuple("abcdefg"), None, 5),
        (("p1_a", "p1_b", "p2_a", "p2_b"), r"p\d", 2),
        (("p1_a", "p1_b"), r"p\d", 1),
    ],
)
def test_folds_hold_out_whole_patients(names: tuple, key: str | None, folds: int) -> None:
    planned = values(make_fingerprint(case_names=names, patient_key=key))
    assert (planned["patient_key"], planned["folds"]) == (key, folds)


def test_patient_key_is_found_in_the_case_names() -> None:
    names = []
    for number in range(8):
        names += [f"patient{number:03d}_frame01", f"patient{number:03d}_frame12"]
    planned = decide(make_fingerprint(case_names=tuple(names)))
    assert planned["folds"].value == 5
    assert "8 different patients" in planned["patient_key"].because


@pytest.mark.parametrize(("slices", "steps"), [(1, 1500), (100, 2250), (10_000, 12_000)])
def test_steps_follow_the_labelled_slices_within_limits(slices: int, steps: int) -> None:
    planned = values(make_fingerprint(labelled_slices=slices), views=[0])
    assert planned["batch_size"] == 16
    assert planned["steps"] == steps
    assert planned["warmup_steps"] <= planned["steps"] / 10
    assert 50 <= planned["steps_per_epoch"] <= 250


def test_slices_of_several_views_take_more_steps() -> None:
    fingerprint = make_fingerprint(labelled_slices=(1, 1, 1))
    assert values(fingerprint, views=[0])["steps"] == 1500
    assert values(fingerprint, views=[0, 1, 2])["steps"] == 3000


@pytest.mark.parametrize("machine", [CPU, GPU], ids=str)
def test_batch_size_keeps_the_number_of_tokens(machine: Machine) -> None:
    small, large = (values(make_fingerprint(), machine, input_size=size) for size in (224, 448))
    assert small["batch_size"] == 4 * large["batch_size"]


def h100(memory: float = 80.0) -> Machine:
    return Machine("cuda", memory, multiprocessors=132)


@pytest.mark.parametrize(
    ("machine", "settings", "batch"),
    [
        # 4 waves x 132 x 128^2 / (2.25 x 768) = 5,006 tokens; inputs of 196, 784 and 4,096.
        (h100(), {"backbone": "vit_b", "input_size": 224}, 26),
        (h100(), {"backbone": "vit_b", "input_size": 448}, 7),
        (h100(), {"backbone": "vit_b", "input_size": 1024}, 2),
        (h100(), {"backbone": "small", "input_size": 224}, 103),
        (h100(), {"backbone": "small", "input_size": 112}, 128),
        (Machine("cuda", 16, multiprocessors=40), {"backbone": "vit_b", "input_size": 224}, 16),
        (Machine("cuda", 80), {"backbone": "small", "input_size": 224}, 16),
        (Machine("cpu", 80), {"backbone": "small", "input_size": 224}, 8),
    ],
)
def test_batch_fills_the_multiprocessors_of_a_gpu(
    machine: Machine, settings: dict, batch: int
) -> None:
    planned = values(make_fingerprint(labelled_slices=10_000), machine, views=[0], **settings)
    assert planned["batch_size"] == batch


@pytest.mark.parametrize(("slices", "batch"), [(10_000, 103), (800, 50), (100, 16)])
def test_batch_that_fills_a_gpu_leaves_sixteen_steps_in_a_pass(slices: int, batch: int) -> None:
    fingerprint = make_fingerprint(case_names=("a", "b"), labelled_slices=slices // 2)
    settings = {"backbone": "small", "input_size": 224, "views": [0]}
    assert values(fingerprint, h100(), **settings)["batch_size"] == batch


@pytest.mark.parametrize(
    ("settings", "rate"),
    [
        ({}, 4e-3 * (103 / 16) ** 0.5),
        ({"encoder_tuning": "full"}, 1e-3 * (103 / 16) ** 0.5),
        ({"batch_size": 16}, 4e-3),
        ({"batch_size": 8}, 4e-3),
        ({"learning_rate": 0.02}, 0.02),
    ],
    ids=["adapter", "everything", "as before", "less", "given"],
)
def test_learning_rate_grows_with_the_root_of_a_batch_that_fills_a_gpu(
    settings: dict, rate: float
) -> None:
    fingerprint = make_fingerprint(labelled_slices=10_000)
    settings = {"backbone": "small", "input_size": 224, "views": [0]} | settings
    planned = decide(fingerprint, h100(), **settings)
    assert planned["learning_rate"].value == pytest.approx(rate, rel=0.05)
    grows = rate not in (4e-3, 0.02)
    assert ("times the root of 103 / 16" in planned["learning_rate"].because) == grows
    if grows:
        assert "132 multiprocessors are full" in planned["batch_size"].because


@pytest.mark.parametrize(
    ("settings", "rate"),
    [
        ({}, 1e-3),
        ({"encoder_tuning": "full"}, 1e-4),
        ({"initial_weights": "random"}, 1e-3),
        ({"backbone": "small"}, 4e-3),
        ({"backbone": "small", "encoder_tuning": "full"}, 1e-3),
    ],
    ids=["adapter", "everything", "from scratch", "small adapter", "all of the small backbone"],
)
def test_learning_rate_is_smaller_for_weights_that_know_more(settings: dict, rate: float) -> None:
    assert values(make_fingerprint(), **settings)["learning_rate"] == rate


def test_training_stops_early_after_half_of_the_planned_validations() -> None:
    planned = values(make_fingerprint(labelled_slices=200), views=[0])
    assert planned["patience"] == 15
    num_validations = planned["steps"] / planned["steps_per_epoch"]
    assert num_validations == pytest.approx(2 * planned["patience"], rel=0.1)


def few(number: int = 1, others: int = 40, **changes: Any) -> Fingerprint:
    """Return the fingerprint of a few labelled volumes, and of others without labels."""
    made = make_fingerprint(case_names=tuple("abcdefghij"[:number]), **changes)
    return replace(made, num_unlabelled=others)


def few_images(number: int, **changes: Any) -> Fingerprint:
    """Return the fingerprint of a few labelled 2D images, and of 500 without labels."""
    names = tuple(f"image_{index}" for index in range(number))
    made = make_fingerprint(case_names=names, file_ending=".png", shape=(1, 64, 64), **changes)
    return replace(made, num_unlabelled=500)


@pytest.mark.parametrize(
    "fingerprint",
    [few(1, others=500), few(2, others=500), few_images(24)],
    ids=["a volume", "two volumes", "2D images"],
)
def test_images_without_labels_are_learnt_from_with_few_labelled_ones(
    fingerprint: Fingerprint,
) -> None:
    planned = decide(fingerprint)
    assert planned["registered_cases"].value == 48
    assert planned["weight_average"].value == 0.99
    assert planned["steps"].value == 3000
    assert planned["unlabelled_weight"].value == 0
    number = len(fingerprint.cases)
    assert f"{number} labelled and 500 other cases" in planned["registered_cases"].because


def test_at_most_half_of_the_images_without_labels_are_learnt_from() -> None:
    assert values(few(others=7))["registered_cases"] == 4
    assert values(few(others=1))["registered_cases"] == 1


@pytest.mark.parametrize(
    ("fingerprint", "settings", "reason"),
    [
        (few(others=0), {}, "no images without labels"),
        (few(3), {}, "3 labelled cases: a gain was measured with one, and none with five"),
        (few_images(25), {}, "25 labelled images: a gain was measured with those of one patient"),
        (few(shape=(40, 1, 64)), {}, "single slices are registered where they lie across Z"),
        (few(), {"encoder_tuning": "frozen"}, "frozen encoder"),
    ],
    ids=["none", "many labels", "2D", "coronal slices", "frozen"],
)
def test_images_without_labels_are_not_used_where_no_gain_was_measured(
    fingerprint: Fingerprint, settings: dict, reason: str
) -> None:
    planned = decide(fingerprint, **settings)
    assert planned["registered_cases"].value == 0
    assert reason in planned["registered_cases"].because
    assert planned["weight_average"].value == 0
    assert planned["steps"].value < 3000


def test_published_configurations_stay_as_they_are() -> None:
    names = ["samed", "autosam", "ma_sam"]
    plan = make_plan(few(), GPU, {}, None, names)
    without = make_plan(few(others=0), GPU, {}, None, names)
    for name in names:
        decisions = plan.configuration_decisions(name)
        assert decisions["registered_cases"].value == decisions["weight_average"].value == 0
        assert decisions["steps"] == without.configuration_decisions(name)["steps"]
