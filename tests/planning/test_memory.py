"""What is given up, in which order, until a training step fits: with a made measure of its memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from samnet.core.machine import Machine
from samnet.fingerprint.records import Fingerprint
from samnet.plan.configuration import Configuration
from samnet.plan.plan import Decision
from samnet.planning.memory import usable_memory
from samnet.planning.planner import make_plan

Make = Callable[..., Fingerprint]
WEIGHTS = {"small": 0.1, "vit_b": 0.5, "vit_l": 1.5, "vit_h": 3.0}
BLOCKS = {"all": 1.0, "last_half": 0.6, "last_quarter": 0.4}


@dataclass
class Meter:
    """Weights, and for each image as many tokens as it has, for the blocks that keep them."""

    measured: list[Configuration] = field(default_factory=list)

    def __call__(
        self,
        configuration: Configuration,
        num_channels: int,
        num_outputs: int,
        has_regions: bool,
        device: str,
    ) -> float:
        self.measured.append(configuration)
        weights = WEIGHTS[configuration.backbone]
        if configuration.encoder_tuning == "frozen":
            return weights
        image = weights * (configuration.input_size / 224) ** 2
        kept = 0.2 if configuration.gradient_checkpointing else 1.0
        return weights + configuration.batch_size * image * kept * BLOCKS[configuration.lora_blocks]


def decide(
    made: Fingerprint, usable: float, name: str = "lora", device: str = "cuda", **settings: Any
) -> dict[str, Decision]:
    """The decisions of a configuration on a machine with so many GiB for tensors."""
    machine = machine_with(usable, device)
    return make_plan(made, machine, settings, Meter()).configuration_decisions(name)


def machine_with(usable: float, device: str = "cuda") -> Machine:
    machines = (Machine(device, hundredth / 100) for hundredth in range(20_000))
    return next(machine for machine in machines if usable_memory(machine) >= usable)


def choice(decisions: dict[str, Decision]) -> tuple:
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
def test_the_ladder(make_fingerprint: Make, usable: float, expected: tuple) -> None:
    assert choice(decide(make_fingerprint(diameters={"a": 20.0}), usable)) == expected


def test_more_memory_never_plans_less(make_fingerprint: Make) -> None:
    made = make_fingerprint(diameters={"a": 3.0})
    ladder = [choice(decide(made, usable)) for usable in (0.05, 0.2, 0.5, 1, 2, 4, 8, 16, 32)]
    pixels = [WEIGHTS[backbone] * size**2 for backbone, size, *_ in ladder]
    assert pixels == sorted(pixels)
    assert ladder[0][-1] == "frozen"
    assert ladder[-1][3:] == (False, "all", "lora")


def test_reasons_hold_what_was_measured(make_fingerprint: Make) -> None:
    made = make_fingerprint(diameters={"a": 20.0})
    roomy, halved, short = decide(made, 9.0), decide(made, 7.0), decide(made, 1.0)
    assert roomy["batch_size"].because.endswith("a step of 4 takes 8.5 of 11 GiB by a dry run")
    assert "would be 4; a step of 3 takes 6.5 of 8 GiB by a dry run" in halved["batch_size"].because
    assert (
        "without it a training step of 2 images would take 1.3 GiB"
        in short["gradient_checkpointing"].because
    )
    assert (
        "with more blocks a training step of 2 images would take 1.3 GiB"
        in short["lora_blocks"].because
    )
    assert "at the next size a training step of 2" in decide(made, 0.72)["input_size"].because
    assert "with a larger one a training step of 2" in decide(made, 0.45)["backbone"].because
    assert "with LoRA a training step of 2" in decide(made, 0.11)["encoder_tuning"].because


def test_what_is_set_stays_and_the_rest_gives_way(make_fingerprint: Make) -> None:
    made = make_fingerprint(diameters={"a": 20.0})
    settings = {"batch_size": 4, "backbone": "vit_b", "input_size": 448}
    assert choice(decide(made, 5.0, **settings)) == ("vit_b", 448, 4, True, "all", "lora")
    assert choice(decide(made, 1.5, **settings)) == ("vit_b", 448, 4, True, "last_half", "lora")
    assert choice(decide(made, 1.0, lora_blocks="all", **settings)) == (
        "vit_b",
        448,
        4,
        False,
        "all",
        "frozen",
    )


def test_a_published_configuration_keeps_its_values(make_fingerprint: Make) -> None:
    made = make_fingerprint()
    assert choice(decide(made, 100.0, "samed")) == ("vit_b", 512, 24, False, "all", "lora")
    assert choice(decide(made, 20.0, "samed")) == ("vit_b", 512, 24, True, "all", "lora")
    too_small = decide(made, 1.0, "samed")
    assert choice(too_small) == ("vit_b", 512, 24, True, "all", "lora")
    reason = too_small["gradient_checkpointing"].because
    assert "without it a training step of 24 images would take 63.2 GiB" in reason
    assert (
        "a step of 24 takes 13.0 of 2 GiB by a dry run, which is too much whatever is given up"
        in reason
    )


def test_where_nothing_is_left_to_choose_nothing_is_measured(make_fingerprint: Make) -> None:
    meter = Meter()
    settings = {"batch_size": 4, "backbone": "vit_b", "input_size": 448, "encoder_tuning": "frozen"}
    make_plan(make_fingerprint(), machine_with(1.0), settings, meter)
    tunings = {configuration.encoder_tuning for configuration in meter.measured}
    assert tunings == {
        "full",
        "lora",
    }  # of `full`, `scratch` and SAMed, whose checkpointing is open


def test_main_memory_is_shared_with_everything_else() -> None:
    assert (
        usable_memory(Machine("cpu", 16))
        < usable_memory(Machine("mps", 16))
        < usable_memory(Machine("cuda", 16))
        < 16
    )
    assert usable_memory(Machine("cpu", 1)) == 0


def test_without_a_measure_what_is_wanted_is_planned(make_fingerprint: Make) -> None:
    plan = make_plan(make_fingerprint(diameters={"a": 20.0}), Machine("cuda", 1))
    decisions = plan.configuration_decisions("lora")
    assert choice(decisions) == ("vit_b", 448, 4, False, "all", "lora")
    assert "its memory was not measured" in decisions["batch_size"].because
