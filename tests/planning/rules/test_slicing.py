"""The rules for slices: axis, views, spacing, channel layout, mirroring."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders.fingerprint import make_fingerprint
from builders.planned import GPU, decide, plan_all, values

from samnet.planning.presets import configuration_names
from samnet.planning.rules.slicing import FEW_VOLUMES, find_left_right_pair


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
def test_slicing_axis_is_the_coarsest_or_shortest(spacing: tuple, shape: tuple, axis: int) -> None:
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
        ((3.0, 1.0, 1.0), (20, 104, 160), (0,)),
        ((3.0, 1.0, 1.0), (20, 96, 160), (0, 1, 2)),
        ((3.0, 1.0, 1.0), (40, 200, 160), (0,)),
        ((3.0, 1.0, 1.0), (0, 0, 0), (0,)),
    ],
    ids=[
        "small",
        "isotropic",
        "hardly squeezed",
        "squeezed",
        "over a quarter",
        "under it",
        "everywhere",
        "nowhere",
    ],
)
def test_views_are_three_where_structures_are_small(
    spacing: tuple, labelled_slices: tuple, views: tuple
) -> None:
    assert (
        values(make_fingerprint(spacing=spacing, labelled_slices=labelled_slices))["views"] == views
    )


@pytest.mark.parametrize(
    ("spacing", "number", "views"),
    [
        ((1.0, 1.0, 1.0), 1, (0, 1, 2)),
        ((1.4, 1.0, 1.0), FEW_VOLUMES, (0, 1, 2)),
        ((1.0, 1.0, 1.0), FEW_VOLUMES + 1, (0,)),
        ((1.6, 1.0, 1.0), FEW_VOLUMES, (0,)),
    ],
    ids=["one", "few", "more", "squeezed"],
)
def test_views_are_three_where_few_volumes_are_labelled(
    spacing: tuple, number: int, views: tuple
) -> None:
    names = tuple(f"case {index}" for index in range(number))
    fingerprint = make_fingerprint(
        shape=(40, 50, 45), spacing=spacing, labelled_slices=(30, 40, 40), case_names=names
    )
    planned = values(fingerprint)
    assert (planned["views"], planned["depth"]) == (views, 1)


def test_views_are_one_where_there_is_an_ignore_label() -> None:
    fingerprint = make_fingerprint(labelled_slices=(1, 60, 60))
    assert values(fingerprint)["views"] == (0, 1, 2)
    scheme = replace(fingerprint.label_scheme, ignore_label=2)
    assert values(replace(fingerprint, label_scheme=scheme))["views"] == (0,)


def test_views_do_not_depend_on_cases_without_labels() -> None:
    fingerprint = make_fingerprint(labelled_slices=(20, 60, 60))
    empty = {
        name: replace(case, labelled_slices=(0, 0, 0))
        for name, case in list(fingerprint.cases.items())[:5]
    }
    assert values(replace(fingerprint, cases=fingerprint.cases | empty))["views"] == (0, 1, 2)


@pytest.mark.parametrize(
    ("spacing", "axis"), [((3.0, 1, 1), 0), ((1, 3.0, 1), 1), ((1, 1, 3.0), 2)]
)
def test_views_of_published_systems_are_one(spacing: tuple, axis: int) -> None:
    plan = plan_all(make_fingerprint(spacing=spacing, labelled_slices=(9, 9, 9)), GPU)
    assert plan.configuration("lora").views == (0, 1, 2)
    papers = [name for name in configuration_names() if name.startswith(("samed", "autosam"))]
    assert len(papers) == 6
    assert {plan.configuration(name).views for name in papers} == {(axis,)}


def test_views_of_single_slices_are_one() -> None:
    assert values(make_fingerprint(spacing=(1.0, 2.5, 2.5), shape=(1, 200, 160)))["views"] == (0,)


def test_2d_images_have_one_view_and_no_spacing() -> None:
    planned = values(
        make_fingerprint(file_ending=".png", shape=(1, 320, 260), spacing=(1.0, 1.0, 1.0))
    )
    assert (planned["slicing_axis"], planned["views"]) == (0, (0,))
    assert planned["in_plane_spacing"] == 1.0
    assert planned["channel_layout"] == "repeat"


def test_in_plane_spacing_is_the_median_of_the_two_axes_in_plane() -> None:
    across_z = values(make_fingerprint(spacing=(5.0, 0.6, 0.8)))
    across_x = values(make_fingerprint(spacing=(0.6, 0.6, 4.0)))
    assert across_z["in_plane_spacing"] == pytest.approx(0.7)
    assert across_x["in_plane_spacing"] == pytest.approx(0.6)


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
def test_channel_layout_depends_on_channels_and_slice_distance(
    channels: tuple, spacing: tuple, layout: str
) -> None:
    assert values(make_fingerprint(channels=channels, spacing=spacing))["channel_layout"] == layout


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
def test_mirror_axes_are_none_where_labels_are_left_and_right(pair: tuple[str, str]) -> None:
    assert find_left_right_pair(("liver", pair[1], "spleen", pair[0])) == pair
    fingerprint = make_fingerprint(diameters=dict.fromkeys(("liver", *pair), 40.0))
    assert values(fingerprint)["mirror_axes"] == ()
    assert pair[0] in decide(fingerprint)["mirror_axes"].because


@pytest.mark.parametrize(
    "names",
    [
        ("left_ventricle",),
        ("left_atrium", "right_ventricle"),
        ("cleft", "bright"),
        ("liver", "river"),
        ("organ_l", "organ_x"),
        ("lesion 1", "lesion 2"),
        ("tumour",),
        ("lobe", "robe"),
        ("L1", "R1"),
    ],
    ids=str,
)
def test_mirror_axes_are_left_right_alone_for_other_labels(names: tuple[str, ...]) -> None:
    assert find_left_right_pair(names) is None
    assert values(make_fingerprint(diameters=dict.fromkeys(names, 40.0)))["mirror_axes"] == (2,)


def test_spacing_of_a_microscope_is_planned_in_full_and_named_with_its_unit() -> None:
    fingerprint = make_fingerprint(spacing=(0.002, 0.00024, 0.00026), shape=(40, 200, 160))
    decision = decide(fingerprint)["slicing_axis"]
    assert "median spacing 0.002 x 0.00024 x 0.00026 mm" in decision.because
    assert values(fingerprint)["in_plane_spacing"] == pytest.approx(0.00025)


def test_reasons_say_voxels_where_no_spacing_is_known() -> None:
    fingerprint = make_fingerprint(spacing=(1.0, 1.0, 1.0), shape=(40, 200, 160))
    cases = {name: replace(case, has_spacing=False) for name, case in fingerprint.cases.items()}
    decision = decide(replace(fingerprint, cases=cases))["slicing_axis"]
    assert "voxels (Z, Y, X)" in decision.because
    assert " mm" not in decision.because
