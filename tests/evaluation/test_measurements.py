"""Measurements of label maps, of boxes whose sizes and places are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from builders.properties import affines, for_any_input
from hypothesis import given
from hypothesis import strategies as st
from nibabel.affines import apply_affine

from samnet.core.geometry import Grid, spacing_affine
from samnet.dataset.label_scheme import LabelScheme
from samnet.evaluation.measurements import (
    INTENSITY_COLUMNS,
    SHAPE_COLUMNS,
    intensity_columns,
    measure_label_map,
)

SCHEME = LabelScheme({"background": 0, "organ": 1, "tumour": 2})
EXTENTS = ("extent_x", "extent_y", "extent_z")
CENTROID = ("centroid_x", "centroid_y", "centroid_z")


def two_parts() -> np.ndarray:
    """Return an organ of a box and a voxel."""
    labels = np.zeros((8, 9, 10), dtype=np.uint8)
    labels[1:3, 2:5, 4:8] = 1
    labels[7, 8, 9] = 1
    return labels


def test_measurements_of_a_box_by_hand() -> None:
    grid = Grid((8, 9, 10), spacing_affine((3.0, 2.0, 0.5)))
    organ = measure_label_map(two_parts(), grid, SCHEME)["organ"]
    assert list(organ) == list(SHAPE_COLUMNS)
    assert (organ["voxels"], organ["components"]) == (25, 2)
    assert organ["volume"] == pytest.approx(25 * 3 / 1000)
    assert organ["largest_component"] == pytest.approx(24 * 3 / 1000)
    assert [organ[name] for name in EXTENTS] == pytest.approx([3.0, 14.0, 21.0])
    means = [(24 * 5.5 + 9) / 25, (24 * 3 + 8) / 25, (24 * 1.5 + 7) / 25]
    expected = np.multiply(means, (0.5, 2.0, 3.0))
    assert [organ[name] for name in CENTROID] == pytest.approx(expected)


def test_class_that_is_not_there_has_no_place() -> None:
    grid = Grid((8, 9, 10), spacing_affine((1.0, 1.0, 1.0)))
    tumour = measure_label_map(two_parts(), grid, SCHEME, np.zeros((1, 8, 9, 10)), ["CT"])["tumour"]
    assert (tumour["volume"], tumour["voxels"], tumour["components"]) == (0, 0, 0)
    unknown = (*EXTENTS, *CENTROID, *intensity_columns(["CT"]))
    assert all(math.isnan(tumour[name]) for name in unknown)


@for_any_input(30)
@given(affine=affines(), seed=st.integers(0, 1000))
def test_places_are_along_the_axes_of_the_patient(affine: np.ndarray, seed: int) -> None:
    labels = (np.random.default_rng(seed).random((4, 5, 6)) < 0.15).astype(np.uint8)
    labels[1, 2, 3] = 1
    organ = measure_label_map(labels, Grid((4, 5, 6), affine), SCHEME)["organ"]
    indices = np.argwhere(labels)[:, ::-1]
    corners = np.concatenate([indices + offset - 0.5 for offset in np.ndindex(2, 2, 2)])
    expected = np.ptp(apply_affine(affine, corners), axis=0)
    np.testing.assert_allclose([organ[name] for name in EXTENTS], expected, rtol=1e-9)
    centre = apply_affine(affine, indices).mean(axis=0)
    scale = np.abs(affine).max()
    np.testing.assert_allclose([organ[name] for name in CENTROID], centre, atol=1e-9 * scale)


@pytest.mark.parametrize("has_spacing", [True, False])
def test_places_in_2d_images_are_along_the_image(has_spacing: bool) -> None:
    labels = np.zeros((1, 9, 10), dtype=np.uint8)
    labels[0, 2:5, 4:8] = 1
    affine = spacing_affine((1.0, 0.5, 0.5)) if has_spacing else np.eye(4)
    step = 0.5 if has_spacing else 1.0
    grid = Grid((1, 9, 10), affine, has_spacing, is_2d=True)
    organ = measure_label_map(labels, grid, SCHEME)["organ"]
    assert organ["volume"] == pytest.approx(12 * step**2)
    assert [organ[name] for name in EXTENTS[:2]] == pytest.approx([4 * step, 3 * step])
    assert [organ[name] for name in CENTROID] == pytest.approx([5.5 * step, 3 * step, 0])


def test_places_without_a_spacing_are_along_the_image_whatever_the_affine() -> None:
    grid = Grid((8, 9, 10), np.diag([-1.0, -1.0, 1.0, 1.0]), has_spacing=False)
    organ = measure_label_map(np.where(two_parts() == 1, 1, 0), grid, SCHEME)["organ"]
    assert [organ[name] for name in CENTROID] == pytest.approx([5.64, 3.2, 1.72])


def test_intensities_are_those_inside_of_the_structure() -> None:
    labels = np.zeros((1, 3, 4), dtype=np.uint8)
    labels[0, 0] = 1
    image = np.full((2, 1, 3, 4), 99.0, dtype=np.float32)
    image[0, 0, 0] = [1, 2, 3, 6]
    image[1, 0, 0] = [np.nan, 5, 5, 5]
    grid = Grid((1, 3, 4), spacing_affine((1.0, 1.0, 1.0)))
    organ = measure_label_map(labels, grid, SCHEME, image, ["CT", "PET"])["organ"]
    assert organ["CT_mean"] == 3.0
    assert organ["CT_std"] == pytest.approx(math.sqrt(3.5))
    assert (organ["CT_median"], organ["CT_p25"]) == (2.5, 1.75)
    assert (organ["PET_mean"], organ["PET_std"]) == (5.0, 0.0)
    assert list(organ) == [*SHAPE_COLUMNS, *intensity_columns(["CT", "PET"])]
    assert len(intensity_columns(["CT"])) == len(INTENSITY_COLUMNS)


def test_measurements_of_a_region_are_those_of_the_union() -> None:
    scheme = LabelScheme({"background": 0, "whole": (1, 2), "core": 2}, None, (1, 2))
    labels = two_parts()
    labels[1, 2, 4:8] = 2
    grid = Grid((8, 9, 10), spacing_affine((1.0, 1.0, 1.0)))
    measured = measure_label_map(labels, grid, scheme)
    assert measured["whole"]["voxels"] == 25
    assert (measured["core"]["voxels"], measured["core"]["components"]) == (4, 1)
