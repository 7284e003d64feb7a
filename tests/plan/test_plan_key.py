"""The declaration of a key: what it says, and how it checks a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_type_hints

import pytest

from samnet.core.errors import UserError
from samnet.plan.plan_key import PlanKey, Role, Scope, declared_keys, plan_key

ALLOWED = {"red": "stop", "green": "go"}


def allowed() -> tuple[str, ...]:
    return tuple(ALLOWED)


@dataclass(frozen=True)
class Declared:
    """A record whose fields are declared as the keys of a plan are."""

    count: int = plan_key("how many", Role.NONE, group="first", limits=(1, None), possible="from 1")
    share: float = plan_key("how much", Role.MEMORY, group="first", limits=(0, 0.5))
    colour: str = plan_key(
        "which", Role.RESUMABLE | Role.FOLDS, group="second", choices=allowed, scope=Scope.DATASET
    )
    sides: tuple[str, ...] = plan_key(
        "where",
        Role.EMBEDDINGS,
        group="second",
        choices=("left", "right"),
        is_valid=bool,
        possible="a list of sides",
    )


KEYS = declared_keys(Declared, get_type_hints(Declared))


def test_declared_keys_hold_the_declaration_of_each_field_in_order() -> None:
    assert list(KEYS) == ["count", "share", "colour", "sides"]
    assert all(isinstance(key, PlanKey) for key in KEYS.values())
    assert [key.name for key in KEYS.values()] == list(KEYS)
    assert [key.kind for key in KEYS.values()] == [int, float, str, tuple[str, ...]]
    assert [key.group for key in KEYS.values()] == ["first", "first", "second", "second"]
    assert KEYS["count"].meaning == "how many"
    assert KEYS["count"].possible == "from 1"
    assert (KEYS["count"].lowest, KEYS["count"].highest) == (1, None)
    assert (KEYS["colour"].lowest, KEYS["colour"].highest) == (None, None)


def test_plan_key_is_decided_for_a_configuration_by_default() -> None:
    assert KEYS["count"].scope is Scope.CONFIGURATION
    assert KEYS["colour"].scope is Scope.DATASET


def test_plan_key_needs_a_role() -> None:
    with pytest.raises(TypeError, match="role"):
        plan_key("how many", group="first")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("count", 1),
        ("count", 10**9),
        ("share", 0.0),
        ("share", 0.5),
        ("colour", "green"),
        ("sides", ("left",)),
        ("sides", ("right", "left")),
    ],
)
def test_plan_key_accepts_an_allowed_value(key: str, value: Any) -> None:
    KEYS[key].check(value, "here")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("count", 0, "here: count is 0; it has to be at least 1"),
        ("share", 0.6, "here: share is 0.6; it has to be from 0 to 0.5"),
        ("share", float("nan"), "here: share is nan; it has to be from 0 to 0.5"),
        ("colour", "blue", "here: colour is 'blue'; possible are red, green"),
        ("sides", ("left", "top"), "here: sides is 'top'; possible are left, right"),
        ("sides", (), r"here: sides is \[\]; it has to be a list of sides"),
    ],
)
def test_plan_key_refuses_another_value_and_says_what_is_allowed(
    key: str, value: Any, message: str
) -> None:
    with pytest.raises(UserError, match=f"^{message}$"):
        KEYS[key].check(value, "here")


def test_plan_key_refuses_infinity_where_there_is_no_upper_limit() -> None:
    with pytest.raises(UserError, match="count is inf; it has to be at least 1"):
        KEYS["count"].check(float("inf"), "here")


def test_plan_key_reads_its_choices_when_it_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError):
        KEYS["colour"].check("blue", "here")
    monkeypatch.setitem(ALLOWED, "blue", "a key that was added")
    KEYS["colour"].check("blue", "here")
