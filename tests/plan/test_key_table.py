"""The page docs/plan_values.md is generated from the declarations of the keys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from samnet.plan.configuration import GROUPS, PLAN_KEYS
from samnet.plan.key_table import key_table
from samnet.plan.plan_key import Role

PAGE = Path(__file__).parents[2] / "docs" / "plan_values.md"


def cells_of(key: str) -> list[str]:
    """The cells of the row of a key."""
    [row] = re.findall(rf"^\| `{key}` \|.*\|$", key_table(), re.MULTILINE)
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_page_of_plan_values_is_the_generated_one() -> None:
    is_current = PAGE.read_text(encoding="utf-8") == key_table()
    assert is_current, f"{PAGE} differs from the declarations of the keys; run make docs"


@pytest.mark.parametrize("key", PLAN_KEYS)
def test_key_table_has_one_full_row_for_each_key(key: str) -> None:
    name, meaning, values, scope, dependents = cells_of(key)
    declared = PLAN_KEYS[key]
    assert name == f"`{key}`"
    assert meaning == declared.meaning
    assert values
    assert scope == declared.scope.value
    roles = [role for role in Role if role in declared.role and role is not Role.NONE]
    assert dependents == ", ".join(str(role.name).lower() for role in roles)


def test_key_table_has_a_heading_for_each_group() -> None:
    assert tuple(re.findall(r"^## (.*)$", key_table(), re.MULTILINE)) == GROUPS
