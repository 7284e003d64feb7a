"""Every expected number is computed by hand, or by another algorithm."""

from __future__ import annotations

import math
import warnings
from typing import ClassVar

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from samnet.core.errors import UserError
from samnet.evaluation.metrics import case_metrics, count_pairs, dice_per_class
from samnet.evaluation.surface import hausdorff_95_in_voxels, surface_scores

LABELS = {"background": 0, "organ": 1}
TWO_LABELS = {"background": 0, "organ": 1, "tumour": 2}


def volume(shape: tuple[int, int, int], *boxes: tuple[slice, slice, slice]) -> np.ndarray:
    array = np.zeros(shape, dtype=np.uint8)
    for box in boxes:
        array[box] = 1
    return array


def box(z: int, y: int, x: int, size: int) -> tuple[slice, slice, slice]:
    return slice(z, z + size), slice(y, y + size), slice(x, x + size)


class TestDicePerClass:
    def test_hand_computed(self) -> None:
        reference = np.array([0, 1, 1, 1, 2, 2, 0, 0])
        prediction = np.array([0, 1, 1, 0, 2, 1, 2, 2])
        # class 1: 2 of 3 and 3 voxels in common; class 2: 1 of 2 and 3
        np.testing.assert_allclose(dice_per_class(prediction, reference, 2), [4 / 6, 2 / 5])

    def test_class_in_neither_is_nan_and_in_one_is_zero(self) -> None:
        dice = dice_per_class(np.array([0, 1, 0]), np.array([0, 0, 2]), 3)
        np.testing.assert_array_equal(dice, [0.0, 0.0, np.nan])

    def test_ignored_voxels_do_not_count(self) -> None:
        reference = np.array([1, 1, 2, 2, 0], dtype=np.uint8)
        prediction = np.array([1, 0, 1, 1, 1], dtype=np.uint8)
        np.testing.assert_allclose(
            dice_per_class(prediction, reference, 1, ignore_label=2), [2 / 4]
        )

    def test_values_of_no_class_count_as_errors_only(self) -> None:
        reference = np.array([1, 1, 1, 1], dtype=np.uint8)
        prediction = np.array([1, 1, 7, 255], dtype=np.uint8)
        np.testing.assert_allclose(dice_per_class(prediction, reference, 2), [4 / 6, np.nan])

    def test_negative_values_are_of_no_class(self) -> None:
        reference = np.array([1, -1, -1, 0], dtype=np.int16)
        prediction = np.array([1, 1, 0, 0], dtype=np.int16)
        np.testing.assert_allclose(dice_per_class(prediction, reference, 1), [2 / 3])
        np.testing.assert_allclose(dice_per_class(prediction, reference, 1, ignore_label=-1), [1.0])

    @pytest.mark.parametrize(
        "kinds", [(np.uint8, np.int64), (np.uint16, np.uint8), (">i2", np.int8)]
    )
    def test_agrees_with_masks_on_a_large_volume(self, kinds: tuple[str | type, type]) -> None:
        generator = np.random.default_rng(0)
        # Large enough for several chunks; transposed, so that its memory is not in the order of its axes.
        prediction = generator.integers(0, 6, (90, 80, 50)).astype(kinds[0]).transpose(2, 0, 1)
        reference = generator.integers(0, 6, (50, 90, 80)).astype(kinds[1])
        kept = reference != 5
        expected = [
            2
            * ((prediction == value) & (reference == value) & kept).sum()
            / (((prediction == value) & kept).sum() + ((reference == value) & kept).sum())
            for value in (1, 2, 3, 4)
        ]
        np.testing.assert_allclose(
            dice_per_class(prediction, reference, 4, ignore_label=5), expected
        )

    def test_255_classes_in_eight_bits(self) -> None:
        labels = np.array([255, 255, 1, 0], dtype=np.uint8)
        dice = dice_per_class(labels, labels, 255)
        assert dice.shape == (255,)
        assert dice[0] == dice[254] == 1.0
        assert np.isnan(dice[1:254]).all()

    def test_pairs_are_reference_by_prediction(self) -> None:
        pairs = count_pairs(np.array([1, 1, 9]), np.array([0, 0, 1]), 1)
        np.testing.assert_array_equal(pairs, [[0, 2, 0], [0, 0, 1], [0, 0, 0]])

    @pytest.mark.parametrize(
        ("prediction", "message"),
        [(np.zeros((2, 3), int), "shape"), (np.zeros((2, 2)), "whole numbers")],
    )
    def test_unusable_arrays(self, prediction: np.ndarray, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            dice_per_class(prediction, np.zeros((2, 2), int), 1)


class TestSurfaces:
    def test_single_voxels_use_the_spacing_of_their_axis(self) -> None:
        # The surfaces run through the corners of the voxels: half of them lie 3 voxels apart, half of them 4.
        for axis, spacing in enumerate((3.0, 0.5, 2.0)):
            reference, prediction = np.zeros((2, 6, 6, 6), dtype=np.uint8)
            reference[0, 0, 0] = 1
            prediction[tuple(4 if other == axis else 0 for other in range(3))] = 1
            scores = case_metrics(
                prediction, reference, LABELS, (3.0, 0.5, 2.0), nsd_tolerance_mm=3 * spacing
            )[1]
            assert scores["HD95"] == pytest.approx(4 * spacing)
            assert scores["ASSD"] == pytest.approx(3.5 * spacing)
            assert scores["NSD"] == pytest.approx(0.5)
            assert scores["Dice"] == 0.0

    @pytest.mark.parametrize(
        "corner", [0, 2, 4], ids=["at the border", "inside", "at the other border"]
    )
    def test_cubes_shifted_along_a_thick_slice(self, corner: int) -> None:
        # Cubes of 2 x 2 x 2 voxels of 3 x 1 x 1 mm, one shifted by one slice. Each surface has 26 corner points in
        # three layers. The areas around the points of an end layer: 4 corners, 4 edges, 1 face; of the middle layer:
        # 4 edges, 4 faces.
        corner_area = math.sqrt(0.75**2 + 0.75**2 + 0.25**2) / 2
        end = 4 * corner_area + 4 * math.hypot(1.5, 0.5) + 1.0
        middle = 4 * 3 * math.hypot(0.5, 0.5) + 4 * 3
        area = 2 * end + middle
        # One end layer is 3 mm from the other cube. The centre of the other end layer is inside it, 1 mm from a side.
        reference, prediction = (
            volume((7, 6, 6), box(corner, 0, 2, 2)),
            volume((7, 6, 6), box(corner + 1, 0, 2, 2)),
        )
        strict, lenient = (
            case_metrics(
                prediction, reference, LABELS, (3.0, 1.0, 1.0), nsd_tolerance_mm=tolerance
            )[1]
            for tolerance in (0.5, 2.0)
        )
        assert strict["HD95"] == pytest.approx(3.0)
        assert strict["ASSD"] == pytest.approx((3.0 * end + 1.0) / area)
        assert strict["NSD"] == pytest.approx(1 - (end + 1.0) / area)
        assert lenient["NSD"] == pytest.approx(1 - end / area)
        assert strict["Dice"] == 0.5
        assert strict["IoU"] == pytest.approx(1 / 3)

    @pytest.mark.parametrize("flat_axis", [0, 1, 2])
    def test_a_volume_of_one_slice_is_compared_by_contours(self, flat_axis: int) -> None:
        # A square of 3 x 3 pixels and its centre: 12 points of the outer contour, 4 of the inner one.
        reference, prediction = np.zeros((2, 5, 5), dtype=np.uint8)
        reference[1:4, 1:4] = 1
        prediction[2, 2] = 1
        diagonal_side = math.sqrt(0.5)
        expected = (4 * diagonal_side + 8 + 4 * diagonal_side * math.sqrt(2)) / (
            8 * diagonal_side + 8
        )
        spacing = tuple(1000.0 if axis == flat_axis else 1.0 for axis in range(3))
        scores = case_metrics(
            np.expand_dims(prediction, flat_axis),
            np.expand_dims(reference, flat_axis),
            LABELS,
            spacing,
        )[1]
        assert scores["ASSD"] == pytest.approx(expected)
        assert scores["HD95"] == pytest.approx(math.sqrt(2))

    def test_a_flat_structure_in_a_volume_is_not_a_contour(self) -> None:
        reference = volume((4, 6, 6), (slice(1, 2), slice(1, 4), slice(1, 4)))
        prediction = volume((4, 6, 6), (slice(1, 2), slice(2, 3), slice(2, 3)))
        scores = case_metrics(prediction, reference, LABELS, (1.0, 1.0, 1.0))[1]
        assert scores["HD95"] == pytest.approx(math.sqrt(2))
        assert scores["NSD"] < 1.0
        assert scores["ASSD"] < 1.0  # its faces touch those of the larger plate

    def test_identical(self) -> None:
        labels = volume((4, 4, 4), box(0, 0, 0, 4))
        scores = case_metrics(labels, labels, LABELS, (2.0, 1.0, 1.0))[1]
        assert {name: scores[name] for name in ("Dice", "IoU", "HD95", "ASSD", "NSD")} == {
            "Dice": 1.0,
            "IoU": 1.0,
            "HD95": 0.0,
            "ASSD": 0.0,
            "NSD": 1.0,
        }

    def test_each_class_has_its_own_surface(self) -> None:
        reference = volume((4, 4, 8), box(0, 0, 0, 2)) + 2 * volume((4, 4, 8), box(1, 1, 4, 2))
        prediction = volume((4, 4, 8), box(0, 0, 0, 2)) + 2 * volume((4, 4, 8), box(1, 1, 5, 2))
        scores = case_metrics(prediction, reference, TWO_LABELS, (1.0, 1.0, 1.0))
        assert scores[1]["HD95"] == 0.0
        assert scores[2]["HD95"] == pytest.approx(1.0)
        assert list(scores) == [1, 2]

    def test_the_library_warns_nobody(self) -> None:
        labels = volume((3, 3, 3), box(1, 1, 1, 1))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            case_metrics(labels, labels, LABELS, (1.0, 1.0, 1.0))

    def test_empty_masks_are_refused(self) -> None:
        full, empty = np.ones((2, 2, 2), bool), np.zeros((2, 2, 2), bool)
        with pytest.raises(ValueError, match="empty"):
            surface_scores(full, empty, (1.0, 1.0, 1.0), 1.0)
        with pytest.raises(ValueError, match="empty"):
            hausdorff_95_in_voxels(empty, full)


class TestIgnoreLabel:
    def test_left_out_of_counts_and_surfaces(self) -> None:
        reference = volume((4, 4, 20), box(1, 1, 1, 2))
        prediction = reference.copy()
        reference[:, :, 10:] = 2
        prediction[1, 1, 15] = 1
        scores = case_metrics(prediction, reference, LABELS, (1.0, 1.0, 1.0), ignore_label=2)[1]
        assert scores["HD95"] == 0.0
        assert scores["Dice"] == 1.0
        assert (scores["TP"], scores["FP"], scores["FN"], scores["TN"]) == (8, 0, 0, 4 * 4 * 10 - 8)
        counted = case_metrics(
            prediction, np.where(reference == 2, 0, reference), LABELS, (1.0, 1.0, 1.0)
        )[1]
        assert counted["FP"] == 1
        assert counted["HD95"] > 0 or counted["ASSD"] > 0

    def test_a_structure_predicted_only_there_is_absent(self) -> None:
        reference = np.full((2, 2, 2), 2, dtype=np.uint8)
        scores = case_metrics(
            np.ones_like(reference), reference, LABELS, (1.0, 1.0, 1.0), ignore_label=2
        )[1]
        assert math.isnan(scores["Dice"])
        assert (scores["n_pred"], scores["n_ref"], scores["TN"]) == (0, 0, 0)


EMPTY = np.zeros((4, 5, 6), dtype=np.uint8)
PRESENT = volume((4, 5, 6), box(0, 0, 0, 2))
SPACING = (3.0, 2.0, 1.0)
DIAGONAL = math.sqrt(12**2 + 10**2 + 6**2)


class TestMissingStructures:
    @pytest.mark.parametrize(("prediction", "reference"), [(EMPTY, PRESENT), (PRESENT, EMPTY)])
    def test_standard_counts_the_worst(self, prediction: np.ndarray, reference: np.ndarray) -> None:
        scores = case_metrics(prediction, reference, LABELS, SPACING)[1]
        assert (scores["Dice"], scores["IoU"], scores["NSD"]) == (0.0, 0.0, 0.0)
        assert scores["HD95"] == scores["ASSD"] == pytest.approx(DIAGONAL)

    def test_standard_leaves_out_what_is_in_neither(self) -> None:
        scores = case_metrics(EMPTY, EMPTY, LABELS, SPACING)[1]
        assert all(math.isnan(scores[name]) for name in ("Dice", "IoU", "HD95", "ASSD", "NSD"))
        assert scores["TN"] == EMPTY.size

    def test_diagonal_of_a_picture_is_in_its_plane(self) -> None:
        present = np.ones((1, 3, 4), dtype=np.uint8)
        scores = case_metrics(np.zeros_like(present), present, LABELS, (1000.0, 1.0, 1.0))[1]
        assert scores["HD95"] == 5.0

    @pytest.mark.parametrize(
        ("prediction", "reference", "dice"),
        [(PRESENT, EMPTY, 1.0), (EMPTY, PRESENT, 0.0), (EMPTY, EMPTY, 0.0)],
    )
    def test_synapse_legacy(
        self, prediction: np.ndarray, reference: np.ndarray, dice: float
    ) -> None:
        scores = case_metrics(prediction, reference, LABELS, SPACING, policy="synapse_legacy")[1]
        assert (scores["Dice"], scores["HD95"]) == (dice, 0.0)

    def test_unknown_policy(self) -> None:
        with pytest.raises(UserError, match=r"nicest.*standard, synapse_legacy"):
            case_metrics(EMPTY, EMPTY, LABELS, SPACING, policy="nicest")


class TestSynapseLegacy:
    def test_distances_are_in_voxels(self) -> None:
        reference, prediction = (
            volume((7, 6, 6), box(2, 2, 2, 2)),
            volume((7, 6, 6), box(3, 2, 2, 2)),
        )
        scores = case_metrics(
            prediction, reference, LABELS, (3.0, 1.0, 1.0), policy="synapse_legacy"
        )[1]
        assert scores["HD95"] == pytest.approx(1.0)
        assert scores["Dice"] == 0.5
        assert not {"ASSD", "NSD", "IoU"} & set(scores)

    def test_both_directions_are_pooled(self) -> None:
        # Distances 0 one way and 0, 1, 2 the other: the 95th percentile of 0 0 1 2 is 1.85, of 0 1 2 alone 1.9.
        prediction, reference = np.zeros((2, 3, 3, 5), dtype=np.uint8)
        prediction[1, 1, 1] = 1
        reference[1, 1, 1:4] = 1
        scores = case_metrics(
            prediction, reference, LABELS, (1.0, 1.0, 1.0), policy="synapse_legacy"
        )[1]
        assert scores["HD95"] == pytest.approx(1.85)

    def test_agrees_with_all_pairs_of_border_voxels(self) -> None:
        generator = np.random.default_rng(3)
        masks = [generator.random((6, 7, 8)) < 0.8 for _ in range(2)]
        points = [np.argwhere(_border_by_neighbours(mask)) for mask in masks]
        distances = cdist(*points)
        expected = np.percentile(np.concatenate([distances.min(axis=0), distances.min(axis=1)]), 95)
        assert hausdorff_95_in_voxels(*masks) == pytest.approx(expected)


def _border_by_neighbours(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, 1)
    inner = [np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1] for axis in range(3) for step in (-1, 1)]
    return mask & ~np.all(inner, axis=0)


