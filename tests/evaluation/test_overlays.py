"""Figures of label maps over images: the right slice in the right colours, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from builders.data import write_volume
from matplotlib.figure import Figure
from nibabel.orientations import axcodes2ornt, ornt_transform
from skimage import io

from samnet.core.errors import UserError
from samnet.dataset.cases import Case
from samnet.dataset.label_scheme import LabelScheme
from samnet.evaluation.metrics import dice_per_class
from samnet.evaluation.overlays import (
    class_colour,
    draw_figure,
    draw_overlays,
    load_row,
    shown_classes,
)

CLASSES = LabelScheme({"background": 0, "organ": 1, "vessel": 2})
LPS_BY_5MM = np.diag([-2.0, -2.0, 5.0, 1.0])


@pytest.fixture
def labels() -> np.ndarray:
    """Return a label map (Z, Y, X) with most foreground in slice 4."""
    labels = np.zeros((7, 20, 30), dtype=np.uint8)
    labels[2:6, 4:9, 3:12] = 1
    labels[4, 10:16, 15:25] = 2
    return labels


@pytest.fixture
def case(tmp_path: Path, labels: np.ndarray) -> Case:
    """Return a case with a reference, and a prediction that lacks label 2."""
    noise = np.random.default_rng(0).normal(0, 10, labels.shape)
    image = tmp_path / "images" / "a_0000.nii.gz"
    write_volume(image, (labels * 50.0 + noise).astype(np.int16), LPS_BY_5MM)
    write_volume(tmp_path / "references" / "a.nii.gz", labels, LPS_BY_5MM)
    prediction = np.where(labels == 2, 0, labels)
    write_volume(tmp_path / "predictions" / "a.nii.gz", prediction, LPS_BY_5MM)
    return Case("a", (image,))


@pytest.fixture
def colour_case(tmp_path: Path) -> Case:
    """Return a 2D image in colours, with one label map as prediction and reference."""
    image = np.random.default_rng(0).integers(0, 255, (24, 40, 3), dtype=np.uint8)
    label_map = np.zeros((24, 40), dtype=np.uint8)
    label_map[:12, :10] = 1
    contents = {
        "images/c_0000": image,
        "predictions/c": label_map,
        "references/c": label_map,
    }
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        io.imsave(tmp_path / f"{name}.png", content, check_contrast=False)
    return Case("c", (tmp_path / "images" / "c_0000.png",))


def draw(
    case: Case,
    folder: Path,
    name: str = "overlays.png",
    *,
    has_references: bool = True,
    label_scheme: LabelScheme = CLASSES,
) -> Path:
    """Draw a case whose label maps lie in a folder, and return the file of the figure."""
    file = folder / "out" / name
    references = folder / "references" if has_references else None
    draw_overlays([case], folder / "predictions", references, label_scheme, file)
    return file


def is_coloured(figure: np.ndarray) -> np.ndarray:
    rgb = figure[..., :3].astype(int)
    return rgb.max(axis=-1) - rgb.min(axis=-1) > 40


def test_overlays_show_label_maps_in_colours_next_to_the_grey_image(
    case: Case, tmp_path: Path
) -> None:
    figure = io.imread(draw(case, tmp_path))
    without_legend = figure[: figure.shape[0] * 2 // 3]
    thirds = np.array_split(is_coloured(without_legend), 3, axis=1)
    assert min(figure.shape[:2]) > 200
    assert not thirds[0].any()
    assert 0 < thirds[1].mean() < thirds[2].mean()  # the prediction misses a class
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["overlays.png"]


def test_overlays_without_references_have_one_column_less(case: Case, tmp_path: Path) -> None:
    with_references = io.imread(draw(case, tmp_path))
    without = io.imread(draw(case, tmp_path, "alone.png", has_references=False))
    assert without.shape[1] == pytest.approx(with_references.shape[1] * 2 / 3, abs=2)


@pytest.mark.parametrize("name", ["overlays.pdf", "overlays.svg", "overlays.jpg"])
def test_overlays_can_be_drawn_in_other_formats(case: Case, tmp_path: Path, name: str) -> None:
    assert draw(case, tmp_path, name).stat().st_size > 2000


def test_overlay_of_a_2d_image_keeps_its_colours_and_directions(
    colour_case: Case, tmp_path: Path
) -> None:
    row = load_row(colour_case, tmp_path / "predictions", tmp_path / "references", CLASSES)
    np.testing.assert_allclose(row.image, io.imread(colour_case.image_files[0]) / 255, atol=1e-6)
    assert row.label_maps["reference"][:12, :10].all()
    assert row.aspect == 1
    assert draw(colour_case, tmp_path).is_file()


def test_overlay_shows_the_slice_with_most_foreground_with_the_front_at_the_top(
    case: Case, labels: np.ndarray, tmp_path: Path
) -> None:
    row = load_row(case, tmp_path / "predictions", tmp_path / "references", CLASSES)
    # Stored as LPS, a slice already has the patient's right on its left and the front at its top.
    np.testing.assert_array_equal(row.label_maps["reference"], labels[4])
    assert row.aspect == pytest.approx(1)
    assert "prediction, mean Dice 0.500" in row.label_maps


@pytest.mark.parametrize("code", ["PSR", "RAS"])
def test_overlay_does_not_depend_on_how_the_axes_are_stored(
    case: Case, tmp_path: Path, code: str
) -> None:
    predictions = tmp_path / "predictions"
    expected = load_row(case, predictions, None, CLASSES)
    transform = ornt_transform(axcodes2ornt("LPS"), axcodes2ornt(code))
    turned = Case(code, (tmp_path / "images" / f"{code}_0000.nii.gz",))
    for source, target in (
        (case.image_files[0], turned.image_files[0]),
        (predictions / "a.nii.gz", predictions / f"{code}.nii.gz"),
    ):
        nibabel.save(nibabel.load(source).as_reoriented(transform), target)
    row = load_row(turned, predictions, None, CLASSES)
    np.testing.assert_array_equal(row.label_maps["prediction"], expected.label_maps["prediction"])
    np.testing.assert_allclose(row.image, expected.image, atol=1e-6)


@pytest.mark.parametrize("fill", [0, 1])
def test_overlays_of_empty_and_full_label_maps_cause_no_warnings(
    case: Case,
    labels: np.ndarray,
    tmp_path: Path,
    fill: int,
    recwarn: pytest.WarningsRecorder,
) -> None:
    for folder in ("predictions", "references"):
        write_volume(tmp_path / folder / "a.nii.gz", np.full_like(labels, fill), LPS_BY_5MM)
    assert draw(case, tmp_path).is_file()
    messages = [str(warning.message) for warning in recwarn]
    assert not [message for message in messages if "contour" in message or "mean" in message]


def test_overlay_neither_draws_nor_scores_the_ignore_label(
    case: Case, labels: np.ndarray, tmp_path: Path
) -> None:
    scheme = LabelScheme(CLASSES.labels, ignore_label=3)
    ignoring = np.where(labels == 2, 3, labels)
    ignoring[0] = 3  # not the slice with most foreground for that
    write_volume(tmp_path / "references" / "a.nii.gz", ignoring, LPS_BY_5MM)
    prediction = np.minimum(labels, 1)
    write_volume(tmp_path / "predictions" / "a.nii.gz", prediction, LPS_BY_5MM)
    row = load_row(case, tmp_path / "predictions", tmp_path / "references", scheme)
    assert "prediction, mean Dice 1.000" in row.label_maps
    assert shown_classes(row.label_maps["reference"], scheme) == [1]


def test_overlay_faults_name_the_file_and_the_remedy(
    case: Case, labels: np.ndarray, tmp_path: Path
) -> None:
    prediction = tmp_path / "predictions" / "a.nii.gz"
    with pytest.raises(UserError, match=r"overlays\.tiff.*\.png"):
        draw(case, tmp_path, "overlays.tiff")
    with pytest.raises(UserError, match="nothing to draw"):
        draw_overlays([], tmp_path, None, CLASSES, tmp_path / "out" / "overlays.png")
    write_volume(prediction, labels[:-1], LPS_BY_5MM)
    with pytest.raises(UserError, match=r"predictions.a\.nii\.gz: shape .*resample"):
        draw(case, tmp_path)
    shifted = LPS_BY_5MM.copy()
    shifted[0, 3] = 1.0
    write_volume(prediction, labels, shifted)
    with pytest.raises(UserError, match="voxels beside"):
        draw(case, tmp_path)
    prediction.unlink()
    with pytest.raises(UserError, match=r"predictions.a\.nii\.gz: missing"):
        draw(case, tmp_path)
    assert not (tmp_path / "out").exists()


def test_overlays_leave_no_partial_file_when_writing_fails(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_a_part(figure: Figure, file: Path, **options: Any) -> None:
        Path(file).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", write_a_part)
    with pytest.raises(OSError, match="disk full"):
        draw(case, tmp_path)
    assert list((tmp_path / "out").iterdir()) == []


def test_overlays_read_only_the_cases_that_they_draw(case: Case, tmp_path: Path) -> None:
    missing = Case("b", (tmp_path / "images" / "b_0000.nii.gz",))
    file = tmp_path / "out" / "overlays.png"
    draw_overlays([case, missing], tmp_path / "predictions", None, CLASSES, file, max_cases=1)
    assert file.is_file()


def test_overlay_draws_and_scores_regions_as_unions(
    case: Case, labels: np.ndarray, tmp_path: Path
) -> None:
    """The prediction has lost label 2, so all that is left of the outer region is right."""
    regions = LabelScheme({"background": 0, "organ": (1, 2), "vessel": 2}, None, (1, 2))
    row = load_row(case, tmp_path / "predictions", tmp_path / "references", regions)
    expected = dice_per_class(np.where(labels == 2, 0, labels), labels, regions)
    assert expected[1] == 0 < expected[0] < 1
    assert list(row.label_maps) == [f"prediction, mean Dice {expected.mean():.3f}", "reference"]
    shown = [shown_classes(label_map, regions) for label_map in row.label_maps.values()]
    assert shown == [[1], [1, 2]]
    figure = draw_figure([row], regions)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["organ", "vessel"]
    fill = figure.axes[2].images[1].get_array()
    reference = row.label_maps["reference"]
    for number in (1, 2):  # the inner region lies over the outer one
        colours = np.unique(fill[reference == number][:, :3], axis=0)
        np.testing.assert_allclose(colours, [class_colour(number)], atol=1e-6)
    file = draw(case, tmp_path, label_scheme=regions)
    assert is_coloured(io.imread(file)).any()
