"""The declarations of all keys of a plan."""

from __future__ import annotations

import dataclasses
import math

import pytest
from builders.tiny import VALUES, add_tiny_backbone

from samnet.core.errors import UserError
from samnet.plan.checks import check_value
from samnet.plan.configuration import GROUPS, PLAN_KEYS, Configuration, keys_with
from samnet.plan.plan_key import Role, Scope


def test_plan_keys_are_the_fields_of_a_configuration() -> None:
    assert list(PLAN_KEYS) == [field.name for field in dataclasses.fields(Configuration)]


@pytest.mark.parametrize("key", PLAN_KEYS)
def test_plan_key_is_declared_completely(key: str) -> None:
    declared = PLAN_KEYS[key]
    assert declared.name == key
    assert declared.group in GROUPS
    assert isinstance(declared.scope, Scope)
    assert isinstance(declared.role, Role)
    assert declared.meaning
    assert not declared.meaning.endswith(".")
    assert declared.possible or declared.choices is not None


def test_every_group_of_plan_keys_has_keys() -> None:
    assert {declared.group for declared in PLAN_KEYS.values()} == set(GROUPS)


@pytest.mark.parametrize("key", PLAN_KEYS)
def test_plan_key_accepts_a_usual_value(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    add_tiny_backbone(monkeypatch)
    assert check_value(key, VALUES[key], "here") == VALUES[key]


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.NONE], ids=str)
def test_keys_with_a_role_are_in_the_declared_order(role: Role) -> None:
    keys = keys_with(role)
    assert keys
    assert list(keys) == [key for key in PLAN_KEYS if role in PLAN_KEYS[key].role]


# Key -> smallest and largest number that may be set; None for any.
LIMITS = {
    "slicing_axis": (0, 2),
    "in_plane_spacing": (1e-6, None),
    "lora_rank": (1, 1024),
    "lora_scale": (0.0, None),
    "depth": (1, 5),
    "depth_adapters": (1, 2),
    "input_size": (16, 4096),
    "zoom": (1e-3, 1e3),
    "batch_size": (1, None),
    "steps": (1, None),
    "steps_per_epoch": (1, None),
    "patience": (0, None),
    "learning_rate": (1e-12, None),
    "warmup_steps": (0, None),
    "weight_decay": (0.0, None),
    "decay_power": (0.0, None),
    "decay_share": (0.0, 1.0),
    "gradient_clip": (0.0, None),
    "cross_entropy_weight": (0.0, None),
    "dice_weight": (0.0, None),
    "foreground_share": (0.0, 1.0),
    "structure_copying": (0.0, 1.0),
    "weight_average": (0.0, 0.99999),
    "unlabelled_weight": (0.0, None),
    "unlabelled_share": (0.01, 100.0),
    "registered_cases": (0, None),
    "tile_overlap": (0.0, 0.9),
}


def test_every_number_has_limits() -> None:
    numbers = {name for name, declared in PLAN_KEYS.items() if declared.kind in (int, float)}
    assert numbers == set(LIMITS)


@pytest.mark.parametrize("key", LIMITS)
def test_number_may_be_set_up_to_its_limits_and_not_beyond(key: str) -> None:
    lowest, highest = LIMITS[key]
    is_whole = PLAN_KEYS[key].kind is int
    for limit, direction in ((lowest, -1), (highest, 1)):
        if limit is None:
            assert check_value(key, 10**9, "here") == 10**9
            continue
        assert check_value(key, limit, "here") == limit
        beyond = limit + direction if is_whole else math.nextafter(limit, direction * math.inf)
        with pytest.raises(UserError, match=f"here: {key} is "):
            check_value(key, beyond, "here")
