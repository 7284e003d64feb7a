"""Every expected number is computed by hand, or by another algorithm."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest

from samnet.core.errors import UserError
from samnet.dataset.label_scheme import LabelScheme
from samnet.evaluation.metrics import case_metrics, dice_per_class

ONE_CLASS = LabelScheme({"background": 0, "organ": 1})
ONE_CLASS_AND_IGNORED = LabelScheme({"background": 0, "organ": 1}, ignore_label=2)
TWO_CLASSES = LabelScheme({"background": 0, "organ": 1, "tumour": 2})
REGIONS = {"background": 0, "whole": (1, 2, 3), "core": (2, 3), "inner": 3}
NESTED = LabelScheme(REGIONS, regions_class_order=(1, 2, 3))
NESTED_AND_IGNORED = LabelScheme(REGIONS, ignore_label=4, regions_class_order=(1, 2, 3))
SETS = ((1, 2, 3), (2, 3), (3,))
ISOTROPIC = (1.0, 1.0, 1.0)


def classes(number: int, ignore_label: int | None = None) -> LabelScheme:
    """Return the labels 1 to `number` as classes."""
    names = {f"class {value}": value for value in range(1, number + 1)}
    return LabelScheme({"background": 0} | names, ignore_label)


def volume(shape: tuple[int, int, int], *boxes: tuple[slice, slice, slice]) -> np.ndarray:
    array = np.zeros(shape, dtype=np.uint8)
    for box in boxes:
        array[box] = 1
    return array


def box(z: int, y: int, x: int, size: int) -> tuple[slice, slice, slice]:
    return slice(z, z + size), slice(y, y + size), slice(x, x + size)


def score_organ(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing: tuple[float, ...] = ISOTROPIC,
    label_scheme: LabelScheme = ONE_CLASS,
    **options: Any,
) -> dict[str, float]:
    """Return the scores of class 1."""
    return case_metrics(prediction, reference, label_scheme, spacing, **options)[1]


EMPTY = np.zeros((4, 5, 6), dtype=np.uint8)
PRESENT = volume((4, 5, 6), box(0, 0, 0, 2))
SPACING = (3.0, 2.0, 1.0)
DIAGONAL = math.sqrt(12**2 + 10**2 + 6**2)


def test_dice_per_class_of_a_few_voxels_by_hand() -> None:
    reference = np.array([0, 1, 1, 1, 2, 2, 0, 0])
    prediction = np.array([0, 1, 1, 0, 2, 1, 2, 2])
    # class 1: 2 of 3 and 3 voxels in common; class 2: 1 of 2 and 3
    np.testing.assert_allclose(dice_per_class(prediction, reference, classes(2)), [4 / 6, 2 / 5])


def test_dice_per_class_is_nan_for_a_class_in_neither_map_and_zero_in_only_one() -> None:
    dice = dice_per_class(np.array([0, 1, 0]), np.array([0, 0, 2]), classes(3))
    np.testing.assert_array_equal(dice, [0.0, 0.0, np.nan])


def test_dice_per_class_does_not_count_ignored_voxels() -> None:
    reference = np.array([1, 1, 2, 2, 0], dtype=np.uint8)
    prediction = np.array([1, 0, 1, 1, 1], dtype=np.uint8)
    dice = dice_per_class(prediction, reference, classes(1, ignore_label=2))
    np.testing.assert_allclose(dice, [2 / 4])


def test_dice_per_class_counts_values_of_no_class_as_errors_only() -> None:
    reference = np.array([1, 1, 1, 1], dtype=np.uint8)
    prediction = np.array([1, 1, 7, 255], dtype=np.uint8)
    dice = dice_per_class(prediction, reference, classes(2))
    np.testing.assert_allclose(dice, [4 / 6, np.nan])


def test_dice_per_class_takes_negative_values_for_no_class() -> None:
    reference = np.array([1, -1, -1, 0], dtype=np.int16)
    prediction = np.array([1, 1, 0, 0], dtype=np.int16)
    np.testing.assert_allclose(dice_per_class(prediction, reference, classes(1)), [2 / 3])
    without_negative = dice_per_class(prediction, reference, classes(1, ignore_label=-1))
    np.testing.assert_allclose(without_negative, [1.0])


@pytest.mark.parametrize("kinds", [(np.uint8, np.int64), (np.uint16, np.uint8), (">i2", np.int8)])
def test_dice_per_class_agrees_with_masks_on_a_large_volume(kinds: tuple[str | type, type]) -> None:
    generator = np.random.default_rng(0)
    # Large enough for several chunks. It is transposed, so that the order of its memory is not
    # that of its axes.
    prediction = generator.integers(0, 6, (90, 80, 50)).astype(kinds[0]).transpose(2, 0, 1)
    reference = generator.integers(0, 6, (50, 90, 80)).astype(kinds[1])
    kept = reference != 5
    expected = []
    for value in (1, 2, 3, 4):
        predicted, true = (prediction == value) & kept, (reference == value) & kept
        expected.append(2 * (predicted & true).sum() / (predicted.sum() + true.sum()))
    dice = dice_per_class(prediction, reference, classes(4, ignore_label=5))
    np.testing.assert_allclose(dice, expected)


def test_dice_per_class_of_255_classes_in_eight_bits() -> None:
    labels = np.array([255, 255, 1, 0], dtype=np.uint8)
    dice = dice_per_class(labels, labels, classes(255))
    assert dice.shape == (255,)
    assert dice[0] == dice[254] == 1.0
    assert np.isnan(dice[1:254]).all()


@pytest.mark.parametrize(
    ("prediction", "message"),
    [(np.zeros((2, 3), int), "shape"), (np.zeros((2, 2)), "whole numbers")],
)
def test_dice_per_class_refuses_unusable_arrays(prediction: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dice_per_class(prediction, np.zeros((2, 2), int), classes(1))


def test_surface_scores_of_single_voxels_use_the_spacing_of_their_axis() -> None:
    # The surfaces run through the corners of the voxels: half of them lie 3 voxels apart, the
    # other half 4.
    for axis, spacing in enumerate((3.0, 0.5, 2.0)):
        reference, prediction = np.zeros((2, 6, 6, 6), dtype=np.uint8)
        reference[0, 0, 0] = 1
        prediction[tuple(4 if other == axis else 0 for other in range(3))] = 1
        scores = score_organ(prediction, reference, (3.0, 0.5, 2.0), nsd_tolerance_mm=3 * spacing)
        assert scores["HD95"] == pytest.approx(4 * spacing)
        assert scores["ASSD"] == pytest.approx(3.5 * spacing)
        assert scores["NSD"] == pytest.approx(0.5)
        assert scores["Dice"] == 0.0


@pytest.mark.parametrize(
    "corner", [0, 2, 4], ids=["at the border", "inside", "at the other border"]
)
def test_surface_scores_of_cubes_that_are_shifted_by_a_thick_slice(corner: int) -> None:
    # Cubes of 2 x 2 x 2 voxels of 3 x 1 x 1 mm, one shifted by one slice. Each surface has 26
    # corner points in three layers. The areas around the points of an end layer: 4 corners,
    # 4 edges, 1 face; of the middle layer: 4 edges, 4 faces.
    corner_area = math.sqrt(0.75**2 + 0.75**2 + 0.25**2) / 2
    end = 4 * corner_area + 4 * math.hypot(1.5, 0.5) + 1.0
    middle = 4 * 3 * math.hypot(0.5, 0.5) + 4 * 3
    area = 2 * end + middle
    # One end layer is 3 mm from the other cube. The centre of the other end layer is inside it,
    # 1 mm from a side.
    reference = volume((7, 6, 6), box(corner, 0, 2, 2))
    prediction = volume((7, 6, 6), box(corner + 1, 0, 2, 2))
    spacing = (3.0, 1.0, 1.0)
    strict = score_organ(prediction, reference, spacing, nsd_tolerance_mm=0.5)
    lenient = score_organ(prediction, reference, spacing, nsd_tolerance_mm=2.0)
    assert strict["HD95"] == pytest.approx(3.0)
    assert strict["ASSD"] == pytest.approx((3.0 * end + 1.0) / area)
    assert strict["NSD"] == pytest.approx(1 - (end + 1.0) / area)
    assert lenient["NSD"] == pytest.approx(1 - end / area)
    assert strict["Dice"] == 0.5
    assert strict["IoU"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("flat_axis", [0, 1, 2])
def test_surface_scores_of_a_volume_of_one_slice_compare_contours(flat_axis: int) -> None:
    # A square of 3 x 3 pixels and its centre: 12 points of the outer contour, 4 of the inner
    # one.
    reference, prediction = np.zeros((2, 5, 5), dtype=np.uint8)
    reference[1:4, 1:4] = 1
    prediction[2, 2] = 1
    diagonal_side = math.sqrt(0.5)
    expected = (4 * diagonal_side + 8 + 4 * diagonal_side * math.sqrt(2)) / (8 * diagonal_side + 8)
    spacing = tuple(1000.0 if axis == flat_axis else 1.0 for axis in range(3))
    scores = score_organ(
        np.expand_dims(prediction, flat_axis), np.expand_dims(reference, flat_axis), spacing
    )
    assert scores["ASSD"] == pytest.approx(expected)
    assert scores["HD95"] == pytest.approx(math.sqrt(2))


def test_surface_scores_of_a_flat_structure_in_a_volume_compare_surfaces() -> None:
    reference = volume((4, 6, 6), (slice(1, 2), slice(1, 4), slice(1, 4)))
    prediction = volume((4, 6, 6), (slice(1, 2), slice(2, 3), slice(2, 3)))
    scores = score_organ(prediction, reference)
    assert scores["HD95"] == pytest.approx(math.sqrt(2))
    assert scores["NSD"] < 1.0
    assert scores["ASSD"] < 1.0  # its faces touch those of the larger plate


def test_case_metrics_of_identical_label_maps_are_perfect() -> None:
    labels = volume((4, 4, 4), box(0, 0, 0, 4))
    scores = score_organ(labels, labels, (2.0, 1.0, 1.0))
    assert {name: scores[name] for name in ("Dice", "IoU", "HD95", "ASSD", "NSD")} == {
        "Dice": 1.0,
        "IoU": 1.0,
        "HD95": 0.0,
        "ASSD": 0.0,
        "NSD": 1.0,
    }


def test_case_metrics_compare_each_class_by_itself() -> None:
    reference = volume((4, 4, 8), box(0, 0, 0, 2)) + 2 * volume((4, 4, 8), box(1, 1, 4, 2))
    prediction = volume((4, 4, 8), box(0, 0, 0, 2)) + 2 * volume((4, 4, 8), box(1, 1, 5, 2))
    scores = case_metrics(prediction, reference, TWO_CLASSES, ISOTROPIC)
    assert scores[1]["HD95"] == 0.0
    assert scores[2]["HD95"] == pytest.approx(1.0)
    assert list(scores) == [1, 2]


def test_surface_library_shows_no_warnings() -> None:
    labels = volume((3, 3, 3), box(1, 1, 1, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        case_metrics(labels, labels, ONE_CLASS, ISOTROPIC)


def test_ignored_voxels_count_neither_in_counts_nor_in_surfaces() -> None:
    reference = volume((4, 4, 20), box(1, 1, 1, 2))
    prediction = reference.copy()
    reference[:, :, 10:] = 2
    prediction[1, 1, 15] = 1
    scores = score_organ(prediction, reference, label_scheme=ONE_CLASS_AND_IGNORED)
    assert scores["HD95"] == 0.0
    assert scores["Dice"] == 1.0
    assert (scores["TP"], scores["FP"], scores["FN"], scores["TN"]) == (8, 0, 0, 4 * 4 * 10 - 8)
    counted = score_organ(prediction, np.where(reference == 2, 0, reference))
    assert counted["FP"] == 1
    assert counted["HD95"] > 0 or counted["ASSD"] > 0


def test_structure_that_is_predicted_in_ignored_voxels_only_is_absent() -> None:
    reference = np.full((2, 2, 2), 2, dtype=np.uint8)
    prediction = np.ones_like(reference)
    scores = score_organ(prediction, reference, label_scheme=ONE_CLASS_AND_IGNORED)
    assert math.isnan(scores["Dice"])
    assert (scores["n_pred"], scores["n_ref"], scores["TN"]) == (0, 0, 0)


@pytest.mark.parametrize(("prediction", "reference"), [(EMPTY, PRESENT), (PRESENT, EMPTY)])
def test_standard_policy_gives_the_worst_scores_for_a_structure_in_only_one_map(
    prediction: np.ndarray, reference: np.ndarray
) -> None:
    scores = score_organ(prediction, reference, SPACING)
    assert (scores["Dice"], scores["IoU"], scores["NSD"]) == (0.0, 0.0, 0.0)
    assert scores["HD95"] == scores["ASSD"] == pytest.approx(DIAGONAL)


def test_standard_policy_leaves_out_a_structure_in_neither_map() -> None:
    scores = score_organ(EMPTY, EMPTY, SPACING)
    assert all(math.isnan(scores[name]) for name in ("Dice", "IoU", "HD95", "ASSD", "NSD"))
    assert scores["TN"] == EMPTY.size


def test_standard_policy_takes_the_diagonal_of_a_2d_image_in_its_plane() -> None:
    present = np.ones((1, 3, 4), dtype=np.uint8)
    scores = score_organ(np.zeros_like(present), present, (1000.0, 1.0, 1.0))
    assert scores["HD95"] == 5.0


@pytest.mark.parametrize(
    ("prediction", "reference", "dice"),
    [(PRESENT, EMPTY, 1.0), (EMPTY, PRESENT, 0.0), (EMPTY, EMPTY, 0.0)],
)
def test_synapse_legacy_policy_for_missing_structures(
    prediction: np.ndarray, reference: np.ndarray, dice: float
) -> None:
    scores = score_organ(prediction, reference, SPACING, policy="synapse_legacy")
    assert (scores["Dice"], scores["HD95"]) == (dice, 0.0)


def test_case_metrics_refuses_an_unknown_policy() -> None:
    with pytest.raises(UserError, match=r"nicest.*standard, synapse_legacy"):
        case_metrics(EMPTY, EMPTY, ONE_CLASS, SPACING, policy="nicest")


def test_synapse_legacy_policy_measures_distances_in_voxels() -> None:
    reference = volume((7, 6, 6), box(2, 2, 2, 2))
    prediction = volume((7, 6, 6), box(3, 2, 2, 2))
    scores = score_organ(prediction, reference, (3.0, 1.0, 1.0), policy="synapse_legacy")
    assert scores["HD95"] == pytest.approx(1.0)
    assert scores["Dice"] == 0.5
    assert not {"ASSD", "NSD", "IoU"} & set(scores)


def test_synapse_legacy_policy_pools_the_distances_of_both_directions() -> None:
    # Distances 0 in one direction and 0, 1, 2 in the other: the 95th percentile of 0 0 1 2 is
    # 1.85, that of 0 1 2 alone 1.9.
    prediction, reference = np.zeros((2, 3, 3, 5), dtype=np.uint8)
    prediction[1, 1, 1] = 1
    reference[1, 1, 1:4] = 1
    scores = score_organ(prediction, reference, ISOTROPIC, policy="synapse_legacy")
    assert scores["HD95"] == pytest.approx(1.85)


@pytest.mark.parametrize("flat_axis", [0, 1, 2])
def test_synapse_legacy_policy_takes_all_voxels_of_a_single_slice_for_its_surface(
    flat_axis: int,
) -> None:
    """As MedPy, for which voxels without a neighbour above and below are border."""
    prediction, reference = np.zeros((2, 12, 12), dtype=np.uint8)
    reference[1:6, 1:11] = 1
    prediction[1:8, 1:8] = 1
    scores = score_organ(
        np.expand_dims(prediction, flat_axis),
        np.expand_dims(reference, flat_axis),
        policy="synapse_legacy",
    )
    # 35 pixels are in both. Of the reference three columns of 5 lie outside, of the prediction two
    # rows of 7. Of the outlines alone, more than a twentieth lie at a distance of 3.
    distances = [0.0] * 70 + [1.0] * 12 + [2.0] * 12 + [3.0] * 5
    assert scores["HD95"] == pytest.approx(np.percentile(distances, 95)) == pytest.approx(2.1)


def test_case_metrics_refuses_shapes_that_cannot_be_scored() -> None:
    with pytest.raises(ValueError, match="shape"):
        case_metrics(EMPTY, EMPTY[:2], ONE_CLASS, SPACING)
    with pytest.raises(ValueError, match=r"\(Z, Y, X\)"):
        case_metrics(EMPTY[0], EMPTY[0], ONE_CLASS, SPACING[1:])


@pytest.fixture
def maps() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 5, (6, 9, 8)).astype(np.uint8) for _ in range(2)]


def test_region_scores_are_those_of_the_union_of_its_labels(maps: list[np.ndarray]) -> None:
    prediction, reference = maps
    scores = case_metrics(prediction, reference, NESTED_AND_IGNORED, (2.0, 1.0, 1.0))
    assert list(scores) == [(1, 2, 3), (2, 3), 3]
    prediction = np.where(prediction == 4, 0, prediction)  # a label of no region
    for values, label in zip(SETS, scores, strict=True):
        unions = [np.isin(one, values).astype(np.uint8) for one in (prediction, reference)]
        unions[1][reference == 4] = 2
        expected = score_organ(*unions, (2.0, 1.0, 1.0), label_scheme=ONE_CLASS_AND_IGNORED)
        assert scores[label] == pytest.approx(expected)


def test_region_dice_is_that_of_the_union_of_its_labels(maps: list[np.ndarray]) -> None:
    prediction, reference = maps
    known = reference != 4
    expected = []
    for values in SETS:
        masks = [np.isin(one, values) & known for one in maps]
        expected.append(2 * (masks[0] & masks[1]).sum() / (masks[0].sum() + masks[1].sum()))
    dice = dice_per_class(prediction, reference, NESTED_AND_IGNORED)
    np.testing.assert_allclose(dice, expected)


def test_region_scores_do_not_count_differences_within_the_region() -> None:
    reference = np.zeros((2, 6, 6), dtype=np.uint8)
    reference[:, 1:5, 1:5], reference[:, 2:4, 2:4] = 1, 2
    prediction = np.where(reference == 2, 3, reference)
    scores = case_metrics(prediction, reference, NESTED, ISOTROPIC)
    assert [scores[label]["Dice"] for label in scores] == [1.0, 1.0, 0.0]
    assert scores[(2, 3)]["HD95"] == 0
    assert (scores[3]["n_pred"], scores[3]["n_ref"]) == (8, 0)


def test_precision_and_recall_of_voxels_by_hand() -> None:
    reference = volume((1, 4, 9), (slice(0, 1), slice(0, 2), slice(0, 5)))  # 10 pixels
    prediction = volume((1, 4, 9), (slice(0, 1), slice(0, 1), slice(1, 9)))  # 8, 4 in common
    scores = score_organ(prediction, reference)
    assert (scores["precision"], scores["recall"]) == (0.5, 0.4)
    assert score_organ(EMPTY, PRESENT)["precision"] == 0.0
    assert score_organ(EMPTY, PRESENT)["recall"] == 0.0
    assert score_organ(PRESENT, EMPTY)["precision"] == 0.0
    assert math.isnan(score_organ(PRESENT, EMPTY)["recall"])
    assert math.isnan(score_organ(EMPTY, EMPTY)["precision"])


def test_case_metrics_compare_volumes_and_lesions() -> None:
    reference = volume((6, 6, 12), box(0, 0, 0, 2), box(3, 3, 8, 2))
    prediction = volume((6, 6, 12), box(0, 0, 0, 2), box(0, 4, 4, 1), box(0, 4, 8, 1))
    scores = score_organ(prediction, reference, SPACING, volume_of_voxel=0.006)
    assert scores["volume_ref"] == pytest.approx(16 * 0.006)
    assert scores["volume_error"] == pytest.approx(-6 * 0.006)
    assert scores["volume_error_relative"] == pytest.approx(-6 / 16)
    assert (scores["lesions_ref"], scores["lesions_found"], scores["lesions_false"]) == (2, 1, 2)
    assert score_organ(EMPTY, EMPTY)["lesions_pred"] == 0
    assert score_organ(PRESENT, EMPTY)["lesions_false"] == 1
    assert score_organ(PRESENT, EMPTY)["volume_pred"] == 8


def test_lesions_of_a_2d_image_are_counted_in_its_plane() -> None:
    labels = np.eye(5, dtype=np.uint8)
    for flat_axis in range(3):
        scores = score_organ(*[np.expand_dims(labels, flat_axis)] * 2)
        assert (scores["lesions_ref"], scores["lesions_found"]) == (1, 1)


def test_cldice_is_computed_for_tubes_only() -> None:
    reference = volume((5, 5, 20), (slice(2, 3), slice(2, 3), slice(0, 20))) * 2
    prediction = volume((5, 5, 20), (slice(2, 3), slice(2, 3), slice(0, 10))) * 2
    assert "clDice" not in case_metrics(prediction, reference, TWO_CLASSES, ISOTROPIC)[2]
    scores = case_metrics(prediction, reference, TWO_CLASSES, ISOTROPIC, tubes=(2,))
    assert scores[2]["clDice"] == pytest.approx(2 / 3)
    assert math.isnan(scores[1]["clDice"])
