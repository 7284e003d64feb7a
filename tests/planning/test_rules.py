"""Every rule by itself, through the plan of a made data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from samnet.core.machine import Machine
from samnet.fingerprint.records import Fingerprint
from samnet.plan.configuration import KEYS, IntensityWindow
from samnet.plan.plan import SPLIT_KEYS, Decision
from samnet.planning.planner import CONFIGURATION_RULES, DATASET_RULES, make_plan
from samnet.planning.presets import configuration_names
from samnet.planning.rules.slicing import find_left_right_pair

CPU = Machine("cpu", 8)
GPU = Machine("cuda", 16)
Make = Callable[..., Fingerprint]


def decide(
    fingerprint: Fingerprint, machine: Machine = GPU, **settings: Any
) -> dict[str, Decision]:
    """What `lora` and the splits are decided to be, by key."""
    plan = make_plan(fingerprint, machine, settings)
    return plan.decisions | plan.configuration_decisions("lora")


def values(fingerprint: Fingerprint, machine: Machine = GPU, **settings: Any) -> dict[str, Any]:
    return {
        key: decision.value for key, decision in decide(fingerprint, machine, **settings).items()
    }


def test_every_key_has_its_rule_and_no_rule_is_without_a_key() -> None:
    assert set(DATASET_RULES) | set(CONFIGURATION_RULES) == set(KEYS) | set(SPLIT_KEYS)
    assert not set(DATASET_RULES) & set(CONFIGURATION_RULES)


@pytest.mark.parametrize(
    "machine", [CPU, Machine("cuda", 4), GPU, Machine("cuda", 80), Machine("mps", 16)], ids=str
)
def test_every_decision_has_a_reason_and_a_rule(make_fingerprint: Make, machine: Machine) -> None:
    plan = make_plan(make_fingerprint(), machine)
    assert set(plan.configurations) == set(configuration_names()) >= {"lora", "full", "scratch"}
    for name in plan.configurations:
        decisions = plan.decisions | plan.configuration_decisions(name)
        assert set(decisions) == set(KEYS) | set(SPLIT_KEYS)
        for key, decision in decisions.items():
            assert len(decision.because) > 10, key
            assert "{" not in decision.because
            assert "\n" not in decision.because
            assert decision.rule in (
                f"configuration {name}",
                f"{decision.rule.split('.')[0]}.{key}",
            )


@pytest.mark.parametrize(
    ("key", "numbers"),
    [
        ("slicing_axis", "3.00 x 1.00 x 1.00 mm"),
        ("views", "50%"),
        ("in_plane_spacing", "6 cases"),
        ("channel_layout", "3.00 mm"),
        ("backbone", "16 GiB"),
        ("lora_blocks", "16 GiB"),
        ("input_size", "200 pixels wide"),
        ("zoom", "200 pixels"),
        ("batch_size", "16 GiB"),
        ("steps", "120 labelled slices"),
        ("folds", "6 patients"),
        ("head", "11.2 pixels thick"),
    ],
)
def test_reasons_hold_the_numbers_they_were_made_from(
    make_fingerprint: Make, key: str, numbers: str
) -> None:
    assert numbers in decide(make_fingerprint())[key].because


@pytest.mark.parametrize(
    ("spacing", "shape", "axis"),
    [
        ((3.0, 1.0, 1.0), (40, 200, 160), 0),
        ((1.0, 4.0, 1.0), (200, 40, 160), 1),
        ((0.5, 0.5, 5.0), (200, 160, 30), 2),
        ((1.0, 1.0, 1.0), (50, 35, 60), 1),
        ((1.4, 1.0, 1.0), (50, 60, 90), 1),
        ((1.0, 1.0, 1.0), (300, 200, 100), 2),
        ((1.0, 2.5, 2.5), (1, 200, 160), 0),
        ((2.5, 1.0, 2.5), (200, 1, 160), 1),
    ],
    ids=[
        "axial",
        "coronal",
        "sagittal",
        "isotropic",
        "nearly",
        "shortest",
        "flat, finer across",
        "flat coronal",
    ],
)
def test_slices_lie_across_the_coarsest_axis(
    make_fingerprint: Make, spacing: tuple, shape: tuple, axis: int
) -> None:
    planned = values(make_fingerprint(spacing=spacing, shape=shape))
    assert planned["slicing_axis"] == axis
    assert axis in planned["views"]


@pytest.mark.parametrize(
    ("spacing", "labelled_slices", "views"),
    [
        ((3.0, 1.0, 1.0), (20, 60, 60), (0, 1, 2)),
        ((1.0, 1.0, 1.0), (10, 40, 40), (0, 1, 2)),
        ((3.9, 1.0, 1.0), (20, 60, 60), (0, 1, 2)),
        ((4.1, 1.0, 1.0), (20, 60, 60), (0,)),
        ((3.0, 1.0, 1.0), (20, 104, 80), (0,)),
        ((3.0, 1.0, 1.0), (20, 96, 80), (0, 1, 2)),
        ((3.0, 1.0, 1.0), (40, 200, 160), (0,)),
        ((3.0, 1.0, 1.0), (0, 0, 0), (0,)),
    ],
    ids=[
        "small",
        "isotropic",
        "hardly squeezed",
        "squeezed",
        "over an eighth",
        "under it",
        "everywhere",
        "nowhere",
    ],
)
def test_small_structures_are_seen_from_three_sides(
    make_fingerprint: Make, spacing: tuple, labelled_slices: tuple, views: tuple
) -> None:
    assert (
        values(make_fingerprint(spacing=spacing, labelled_slices=labelled_slices))["views"] == views
    )


def test_slices_annotated_across_one_axis_are_one_view(make_fingerprint: Make) -> None:
    fingerprint = make_fingerprint(labelled_slices=(1, 60, 60))
    assert values(fingerprint)["views"] == (0, 1, 2)
    assert values(replace(fingerprint, ignore_label=2))["views"] == (0,)


def test_cases_without_labels_say_nothing_of_the_views(make_fingerprint: Make) -> None:
    fingerprint = make_fingerprint(labelled_slices=(20, 60, 60))
    empty = {
        name: replace(case, labelled_slices=(0, 0, 0))
        for name, case in list(fingerprint.cases.items())[:5]
    }
    assert values(replace(fingerprint, cases=fingerprint.cases | empty))["views"] == (0, 1, 2)


@pytest.mark.parametrize(
    ("spacing", "axis"), [((3.0, 1, 1), 0), ((1, 3.0, 1), 1), ((1, 1, 3.0), 2)]
)
def test_the_papers_systems_have_one_view(
    make_fingerprint: Make, spacing: tuple, axis: int
) -> None:
    plan = make_plan(make_fingerprint(spacing=spacing, labelled_slices=(9, 9, 9)), GPU)
    assert plan.configuration("lora").views == (0, 1, 2)
    papers = [name for name in configuration_names() if name.startswith(("samed", "autosam"))]
    assert len(papers) == 6
    assert {plan.configuration(name).views for name in papers} == {(axis,)}


def test_single_slices_are_one_view(make_fingerprint: Make) -> None:
    assert values(make_fingerprint(spacing=(1.0, 2.5, 2.5), shape=(1, 200, 160)))["views"] == (0,)


def test_pictures_have_one_view_and_no_spacing(make_fingerprint: Make) -> None:
    planned = values(
        make_fingerprint(file_ending=".png", shape=(1, 320, 260), spacing=(1.0, 1.0, 1.0))
    )
    assert (planned["slicing_axis"], planned["views"], planned["in_plane_spacing"]) == (
        0,
        (0,),
        1.0,
    )
    assert planned["channel_layout"] == "repeat"


def test_in_plane_spacing_is_the_median_of_the_two_axes_in_plane(make_fingerprint: Make) -> None:
    assert values(make_fingerprint(spacing=(5.0, 0.6, 0.8)))["in_plane_spacing"] == pytest.approx(
        0.7
    )
    assert values(make_fingerprint(spacing=(0.6, 0.6, 4.0)))["in_plane_spacing"] == pytest.approx(
        0.6
    )


@pytest.mark.parametrize(
    ("channels", "spacing", "layout"),
    [
        (("MRI",), (2.9, 1.0, 1.0), "neighbours"),
        (("MRI",), (3.1, 1.0, 1.0), "repeat"),
        (("T1", "T2"), (1.0, 1.0, 1.0), "pair_mean"),
        (("T1", "T2", "FLAIR"), (1.0, 1.0, 1.0), "as_is"),
        (("T1", "T1Gd", "T2", "FLAIR"), (1.0, 1.0, 1.0), "stem"),
    ],
)
def test_channel_layout(
    make_fingerprint: Make, channels: tuple, spacing: tuple, layout: str
) -> None:
    assert values(make_fingerprint(channels=channels, spacing=spacing))["channel_layout"] == layout


class TestIntensity:
    @staticmethod
    def windows(fingerprint: Fingerprint) -> tuple[IntensityWindow, ...]:
        return values(fingerprint)["intensity"]

    @pytest.mark.parametrize("name", ["CT", "ct", " CT ", "CTA", "cbct", "Computed Tomography"])
    def test_ct_is_known_by_its_name(self, make_fingerprint: Make, name: str) -> None:
        made = make_fingerprint(channels=(name,), values=(0, 255), foreground=(90.123, 180.0))
        assert self.windows(made) == (IntensityWindow("fixed", 90.123, 180.0),)

    @pytest.mark.parametrize(("lowest", "highest"), [(-1024, 3071), (-1000, 400), (-2048, 2000)])
    def test_ct_is_known_by_its_values(
        self, make_fingerprint: Make, lowest: float, highest: float
    ) -> None:
        made = make_fingerprint(channels=("scan",), values=(lowest, highest), foreground=(-20, 180))
        assert self.windows(made) == (IntensityWindow("fixed", -20.0, 180.0),)
        assert "look like HU" in decide(made)["intensity"].because

    @pytest.mark.parametrize("values", [(0, 4095), (-3, 900), (-800, 100), (-32768, 32767)])
    def test_other_values_are_no_ct(
        self, make_fingerprint: Make, values: tuple[float, float]
    ) -> None:
        made = make_fingerprint(channels=("scan",), values=values)
        assert self.windows(made) == (IntensityWindow("percentiles", 0.5, 99.5),)

    @pytest.mark.parametrize("foreground", [None, (0.0, 0.0), (50.0, 50.0), (50.0, 50.00001)])
    def test_ct_without_a_range_of_foreground_is_taken_image_by_image(
        self, make_fingerprint: Make, foreground: tuple[float, float] | None
    ) -> None:
        made = make_fingerprint(channels=("CT",), foreground=foreground)
        assert self.windows(made) == (IntensityWindow("percentiles", 0.5, 99.5),)

    def test_ct_of_small_numbers_keeps_its_digits(self, make_fingerprint: Make) -> None:
        made = make_fingerprint(
            channels=("CT",), values=(0, 1), foreground=(0.431, 0.4334), whole_numbers=False
        )
        assert self.windows(made) == (IntensityWindow("fixed", 0.431, 0.4334),)

    @pytest.mark.parametrize(
        ("values", "whole_numbers", "upper"),
        [
            ((0, 255), True, 255),
            ((0, 60000), True, 65535),
            ((0, 4000), True, 4095),
            ((0, 1), False, 1),
        ],
    )
    def test_colours_keep_their_range(
        self, make_fingerprint: Make, values: tuple[float, float], whole_numbers: bool, upper: float
    ) -> None:
        made = make_fingerprint(
            channels=("R", "G", "B"),
            file_ending=".png",
            values=values,
            whole_numbers=whole_numbers,
            shape=(1, 90, 90),
        )
        assert self.windows(made) == (IntensityWindow("fixed", 0.0, upper),) * 3

    def test_every_channel_has_its_own_window(self, make_fingerprint: Make) -> None:
        windows = self.windows(make_fingerprint(channels=("CT", "PET")))
        assert [window.scheme for window in windows] == ["fixed", "percentiles"]
        because = decide(make_fingerprint(channels=("CT", "PET")))["intensity"].because
        assert "CT: named CT" in because
        assert "PET: no fixed scale" in because


LEFT_RIGHT = [
    ("kidney_left", "kidney_right"),
    ("left_kidney", "right_kidney"),
    ("Left Kidney", "Right Kidney"),
    ("KidneyLeft", "KidneyRight"),
    ("LEFT KIDNEY", "RIGHT KIDNEY"),
    ("kidney_l", "kidney_r"),
    ("Kidney (L)", "Kidney (R)"),
    ("L_Kidney", "R_Kidney"),
    ("Optic Nerve L", "Optic Nerve R"),
    ("Parotid_Lt", "Parotid_Rt"),
    ("ctx-lh-bankssts", "ctx-rh-bankssts"),
    ("Left-Hippocampus", "Right-Hippocampus"),
    ("rib_left_1", "rib_right_1"),
    ("eye.L", "eye.R"),
    ("KidneyL", "KidneyR"),
    ("LKidney", "RKidney"),
    ("L1 nerve left", "L1 nerve right"),
    ("lKidney", "rKidney"),
]


@pytest.mark.parametrize("pair", LEFT_RIGHT, ids=lambda pair: pair[0])
def test_left_and_right_are_found_and_never_mirrored(
    make_fingerprint: Make, pair: tuple[str, str]
) -> None:
    assert find_left_right_pair(("liver", pair[1], "spleen", pair[0])) == pair
    made = make_fingerprint(diameters=dict.fromkeys(("liver", *pair), 40.0))
    assert values(made)["mirror_axes"] == ()
    assert pair[0] in decide(made)["mirror_axes"].because


@pytest.mark.parametrize(
    "names",
    [
        ("left_ventricle",),
        ("left_atrium", "right_ventricle"),
        ("cleft", "bright"),
        ("lung", "level"),
        ("organ_l", "organ_x"),
        ("lesion 1", "lesion 2"),
        ("tumour",),
        ("lobe", "robe"),
        ("L1", "R1"),
    ],
    ids=str,
)
def test_bodies_are_mirrored_from_side_to_side_alone(
    make_fingerprint: Make, names: tuple[str, ...]
) -> None:
    assert find_left_right_pair(names) is None
    assert values(make_fingerprint(diameters=dict.fromkeys(names, 40.0)))["mirror_axes"] == (2,)


@pytest.mark.parametrize(
    ("machine", "backbone", "precision", "largest_input"),
    [
        (Machine("cpu", 64), "small", "float32", 448),
        (Machine("cuda", 16), "vit_b", "bfloat16", 896),
        (Machine("cuda", 80), "vit_l", "bfloat16", 896),
        (Machine("mps", 16), "vit_b", "float32", 896),
    ],
    ids=str,
)
def test_what_is_wanted_depends_on_the_machine(
    make_fingerprint: Make, machine: Machine, backbone: str, precision: str, largest_input: int
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
def test_small_structures_get_a_larger_input(
    make_fingerprint: Make, diameter: float, size: int
) -> None:
    """On a slice of 200 pixels, the smallest class is to cover 32 input pixels."""
    planned = values(make_fingerprint(diameters={"large": 90.0, "small": diameter}))
    assert planned["input_size"] == size
    assert planned["zoom"] == pytest.approx(size / 200, abs=1e-3)


def test_a_small_field_of_view_is_enlarged(make_fingerprint: Make) -> None:
    """The hippocampus crops: 35 x 50 pixels fill the input, which is half a window where a backbone was taught that."""
    made = make_fingerprint(
        shape=(35, 50, 36), spacing=(1.0, 1.0, 1.0), diameters={"anterior": 15.0}
    )
    small, vit_b = values(made, CPU), values(made, CPU, backbone="vit_b")
    assert (small["input_size"], small["zoom"], small["batch_size"]) == (112, 2.24, 8)
    assert (vit_b["input_size"], vit_b["zoom"], vit_b["batch_size"]) == (224, 4.48, 8)


@pytest.mark.parametrize(
    ("edge", "diameter", "size"), [(74, 15.0, 112), (75, 15.0, 224), (50, 3.0, 224)]
)
def test_half_a_window_shows_all_that_slices_hold(
    make_fingerprint: Make, edge: int, diameter: float, size: int
) -> None:
    made = make_fingerprint(
        shape=(35, edge, 36), spacing=(1.0, 1.0, 1.0), diameters={"anterior": diameter}
    )
    assert values(made, CPU)["input_size"] == size


def test_slices_of_many_sizes_are_shown_at_the_scale_of_the_median_one(
    make_fingerprint: Make,
) -> None:
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
def test_thin_structures_and_the_small_backbone_get_an_upsampling_head(
    make_fingerprint: Make, machine: Machine, thickness: float, head: str
) -> None:
    assert values(make_fingerprint(thickness=thickness), machine)["head"] == head


def test_a_frozen_encoder_gets_a_convolutional_head(make_fingerprint: Make) -> None:
    assert values(make_fingerprint(), encoder_tuning="frozen")["head"].startswith("cnn")


def test_enlarged_slices_need_no_finer_output(make_fingerprint: Make) -> None:
    made = make_fingerprint(
        shape=(35, 50, 36), spacing=(1.0, 1.0, 1.0), diameters={"anterior": 15.0}
    )
    assert values(made, CPU, input_size=224)["head"] == "upsampling_quarter"


def test_a_class_that_never_occurs_decides_nothing(make_fingerprint: Make) -> None:
    with_it = make_fingerprint(diameters={"organ": 40.0, "never": None})
    assert values(with_it) == values(make_fingerprint(diameters={"organ": 40.0, "other": 40.0}))


def test_without_any_label_there_still_is_a_plan(make_fingerprint: Make) -> None:
    planned = values(
        make_fingerprint(diameters={"never": None}, foreground=None, labelled_slices=0)
    )
    assert planned["input_size"] == 224
    assert planned["steps"] == 1500


@pytest.mark.parametrize(
    ("names", "key", "folds"),
    [
        (("only",), None, 1),
        (("a", "b"), None, 2),
        (tuple("abcdefg"), None, 5),
        (("p1_a", "p1_b", "p2_a", "p2_b"), r"p\d", 2),
        (("p1_a", "p1_b"), r"p\d", 1),
    ],
)
def test_folds_hold_out_whole_patients(
    make_fingerprint: Make, names: tuple, key: str | None, folds: int
) -> None:
    planned = values(make_fingerprint(case_names=names, patient_key=key))
    assert (planned["patient_key"], planned["folds"]) == (key, folds)


def test_patients_are_read_off_the_case_names(make_fingerprint: Make) -> None:
    names = tuple(
        f"patient{number:03d}_frame{frame:02d}" for number in range(8) for frame in (1, 12)
    )
    planned = decide(make_fingerprint(case_names=names))
    assert planned["folds"].value == 5
    assert "8 different patients" in planned["patient_key"].because


@pytest.mark.parametrize(("slices", "steps"), [(1, 1500), (100, 2250), (10_000, 12_000)])
def test_steps_follow_the_labelled_slices_within_limits(
    make_fingerprint: Make, slices: int, steps: int
) -> None:
    planned = values(make_fingerprint(labelled_slices=slices), views=[0])
    assert planned["batch_size"] == 16
    assert planned["steps"] == steps
    assert planned["warmup_steps"] <= planned["steps"] / 10
    assert 50 <= planned["steps_per_epoch"] <= 250


@pytest.mark.parametrize("machine", [CPU, GPU], ids=str)
def test_a_batch_has_as_many_tokens_whatever_the_input(
    make_fingerprint: Make, machine: Machine
) -> None:
    small, large = (values(make_fingerprint(), machine, input_size=size) for size in (224, 448))
    assert small["batch_size"] == 4 * large["batch_size"]


@pytest.mark.parametrize(
    ("settings", "rate"),
    [
        ({}, 1e-3),
        ({"encoder_tuning": "full"}, 1e-4),
        ({"initial_weights": "random"}, 1e-3),
        ({"backbone": "small"}, 4e-3),
        ({"backbone": "small", "encoder_tuning": "full"}, 1e-3),
    ],
    ids=["adapter", "everything", "from scratch", "small adapter", "all of the small backbone"],
)
def test_what_knows_more_is_changed_in_smaller_steps(
    make_fingerprint: Make, settings: dict, rate: float
) -> None:
    assert values(make_fingerprint(), **settings)["learning_rate"] == rate
