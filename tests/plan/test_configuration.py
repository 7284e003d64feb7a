"""The declarations of all keys of a plan."""

from __future__ import annotations

import dataclasses

import pytest
from builders.tiny import VALUES, add_tiny_backbone

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
