"""The rules as a whole: one for each key, each with its reason."""

from __future__ import annotations

import inspect
from dataclasses import replace

import pytest
from builders.fingerprint import make_fingerprint
from builders.planned import CPU, GPU, decide, plan_all, values

from samnet.core.machine import Machine
from samnet.plan.configuration import PLAN_KEYS
from samnet.plan.plan import SPLIT_KEYS
from samnet.plan.plan_key import Scope
from samnet.planning.presets import configuration_names
from samnet.planning.rules import copying, intensity, network, rules_of, slicing, training


def defined_rules() -> list[str]:
    """The names of all functions that take the facts, in the modules of the rules."""
    names = []
    for module in (slicing, intensity, network, training, copying):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            is_public = not name.startswith("_") and function.__module__ == module.__name__
            if is_public and list(inspect.signature(function).parameters) == ["facts"]:
                names.append(name)
    return names


def test_rules_of_finds_exactly_one_rule_for_every_key() -> None:
    of_dataset, of_configuration = rules_of(Scope.DATASET), rules_of(Scope.CONFIGURATION)
    assert {*of_dataset, *of_configuration} == {*PLAN_KEYS, *SPLIT_KEYS}
    assert not of_dataset.keys() & of_configuration.keys()
    defined = defined_rules()
    assert sorted(defined) == sorted([*PLAN_KEYS, *SPLIT_KEYS])
    for key, rule in (of_dataset | of_configuration).items():
        assert rule.__name__ == key


def test_rules_of_are_in_the_declared_order_with_the_splits_first() -> None:
    of_dataset = [key for key, entry in PLAN_KEYS.items() if entry.scope is Scope.DATASET]
    of_configuration = [key for key in PLAN_KEYS if key not in of_dataset]
    assert list(rules_of(Scope.DATASET)) == [*SPLIT_KEYS, *of_dataset]
    assert list(rules_of(Scope.CONFIGURATION)) == of_configuration


def test_rules_of_a_key_without_a_rule_fail_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    undecided = replace(PLAN_KEYS["zoom"], name="undecided")
    monkeypatch.setitem(PLAN_KEYS, "undecided", undecided)
    with pytest.raises(LookupError, match=r"no rule 'undecided' in samnet\.planning\.rules\."):
        rules_of(Scope.CONFIGURATION)


@pytest.mark.parametrize(
    "machine", [CPU, Machine("cuda", 4), GPU, Machine("cuda", 80), Machine("mps", 16)], ids=str
)
def test_every_decision_has_a_reason_and_a_rule(machine: Machine) -> None:
    plan = plan_all(make_fingerprint(), machine)
    assert set(plan.configurations) == set(configuration_names()) >= {"lora", "full", "scratch"}
    for name in plan.configurations:
        decisions = plan.decisions | plan.configuration_decisions(name)
        assert set(decisions) == set(PLAN_KEYS) | set(SPLIT_KEYS)
        for key, decision in decisions.items():
            assert len(decision.because) > 10, key
            assert "{" not in decision.because
            assert "\n" not in decision.because
            assert decision.rule in (
                f"configuration {name}",
                f"{decision.rule.split('.')[0]}.{key}",
            )


@pytest.mark.parametrize(
    ("key", "numbers"),
    [
        ("slicing_axis", "3.00 x 1.00 x 1.00 mm"),
        ("views", "50%"),
        ("in_plane_spacing", "6 cases"),
        ("channel_layout", "3.00 mm"),
        ("backbone", "16 GiB"),
        ("lora_blocks", "16 GiB"),
        ("input_size", "200 pixels wide"),
        ("zoom", "200 pixels"),
        ("batch_size", "16 GiB"),
        ("steps", "120 labelled slices"),
        ("folds", "6 patients"),
        ("head", "11.2 pixels thick"),
    ],
)
def test_reasons_hold_the_numbers_they_were_made_from(key: str, numbers: str) -> None:
    assert numbers in decide(make_fingerprint())[key].because


def test_plan_does_not_depend_on_a_class_that_never_occurs() -> None:
    with_it = values(make_fingerprint(diameters={"organ": 40.0, "never": None}))
    without = values(make_fingerprint(diameters={"organ": 40.0, "other": 40.0}))
    # Labels by name are those of classes that occur.
    assert (with_it.pop("copied_labels"), without.pop("copied_labels")) == ((1,), (1, 2))
    assert with_it == without


def test_plan_of_data_without_labels() -> None:
    planned = values(
        make_fingerprint(diameters={"never": None}, foreground=None, labelled_slices=0)
    )
    assert planned["input_size"] == 224
    assert planned["steps"] == 1500
