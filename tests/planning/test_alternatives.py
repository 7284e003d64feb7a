"""What would change a plan, compared with what is planned for such data and machines."""

from __future__ import annotations

from typing import Any

import pytest
from builders.fingerprint import make_fingerprint

from samnet.core.machine import Machine
from samnet.fingerprint.records import Fingerprint
from samnet.plan.plan import Plan
from samnet.planning.alternatives import Alternative, find_alternatives
from samnet.planning.explain import explain
from samnet.planning.planned_step import PlannedStep
from samnet.planning.planner import make_plan

CPU, GPU = Machine("cpu", 16.0), Machine("cuda", 16.0)


def values_of(plan: Plan, fingerprint: Fingerprint, key: str) -> dict[str, object]:
    """The values that a key would have, by the condition."""
    found = {}
    for alternative in find_alternatives(plan, fingerprint, "lora").get(key, []):
        found |= dict.fromkeys(alternative.when, alternative.value)
    return found


def test_alternatives_name_the_backbones_of_other_machines() -> None:
    fingerprint = make_fingerprint()
    on_cpu = values_of(make_plan(fingerprint, CPU), fingerprint, "backbone")
    assert on_cpu == {"on a GPU with 16 GiB": "vit_b", "on a GPU with 80 GiB": "vit_l"}
    on_gpu = values_of(make_plan(fingerprint, GPU), fingerprint, "backbone")
    assert on_gpu == {"without a GPU": "small", "on a GPU with 80 GiB": "vit_l"}


def data(**changes: Any) -> Fingerprint:
    """Data with small structures in slices of 1 mm, with some changes."""
    return make_fingerprint(**{"spacing": (2.0, 1.0, 1.0), "diameters": {"organ": 8.0}} | changes)


@pytest.mark.parametrize("machine", [CPU, GPU], ids=str)
def test_alternatives_for_other_data_are_what_is_planned_for_such_data(machine: Machine) -> None:
    others = {
        "with structures half as large": data(diameters={"organ": 4.0}),
        "with structures twice as large": data(diameters={"organ": 16.0}),
        "with slices three times as far apart": data(spacing=(6.0, 1.0, 1.0)),
        "with slices a third as far apart": data(spacing=(2 / 3, 1.0, 1.0)),
        "with five times as many labelled slices": data(labelled_slices=100),
        "with a fifth of the labelled slices": data(labelled_slices=(4, 40, 32)),
        "with slices twice as wide and high": data(
            shape=(40, 400, 320), labelled_slices=(20, 200, 160)
        ),
        "with channels called CT": data(channels=("CT",)),
    }
    plan = make_plan(data(), machine)
    alternatives, conditions = find_alternatives(plan, data(), "lora"), set()
    for when, fingerprint in others.items():
        planned = make_plan(fingerprint, machine).configuration_decisions("lora")
        for key, decision in plan.configuration_decisions("lora").items():
            if key == "copied_labels" and "labelled slices" in when:
                continue  # more slices show the class, but a case has no more slices here
            values = [other.value for other in alternatives.get(key, []) if when in other.when]
            is_unchanged = planned[key].value == decision.value
            assert values == ([] if is_unchanged else [planned[key].value]), (when, key)
            if values:
                conditions.add(when)
    assert len(conditions) >= 4


def test_neighbours_help_where_slices_are_a_third_as_far_apart() -> None:
    fingerprint = data(spacing=(7.0, 1.0, 1.0))
    found = values_of(make_plan(fingerprint, GPU), fingerprint, "channel_layout")
    assert found == {"with slices a third as far apart": "neighbours"}


def test_alternatives_leave_out_what_a_person_or_the_memory_decided() -> None:
    fingerprint = make_fingerprint()

    def measure(step: PlannedStep) -> float:
        return step.configuration.batch_size * 2.0

    plan = make_plan(fingerprint, CPU, {"zoom": 3.0}, measure)
    assert plan.configuration("lora").batch_size < 8
    alternatives = find_alternatives(plan, fingerprint, "lora")
    assert not {"zoom", "batch_size"} & alternatives.keys()


def test_alternatives_of_2d_images_have_no_distances_and_no_ct() -> None:
    fingerprint = make_fingerprint(shape=(1, 200, 160), file_ending=".png")
    alternatives = find_alternatives(make_plan(fingerprint, CPU), fingerprint, "lora")
    assert alternatives
    for others in alternatives.values():
        assert "CT" not in str(others)
        assert "apart" not in str(others)


def test_explanation_shows_the_alternatives_once() -> None:
    fingerprint = make_fingerprint()
    plan = make_plan(fingerprint, CPU)
    assert find_alternatives(plan, fingerprint, "lora")["precision"] == [
        Alternative("bfloat16", ("on a GPU with 16 GiB", "on a GPU with 80 GiB"))
    ]
    text = " ".join(explain(plan, fingerprint).split())
    assert "would be bfloat16 on a GPU with 16 GiB or on a GPU with 80 GiB" in text
    assert text.count("would be vit_b on a GPU") == 1  # not again for the other configurations
