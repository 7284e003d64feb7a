from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders.fingerprint import make_fingerprint
from builders.planned import plan_all

from samnet.core.machine import Machine
from samnet.plan.plan import Plan

Edit = Callable[[Callable[[dict], Any]], Plan]


@pytest.fixture
def plan() -> Plan:
    return plan_all(make_fingerprint(), Machine("cuda", 16))


@pytest.fixture
def edit(plan: Plan, tmp_path: Path) -> Edit:
    """Save the plan, change the parsed JSON with a function, and load it again."""

    def save_and_load(change: Callable[[dict], Any]) -> Plan:
        file = tmp_path / "samnetPlans.json"
        plan.save(file)
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))
        return Plan.load(file)

    return save_and_load
