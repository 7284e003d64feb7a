"""The rules for encoder, input size, zoom and head."""

from __future__ import annotations

from typing import Any

import pytest
from builders.fingerprint import make_fingerprint
from builders.planned import CPU, GPU, decide, plan_all, values

from samnet.core.machine import Machine
from samnet.planning.planned_step import PlannedStep
from samnet.planning.planner import make_plan


@pytest.mark.parametrize(
    ("machine", "backbone", "precision", "largest_input"),
    [
        (Machine("cpu", 64), "small", "float32", 448),
        (Machine("cpu", 64, True), "small", "bfloat16", 448),
        (Machine("cuda", 16), "vit_b", "bfloat16", 896),
        (Machine("cuda", 32), "vit_b", "bfloat16", 896),
        (Machine("cuda", 38.9), "vit_b", "bfloat16", 896),
        (Machine("cuda", 39.0), "vit_l", "bfloat16", 896),
        (Machine("cuda", 39.4), "vit_l", "bfloat16", 896),
        (Machine("cuda", 80), "vit_l", "bfloat16", 896),
        (Machine("mps", 16), "vit_b", "float32", 896),
    ],
    ids=str,
)
def test_network_and_precision_depend_on_the_machine(
    machine: Machine, backbone: str, precision: str, largest_input: int
) -> None:
    planned = values(make_fingerprint(shape=(40, 1500, 1500)), machine)
    assert planned["backbone"] == backbone
    assert planned["lora_blocks"] == "all"
    assert planned["precision"] == precision
    assert planned["input_size"] == largest_input
    assert planned["initial_weights"] == "pretrained"
    assert planned["encoder_tuning"] == "lora"
    assert planned["lora_rank"] == (16 if backbone == "small" else 4)


@pytest.mark.parametrize(
    ("diameter", "size"), [(40.0, 224), (20.0, 448), (12.0, 672), (4.0, 896), (0.5, 896)]
)
def test_input_size_grows_for_small_structures(diameter: float, size: int) -> None:
    """On a slice of 200 pixels, the smallest class is to cover 32 input pixels."""
    planned = values(make_fingerprint(diameters={"large": 90.0, "small": diameter}))
    assert planned["input_size"] == size
    assert planned["zoom"] == pytest.approx(size / 200, abs=1e-3)


def test_zoom_enlarges_a_small_field_of_view() -> None:
    """The hippocampus crops: 35 x 50 pixels fill the input.

    The input is half a window where the backbone was trained for that.
    """
    fingerprint = make_fingerprint(
        shape=(35, 50, 36), spacing=(1.0, 1.0, 1.0), diameters={"anterior": 15.0}
    )
    small, vit_b = values(fingerprint, CPU), values(fingerprint, CPU, backbone="vit_b")
    assert (small["input_size"], small["zoom"], small["batch_size"]) == (112, 2.24, 8)
    assert (vit_b["input_size"], vit_b["zoom"], vit_b["batch_size"]) == (224, 4.48, 8)


@pytest.mark.parametrize(
    ("edge", "diameter", "size"), [(74, 15.0, 112), (75, 15.0, 224), (50, 1.8, 112), (50, 1.7, 448)]
)
def test_input_size_is_half_a_window_where_nothing_is_lost(
    edge: int, diameter: float, size: int
) -> None:
    fingerprint = make_fingerprint(
        shape=(35, edge, 36), spacing=(1.0, 1.0, 1.0), diameters={"anterior": diameter}
    )
    assert values(fingerprint, CPU)["input_size"] == size


def test_zoom_of_slices_of_many_sizes_is_that_of_the_median() -> None:
    shapes = ((40, 200, 100), (40, 220, 100), (40, 600, 500))
    planned = decide(make_fingerprint(shapes=shapes))
    assert planned["zoom"].value == pytest.approx(224 / 220, abs=1e-3)
    assert "tiled" in planned["zoom"].because


@pytest.mark.parametrize(
    ("machine", "thickness", "head"),
    [
        (GPU, 40.0, "mask_decoder"),
        (GPU, 2.0, "upsampling"),
        (CPU, 40.0, "upsampling"),
        (CPU, 2.0, "upsampling"),
    ],
)
def test_head_is_upsampling_for_thin_structures_and_the_small_backbone(
    machine: Machine, thickness: float, head: str
) -> None:
    assert values(make_fingerprint(thickness=thickness), machine)["head"] == head


def test_head_of_a_frozen_encoder_is_convolutional() -> None:
    assert values(make_fingerprint(), encoder_tuning="frozen")["head"].startswith("cnn")


def test_head_of_enlarged_slices_has_no_finer_output() -> None:
    fingerprint = make_fingerprint(
        shape=(35, 50, 36), spacing=(1.0, 1.0, 1.0), diameters={"anterior": 15.0}
    )
    assert values(fingerprint, CPU, input_size=224)["head"] == "upsampling_quarter"


@pytest.mark.parametrize(
    ("labelled_slices", "machine", "given", "depth"),
    [
        ((9, 60, 60), GPU, {}, 3),
        ((9, 60, 60), CPU, {}, 3),
        (20, GPU, {}, 1),
        ((9, 60, 60), GPU, {"views": [0]}, 1),
        ((9, 60, 60), GPU, {"encoder_tuning": "frozen"}, 1),
        ((9, 60, 60), GPU, {"depth": 5}, 5),
    ],
    ids=["small", "without a GPU", "all around", "one view", "frozen", "requested"],
)
def test_slices_come_in_stacks_where_structures_have_look_alikes(
    labelled_slices: Any, machine: Machine, given: dict[str, Any], depth: int
) -> None:
    fingerprint = make_fingerprint(labelled_slices=labelled_slices)
    assert values(fingerprint, machine, **given)["depth"] == depth


def test_stacks_are_given_up_before_gradients_are_checkpointed() -> None:
    """A step of 2 stacks takes more than there is, one of 2 slices does not."""
    fingerprint = make_fingerprint(labelled_slices=(9, 60, 60))

    def measure(step: PlannedStep) -> float:
        configuration = step.configuration
        return configuration.depth * configuration.batch_size * 2.0

    planned = make_plan(fingerprint, Machine("cuda", 12), measure=measure).configuration("lora")
    assert (planned.depth, planned.batch_size, planned.gradient_checkpointing) == (1, 5, False)


def test_steps_count_the_slices_of_stacks() -> None:
    fingerprint = make_fingerprint(labelled_slices=(20, 60, 60))
    stacks = values(fingerprint, depth=3)
    assert stacks["steps"] == 60 * 140 * len(fingerprint.cases) // (3 * stacks["batch_size"])


@pytest.mark.parametrize(("depth", "batch_size"), [(1, 16), (3, 5), (5, 3)])
def test_a_batch_of_stacks_has_about_as_many_slices(depth: int, batch_size: int) -> None:
    large = {"large": 90.0}
    planned = values(make_fingerprint(diameters=large), Machine("cuda", 16), depth=depth)
    assert planned["batch_size"] == batch_size


@pytest.mark.parametrize(("depth", "tuning"), [(1, "frozen"), (3, "lora")])
def test_encoder_is_not_frozen_for_memory_where_stacks_are_requested(
    depth: int, tuning: str
) -> None:
    """A step that fits nowhere is planned with the least, not with values that contradict."""
    plan = plan_all(make_fingerprint(), GPU, {"depth": depth}, lambda step: 1e6)
    assert plan.configuration("lora").encoder_tuning == tuning
    assert plan.configuration("lora").depth == depth
