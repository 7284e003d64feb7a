"""The plan as a table that a person can read."""

from __future__ import annotations

import dataclasses
import re

from builders.fingerprint import make_fingerprint
from builders.planned import plan_all

from samnet.core.machine import Machine
from samnet.dataset.label_scheme import LabelScheme
from samnet.planning.explain import explain
from samnet.planning.overview import overview
from samnet.planning.planner import make_plan

GPU = Machine("cuda", 16)


def test_explanation_holds_every_value_and_then_what_differs_in_other_configurations() -> None:
    plan = make_plan(make_fingerprint(), GPU)
    text = explain(plan, make_fingerprint())
    assert text.startswith("Dataset500_Synthetic, planned for cuda with 16 GiB")
    first, lora, *others = re.split(r"^configuration ", text, flags=re.MULTILINE)
    assert lora.startswith("lora")
    for key, decision in (plan.decisions | plan.configuration_decisions("lora")).items():
        assert len(re.findall(rf"^  {key} = ", first + lora, re.MULTILINE)) == 1
        assert f"[{decision.rule}]" in text
    [scratch] = [section for section in others if section.startswith("scratch")]
    assert "as lora, except" in scratch
    assert "initial_weights = random" in scratch
    assert "lora_rank = " not in scratch


def test_explanation_of_regions_says_what_is_written_for_them() -> None:
    """One region lies within the other."""
    scheme = LabelScheme({"background": 0, "whole tumour": (1, 2), "core": 2}, 3, (1, 2))
    fingerprint = make_fingerprint(diameters={"whole tumour": 30.0, "core": 6.0})
    fingerprint = dataclasses.replace(fingerprint, label_scheme=scheme)
    text = explain(make_plan(fingerprint, GPU), fingerprint)
    assert "  whole tumour = 1, 2, written as 1\n  core = 2, written as 2\n" in text
    assert "because binary cross-entropy and Dice of each region" in text
    assert "the smallest class 'core'" in text


def test_explanation_without_regions_writes_none() -> None:
    plan = make_plan(make_fingerprint(), GPU)
    assert "written as" not in explain(plan, make_fingerprint())


def test_explanation_lists_what_can_be_planned_on_request() -> None:
    fingerprint = make_fingerprint()
    last = explain(make_plan(fingerprint, GPU, requested=["samed"]), fingerprint).splitlines()[-1]
    assert last == (
        "planned when they are trained, or with -c: autosam, autosam_cnn, autosam_linear, ma_sam, "
        "samed_h, samed_s"
    )
    assert "planned when" not in explain(plan_all(fingerprint, GPU), fingerprint)


def test_explanation_of_one_configuration_begins_with_its_overview_and_leaves_out_others() -> None:
    fingerprint = make_fingerprint()
    plan = make_plan(fingerprint, GPU)
    text = explain(plan, fingerprint, ["frozen"])
    assert text.startswith(overview(plan, fingerprint, ["frozen"]))
    assert re.findall(r"^configuration (\w+):", text, re.MULTILINE) == ["frozen"]
    assert "  encoder_tuning = frozen\n" in text
    assert "  backbone = vit_b\n" in text
    assert "would be" in text
