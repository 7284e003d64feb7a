"""The main decisions of a plan on one screen."""

from __future__ import annotations

import dataclasses
import re

from builders.fingerprint import make_fingerprint
from builders.planned import CPU, plan_all

from samnet.core.tables import WIDTH
from samnet.dataset.label_scheme import LabelScheme
from samnet.planning.overview import order_configurations, overview
from samnet.planning.planner import make_plan


def test_overview_fits_the_screen_with_every_configuration() -> None:
    fingerprint = make_fingerprint()
    text = overview(plan_all(fingerprint, CPU), fingerprint)
    assert max(map(len, text.splitlines())) <= WIDTH
    for name in order_configurations(plan_all(fingerprint, CPU)):
        assert f" {name}" in text


def test_overview_shows_values_of_the_plan_side_by_side() -> None:
    fingerprint = make_fingerprint()
    plan = make_plan(fingerprint, CPU)
    lines = overview(plan, fingerprint).splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines if line}
    names = order_configurations(plan)
    assert names[0] == "lora"
    assert rows["lora"] == names[1:]
    steps = [str(plan.configuration_decisions(name)["steps"].value) for name in names]
    assert rows["steps"] == steps
    ranks = dict(zip(names, rows["lora_rank"], strict=True))
    assert ranks["lora"] == str(plan.configuration_decisions("lora")["lora_rank"].value)
    assert ranks["frozen"] == "-"
    assert len(lines) < 25


def test_overview_shows_the_requested_configurations_alone() -> None:
    fingerprint = make_fingerprint()
    text = overview(make_plan(fingerprint, CPU), fingerprint, ["frozen"])
    assert "frozen" in text
    assert "scratch" not in text


def test_overview_shortens_long_lists_of_names() -> None:
    labels = {"background": 0} | {f"a structure with a long name {n}": n for n in range(1, 30)}
    fingerprint = dataclasses.replace(
        make_fingerprint(diameters={name: 10.0 for name in labels if name != "background"}),
        label_scheme=LabelScheme(labels),
    )
    text = overview(make_plan(fingerprint, CPU), fingerprint)
    assert re.search(r"29 classes \(a structure with a long name 1,\s+[^)]*\.\.\.\)", text)
    assert max(map(len, text.splitlines())) <= WIDTH
