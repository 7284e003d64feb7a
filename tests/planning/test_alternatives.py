"""What would change a plan: checked by planning for data that are so."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from samnet.core.machine import Machine
from samnet.fingerprint.records import Fingerprint
from samnet.plan.plan import Plan
from samnet.planning.alternatives import Alternative, what_would_change
from samnet.planning.explain import explain
from samnet.planning.planner import make_plan

Make = Callable[..., Fingerprint]
CPU, GPU = Machine("cpu", 16.0), Machine("cuda", 16.0)


def find(plan: Plan, fingerprint: Fingerprint, key: str) -> dict[str, object]:
    """What would be otherwise -> the value."""
    alternatives = what_would_change(plan, fingerprint, "lora").get(key, [])
    return {when: other.value for other in alternatives for when in other.when}


def test_other_machines_would_have_other_backbones(make_fingerprint: Make) -> None:
    fingerprint = make_fingerprint()
    on_cpu = find(make_plan(fingerprint, CPU), fingerprint, "backbone")
    assert on_cpu == {"on a GPU with 16 GiB": "vit_b", "on a GPU with 80 GiB": "vit_l"}
    on_gpu = find(make_plan(fingerprint, GPU), fingerprint, "backbone")
    assert on_gpu == {"without a GPU": "small", "on a GPU with 80 GiB": "vit_l"}


@pytest.mark.parametrize("machine", [CPU, GPU], ids=str)
def test_what_it_says_of_other_data_is_what_they_get(
    make_fingerprint: Make, machine: Machine
) -> None:
    def facts(**changes: object) -> Fingerprint:
        return make_fingerprint(
            **{"spacing": (2.0, 1.0, 1.0), "diameters": {"organ": 8.0}} | changes
        )

    others = {
        "with structures half as large": facts(diameters={"organ": 4.0}),
        "with structures twice as large": facts(diameters={"organ": 16.0}),
        "with slices three times as far apart": facts(spacing=(6.0, 1.0, 1.0)),
        "with five times as many labelled slices": facts(labelled_slices=100),
        "with slices twice as wide and high": facts(shape=(40, 400, 320)),
        "with channels called CT": facts(channels=("CT",)),
    }
    plan = make_plan(facts(), machine)
    changed, said = what_would_change(plan, facts(), "lora"), set()
    for when, data in others.items():
        planned = make_plan(data, machine).configuration_decisions("lora")
        for key, decision in plan.configuration_decisions("lora").items():
            values = [other.value for other in changed.get(key, []) if when in other.when]
            assert values == (
                [] if planned[key].value == decision.value else [planned[key].value]
            ), (when, key)
            said |= {when} if values else set()
    assert len(said) >= 4


def test_what_a_person_or_the_memory_decided_stays(make_fingerprint: Make) -> None:
    fingerprint = make_fingerprint()
    plan = make_plan(
        fingerprint,
        CPU,
        {"zoom": 3.0},
        measure=lambda configuration, *_: configuration.batch_size * 2.0,
    )
    assert plan.configuration("lora").batch_size < 8
    changed = what_would_change(plan, fingerprint, "lora")
    assert not {"zoom", "batch_size"} & changed.keys()


def test_pictures_have_no_distances_and_are_no_ct(make_fingerprint: Make) -> None:
    fingerprint = make_fingerprint(shape=(1, 200, 160), file_ending=".png")
    changed = what_would_change(make_plan(fingerprint, CPU), fingerprint, "lora")
    assert not [
        other
        for others in changed.values()
        for other in others
        if "CT" in str(other) or "apart" in str(other)
    ]


def test_the_explanation_tells(make_fingerprint: Make) -> None:
    fingerprint = make_fingerprint()
    plan = make_plan(fingerprint, CPU)
    assert what_would_change(plan, fingerprint, "lora")["precision"] == [
        Alternative("bfloat16", ("on a GPU with 16 GiB", "on a GPU with 80 GiB"))
    ]
    text = " ".join(explain(plan, fingerprint).split())
    assert "would be bfloat16 on a GPU with 16 GiB or on a GPU with 80 GiB" in text
    assert text.count("would be vit_b on a GPU") == 1  # not again for the other configurations