def test_shapes_that_cannot_be_scored() -> None:
    with pytest.raises(ValueError, match="shape"):
        case_metrics(EMPTY, EMPTY[:2], LABELS, SPACING)
    with pytest.raises(ValueError, match=r"\(Z, Y, X\)"):
        case_metrics(EMPTY[0], EMPTY[0], LABELS, SPACING[1:])


class TestRegions:
    """A region is the union of its labels, whatever the label maps hold within it."""

    NESTED: ClassVar = {"background": 0, "whole": (1, 2, 3), "core": (2, 3), "inner": 3}
    SETS = ((1, 2, 3), (2, 3), (3,))

    @pytest.fixture
    def maps(self) -> list[np.ndarray]:
        generator = np.random.default_rng(0)
        return [generator.integers(0, 5, (6, 9, 8)).astype(np.uint8) for _ in range(2)]

    def test_scores_are_those_of_the_unions(self, maps: list[np.ndarray]) -> None:
        prediction, reference = maps
        scores = case_metrics(prediction, reference, self.NESTED, (2.0, 1.0, 1.0), ignore_label=4)
        assert list(scores) == [(1, 2, 3), (2, 3), 3]
        prediction = np.where(prediction == 4, 0, prediction)  # a label of no region
        for values, label in zip(self.SETS, scores, strict=True):
            unions = [np.isin(one, values).astype(np.uint8) for one in (prediction, reference)]
            unions[1][reference == 4] = 2
            expected = case_metrics(*unions, LABELS, (2.0, 1.0, 1.0), ignore_label=2)[1]
            assert scores[label] == pytest.approx(expected)

    def test_dice_is_that_of_the_unions(self, maps: list[np.ndarray]) -> None:
        prediction, reference = maps
        known = reference != 4
        expected = []
        for values in self.SETS:
            masks = [np.isin(one, values) & known for one in maps]
            expected.append(2 * (masks[0] & masks[1]).sum() / (masks[0].sum() + masks[1].sum()))
        np.testing.assert_allclose(
            dice_per_class(prediction, reference, self.SETS, ignore_label=4), expected
        )

    def test_what_differs_within_a_region_does_not_count(self) -> None:
        reference = np.zeros((2, 6, 6), dtype=np.uint8)
        reference[:, 1:5, 1:5], reference[:, 2:4, 2:4] = 1, 2
        prediction = np.where(reference == 2, 3, reference)
        scores = case_metrics(prediction, reference, self.NESTED, (1.0, 1.0, 1.0))
        assert [scores[label]["Dice"] for label in scores] == [1.0, 1.0, 0.0]
        assert scores[(2, 3)]["HD95"] == 0
        assert (scores[3]["n_pred"], scores[3]["n_ref"]) == (8, 0)
