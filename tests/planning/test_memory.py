"""What is given up, in which order, until a training step fits: with a synthetic meter."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from builders.fingerprint import make_fingerprint
from builders.planned import plan_all

from samnet.core.machine import Machine
from samnet.dataset.label_scheme import LabelScheme
from samnet.fingerprint.records import Fingerprint
from samnet.plan.configuration import Configuration
from samnet.plan.plan import Decision
from samnet.planning.memory import usable_memory
from samnet.planning.planned_step import PlannedStep
from samnet.planning.planner import all_decisions, make_plan, on_command_line

WEIGHTS = {"small": 0.1, "vit_b": 0.5, "vit_l": 1.5, "vit_h": 3.0}
BLOCKS = {"all": 1.0, "last_half": 0.6, "last_quarter": 0.4}


@dataclass
class Meter:
    """Counts the weights, and the tokens of each image for the blocks that keep them."""

    measured: list[Configuration] = field(default_factory=list)

    def __call__(self, step: PlannedStep) -> float:
        configuration = step.configuration
        self.measured.append(configuration)
        weights = WEIGHTS[configuration.backbone]
        if configuration.encoder_tuning == "frozen":
            return weights
        image = weights * (configuration.input_size / 224) ** 2
        kept = 0.2 if configuration.gradient_checkpointing else 1.0
        return weights + configuration.batch_size * image * kept * BLOCKS[configuration.lora_blocks]


def decide(
    fingerprint: Fingerprint,
    usable: float,
    name: str = "lora",
    device: str = "cuda",
    **settings: Any,
) -> dict[str, Decision]:
    """The decisions of a configuration on a machine with `usable` GiB for tensors."""
    machine = machine_with_usable(usable, device)
    return plan_all(fingerprint, machine, settings, Meter()).configuration_decisions(name)


def machine_with_usable(usable: float, device: str = "cuda") -> Machine:
    machines = (Machine(device, hundredth / 100) for hundredth in range(20_000))
    return next(machine for machine in machines if usable_memory(machine) >= usable)


def values_of(decisions: dict[str, Decision]) -> tuple:
    """The values that depend on the memory."""
    keys = (
        "backbone",
        "input_size",
        "batch_size",
        "gradient_checkpointing",
        "lora_blocks",
        "encoder_tuning",
    )
    return tuple(decisions[key].value for key in keys)


@pytest.mark.parametrize(
    ("usable", "expected"),
    [
        (9.0, ("vit_b", 448, 4, False, "all", "lora")),  # 0.5 + 4 * 2
        (7.0, ("vit_b", 448, 3, False, "all", "lora")),
        (5.0, ("vit_b", 448, 2, False, "all", "lora")),
        (2.2, ("vit_b", 448, 4, True, "all", "lora")),
        (1.5, ("vit_b", 448, 2, True, "all", "lora")),
        (1.0, ("vit_b", 448, 2, True, "last_half", "lora")),
        (0.85, ("vit_b", 448, 2, True, "last_quarter", "lora")),
        (0.72, ("vit_b", 224, 2, True, "all", "lora")),
        (0.45, ("small", 448, 4, True, "all", "lora")),
        (0.11, ("small", 448, 4, False, "all", "frozen")),
        (0.01, ("small", 224, 2, False, "all", "frozen")),
    ],
    ids=str,
)
def test_levels_of_memory_in_their_order(usable: float, expected: tuple) -> None:
    assert values_of(decide(make_fingerprint(diameters={"a": 20.0}), usable)) == expected


def test_more_memory_never_plans_less() -> None:
    fingerprint = make_fingerprint(diameters={"a": 3.0})
    memories = (0.05, 0.2, 0.5, 1, 2, 4, 8, 16, 32)
    levels = [values_of(decide(fingerprint, usable)) for usable in memories]
    pixels = [WEIGHTS[backbone] * size**2 for backbone, size, *_ in levels]
    assert pixels == sorted(pixels)
    assert levels[0][-1] == "frozen"
    assert levels[-1][3:] == (False, "all", "lora")


def test_reasons_of_memory_hold_what_was_measured() -> None:
    fingerprint = make_fingerprint(diameters={"a": 20.0})

    def reason(key: str, usable: float) -> str:
        return decide(fingerprint, usable)[key].because

    assert reason("batch_size", 9.0).endswith("a step of 4 takes 8.5 of 11 GiB by a dry run")
    fewer = "would be 4; a step of 3 takes 6.5 of 8 GiB by a dry run"
    assert fewer in reason("batch_size", 7.0)
    refused = "a training step of 2 images would take 1.3 GiB"
    assert f"without it {refused}" in reason("gradient_checkpointing", 1.0)
    assert f"with more blocks {refused}" in reason("lora_blocks", 1.0)
    assert "at the next size a training step of 2" in reason("input_size", 0.72)
    assert "with a larger one a training step of 2" in reason("backbone", 0.45)
    assert "with LoRA a training step of 2" in reason("encoder_tuning", 0.11)


@pytest.mark.parametrize(
    ("usable", "settings", "expected"),
    [
        (5.0, {}, ("vit_b", 448, 4, True, "all", "lora")),
        (1.5, {}, ("vit_b", 448, 4, True, "last_half", "lora")),
        (1.0, {"lora_blocks": "all"}, ("vit_b", 448, 4, False, "all", "frozen")),
    ],
    ids=str,
)
def test_set_values_stay_and_the_others_fit_the_memory(
    usable: float, settings: dict, expected: tuple
) -> None:
    settings = {"batch_size": 4, "backbone": "vit_b", "input_size": 448} | settings
    planned = decide(make_fingerprint(diameters={"a": 20.0}), usable, **settings)
    assert values_of(planned) == expected


def test_published_configuration_keeps_its_values_with_little_memory() -> None:
    fingerprint = make_fingerprint()
    roomy, smaller, too_small = (decide(fingerprint, gib, "samed") for gib in (100.0, 20.0, 1.0))
    assert values_of(roomy) == ("vit_b", 512, 24, False, "all", "lora")
    assert values_of(smaller) == ("vit_b", 512, 24, True, "all", "lora")
    assert values_of(too_small) == ("vit_b", 512, 24, True, "all", "lora")
    reason = too_small["gradient_checkpointing"].because
    assert "without it a training step of 24 images would take 63.2 GiB" in reason
    assert (
        "a step of 24 takes 13.0 of 2 GiB by a dry run, which is too much whatever is given up"
        in reason
    )


class Estimator(Meter):
    """Estimates twice what a step takes, and knows the steps of the small backbone."""

    def estimate(self, step: PlannedStep) -> float | None:
        if step.configuration.backbone == "small":
            return None
        return 2 * Meter()(step)


@pytest.mark.parametrize(("usable", "is_measured"), [(17.5, False), (16.0, True), (2.0, True)])
def test_memory_is_measured_only_where_an_estimate_does_not_fit(
    usable: float, is_measured: bool
) -> None:
    """A step of `lora` takes 8.5 GiB here."""
    fingerprint, machine = make_fingerprint(diameters={"a": 20.0}), machine_with_usable(usable)
    settings = {"encoder_tuning": "lora", "backbone": "vit_b", "input_size": 448}
    meter = Estimator()
    found = make_plan(fingerprint, machine, settings, meter).configuration_decisions("lora")
    of_lora = [step for step in meter.measured if step.initial_weights == "pretrained"]
    assert bool(of_lora) == is_measured
    expected = make_plan(fingerprint, machine, settings, Meter()).configuration_decisions("lora")
    assert {key: entry.value for key, entry in found.items()} == {
        key: entry.value for key, entry in expected.items()
    }
    outcome = "GiB by a dry run" if is_measured else "takes at most 17.0 of"
    assert outcome in found["batch_size"].because


def test_memory_that_is_known_is_not_estimated() -> None:
    meter = Estimator()
    plan = make_plan(make_fingerprint(), Machine("cpu", 64), {"backbone": "small"}, meter)
    assert meter.measured
    reason = plan.configuration_decisions("lora")["batch_size"].because
    assert reason.endswith("of 64 GiB by a dry run")


def test_memory_is_not_measured_where_everything_is_fixed() -> None:
    meter = Meter()
    settings = {"batch_size": 4, "backbone": "vit_b", "input_size": 448, "encoder_tuning": "frozen"}
    plan_all(make_fingerprint(), machine_with_usable(1.0), settings, meter)
    tunings = {configuration.encoder_tuning for configuration in meter.measured}
    # Those of `full`, `scratch` and SAMed, whose checkpointing is open.
    assert tunings == {"full", "lora"}


@pytest.mark.parametrize(
    ("device", "memory", "usable"),
    [
        ("cuda", 8, 6.67),  # (8 - 0.75) * 0.92
        ("cuda", 24, 21.39),
        ("mps", 16, 9.8),  # (16 - 2) * 0.7
        ("cpu", 16, 8.4),  # (16 - 2) * 0.6: it is shared with the system and the workers
        ("cpu", 1, 0),
    ],
)
def test_usable_memory_is_what_system_and_kernels_leave(
    device: str, memory: float, usable: float
) -> None:
    assert usable_memory(Machine(device, memory)) == pytest.approx(usable)


def test_without_a_meter_memory_limits_nothing() -> None:
    plan = make_plan(make_fingerprint(diameters={"a": 20.0}), Machine("cuda", 1))
    decisions = plan.configuration_decisions("lora")
    assert values_of(decisions) == ("vit_b", 448, 4, False, "all", "lora")
    assert "its memory was not measured" in decisions["batch_size"].because


@pytest.mark.parametrize(
    ("device", "total", "usable"),
    [
        ("cuda", 0.75, 0.0),
        ("cuda", 16.0, 14.03),
        ("cuda", 80.0, 72.91),
        ("mps", 16.0, 9.8),
        ("cpu", 2.0, 0.0),
        ("cpu", 16.0, 8.4),
    ],
)
def test_usable_memory_is_a_share_of_what_is_not_reserved(
    device: str, total: float, usable: float
) -> None:
    assert usable_memory(Machine(device, total)) == pytest.approx(usable)


def test_step_that_just_fits_is_planned_and_one_above_is_not() -> None:
    """A step of 4 images of 448 pixels takes 8.5 GiB."""
    fingerprint = make_fingerprint(diameters={"a": 20.0})
    assert decide(fingerprint, 8.5)["batch_size"].value == 4
    assert decide(fingerprint, 8.48)["batch_size"].value == 3


@pytest.mark.parametrize(
    ("machine", "settings", "measured"),
    [
        (Machine("cpu", 16), {"precision": "bfloat16"}, "float32"),
        (Machine("cpu", 16, True), {}, "bfloat16"),
        (Machine("cpu", 16, True), {"precision": "float32"}, "float32"),
        (Machine("cuda", 16), {}, "bfloat16"),
    ],
    ids=["CPU without units", "CPU", "CPU, single precision set", "GPU"],
)
def test_step_is_measured_in_the_precision_in_which_the_machine_computes_it(
    machine: Machine, settings: dict[str, str], measured: str
) -> None:
    meter, fingerprint = Meter(), make_fingerprint(diameters={"a": 20.0})
    decisions = all_decisions("lora", fingerprint, machine, on_command_line(settings), meter)
    assert decisions["precision"].value == settings.get("precision", measured)
    assert {configuration.precision for configuration in meter.measured} == {measured}


def test_step_is_measured_with_the_channels_and_outputs_of_the_data_on_the_planned_device() -> None:
    given = set()

    def measure(step: PlannedStep) -> float:
        given.add((step.num_channels, step.num_outputs, step.has_regions, step.device))
        return 1.0

    labels = {"background": 0, "whole": (1, 2), "core": 2}
    regions = LabelScheme(labels, regions_class_order=(1, 2))
    fingerprint = make_fingerprint(channels=("T1", "T2"), diameters={"whole": 40.0, "core": 20.0})
    make_plan(fingerprint, Machine("cuda", 16), measure=measure)
    assert given == {(2, 3, False, "cuda")}
    given.clear()
    of_regions = make_fingerprint(diameters={"whole": 40.0, "core": 20.0})
    make_plan(replace(of_regions, label_scheme=regions), Machine("cpu", 16), measure=measure)
    assert given == {(1, 2, True, "cpu")}
