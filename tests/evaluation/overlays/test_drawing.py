"""Figures of cases: what they show, and that they are written whole and end nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.data import write_volume
from matplotlib.figure import Figure
from skimage import io

from samnet.core.errors import UserError
from samnet.dataset.cases import Case
from samnet.dataset.description import DatasetDescription
from samnet.evaluation.overlays.case_figure import (
    describe_dice,
    draw_case,
    legend_of_panel,
    main_panel,
)
from samnet.evaluation.overlays.choice import ChosenCase
from samnet.evaluation.overlays.coloured_masks import draw_coloured_masks, outline_classes
from samnet.evaluation.overlays.colours import ERROR_STYLES, class_colour, class_line_style
from samnet.evaluation.overlays.draw import CaseToDraw, draw_cases
from samnet.evaluation.overlays.error_maps import CONFUSED, FALSE, MISSED, TRUE
from samnet.evaluation.overlays.evaluated_cases import draw_evaluated_cases, find_images
from samnet.evaluation.overlays.intensities import CT_WINDOW, intensity_window
from samnet.evaluation.overlays.panels import Area, blend, describe_length, scale_bar_length
from samnet.evaluation.overlays.shown_case import CaseFiles, ShownCase

LABELS = {"background": 0, "organ": 1, "vessel": 2}
AFFINE = np.diag([-2.0, -2.0, 5.0, 1.0])


@pytest.fixture
def description(tmp_path: Path) -> DatasetDescription:
    """Return the description of volumes of one channel with two classes."""
    return describe(tmp_path, ".nii.gz", {"0": "CT"})


def describe(folder: Path, ending: str, channels: dict[str, str]) -> DatasetDescription:
    file = folder / "dataset.json"
    content = {"channel_names": channels, "labels": LABELS, "file_ending": ending}
    file.write_text(json.dumps(content))
    return DatasetDescription.load(file)


@pytest.fixture
def files(tmp_path: Path) -> CaseFiles:
    """Return a volume whose prediction misses a block of label 2 in slice 5, and has a rim."""
    labels = np.zeros((7, 24, 30), np.uint8)
    labels[1:4, 4:9, 3:12] = 1
    labels[5, 12:20, 14:25] = 2
    prediction = np.roll(np.where(labels == 2, 0, labels), 1, 2)
    image = (labels * 50 - 20).astype(np.int16)
    image[:, :2] = -1000
    for name, array in (("images/a_0000", image), ("labels/a", labels), ("preds/a", prediction)):
        write_volume(tmp_path / f"{name}.nii.gz", array, AFFINE)
    return files_of(tmp_path, "a", ".nii.gz")


@pytest.fixture
def colour_files(tmp_path: Path) -> CaseFiles:
    """Return a 2D image in colour, with a prediction that is shifted."""
    labels = np.zeros((40, 60), np.uint8)
    labels[5:20, 10:30] = 1
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    contents = {"images/c_0000": image, "labels/c": labels, "preds/c": np.roll(labels, 3, 1)}
    for name, array in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        io.imsave(tmp_path / f"{name}.png", array, check_contrast=False)
    return files_of(tmp_path, "c", ".png")


def files_of(folder: Path, name: str, ending: str) -> CaseFiles:
    image = folder / "images" / f"{name}_0000{ending}"
    label_maps = [folder / part / f"{name}{ending}" for part in ("preds", "labels")]
    return CaseFiles(Case(name, (image,)), *label_maps)


def to_draw(files: CaseFiles, name: str | None = None) -> CaseToDraw:
    return CaseToDraw(ChosenCase(name or files.case.identifier, "worst of 3 cases", 0.5), files)


def texts_of(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_figure_of_a_case_goes_through_its_largest_error(
    files: CaseFiles, description: DatasetDescription
) -> None:
    """The slice with most reference, which older figures showed, is nearly right."""
    shown = ShownCase(files, description)
    axial, _, sagittal = shown.volume.planes(shown.place)
    assert axial.position == "6 of 7, H 25.0 mm"
    errors = shown.errors
    assert errors is not None
    assert errors[shown.place] == MISSED
    panel = main_panel(shown, axial)
    colours = {area.colour for area in panel.areas}
    assert colours == {ERROR_STYLES[MISSED].colour}
    assert panel.pixel_size == (2, 2)
    assert main_panel(shown, sagittal).pixel_size == (5, 2)
    figure = draw_case(shown, "worst of 3 cases")
    assert {"R", "L", "A", "P", "H", "F", "10 mm"} <= set(texts_of(figure))
    written = [text.get_text() for text in figure.texts]
    assert "a: worst of 3 cases" in written
    assert "Dice: organ 0.889, vessel 0.000; mean 0.444" in written
    assert "vessel: Dice 0.000" in written  # the errors of each class, the worst first
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[:4] == ["true", "missed", "false", "another class"]
    assert legend[-2:] == ["organ", "vessel"]
    # The index shows errors alone, and false voxels in the colour of a class.
    assert [entry.name for entry in legend_of_panel(shown)] == legend[:-2]


def test_figure_without_a_reference_outlines_the_classes(
    files: CaseFiles, description: DatasetDescription
) -> None:
    shown = ShownCase(replace(files, reference=None), description)
    assert shown.errors is None
    panel = main_panel(shown, shown.volume.planes(shown.place)[0])
    assert not panel.areas
    assert [outline.colour for outline in panel.outlines] == [class_colour(1)]
    assert draw_case(shown).axes


def test_figure_of_a_2d_image_has_every_pixel(colour_files: CaseFiles, tmp_path: Path) -> None:
    description = describe(tmp_path, ".png", {"0": "R", "1": "G", "2": "B"})
    outcome = draw_cases([to_draw(colour_files)], description, tmp_path / "figures")
    figure = io.imread(outcome.results["c"])[..., :3]
    image = io.imread(colour_files.case.image_files[0])
    # Each pixel is a block of some pixels; the middle of the image has no marks on it.
    size = 7
    part = np.kron(image[22:26, 20:40], np.ones((size, size, 1), np.uint8))
    shown = ShownCase(colour_files, description)
    panel = draw_case(shown).axes[0]
    box = panel.get_window_extent()
    assert (box.width, box.height) == pytest.approx((60 * size, 40 * size))
    left, top = round(box.x0), figure.shape[0] - round(box.y1)
    found = figure[top + 22 * size : top + 26 * size, left + 20 * size : left + 40 * size]
    np.testing.assert_allclose(found.astype(int), part, atol=1)


def test_large_2d_image_is_drawn_by_means_of_blocks(tmp_path: Path) -> None:
    labels = np.zeros((30, 4100), np.uint8)
    labels[5:15, 100:300] = 1
    for part in ("images", "labels", "preds"):
        (tmp_path / part).mkdir()
        name = "b_0000.png" if part == "images" else "b.png"
        io.imsave(tmp_path / part / name, labels * (part == "images") * 90, check_contrast=False)
    shown = ShownCase(files_of(tmp_path, "b", ".png"), describe(tmp_path, ".png", {"0": "MRI"}))
    panel = main_panel(shown, shown.volume.planes(shown.place)[0])
    assert panel.image.shape == (10, 1367)
    assert panel.pixel_size == (3, 3)


def test_drawn_files_are_numbered_and_named_in_a_record(
    files: CaseFiles, colour_files: CaseFiles, description: DatasetDescription, tmp_path: Path
) -> None:
    output = tmp_path / "figures"
    outcome = draw_cases([to_draw(files), to_draw(colour_files)], description, output)
    assert [file.name for file in outcome.results.values()] == ["01_a.png", "02_c.png"]
    record = json.loads((output / "figures.json").read_text())
    assert [case["file"] for case in record["cases"]] == ["01_a.png", "02_c.png"]
    assert record["cases"][0]["mean_dice"] == 0.5
    (output / "mine.png").write_bytes(b"kept")
    draw_cases([to_draw(colour_files)], description, output)
    found = {file.name for file in output.iterdir()}
    assert found == {"01_c.png", "figures.json", "index.png", "mine.png"}


def test_drawing_leaves_no_partial_file_when_writing_fails(
    files: CaseFiles,
    description: DatasetDescription,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def write_a_part(figure: Figure, file: Path, **options: Any) -> None:
        Path(file).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", write_a_part)
    outcome = draw_cases([to_draw(files)], description, tmp_path / "figures")
    assert "disk full" in outcome.failures["a"]
    assert list((tmp_path / "figures").iterdir()) == []


def test_drawing_stops_when_the_time_is_over(
    files: CaseFiles,
    description: DatasetDescription,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    cases = [to_draw(files), to_draw(files, "b")]
    outcome = draw_cases(cases, description, tmp_path / "figures", max_seconds=0)
    assert list(outcome.results) == ["a"]
    assert "1 of 2 cases drawn in the time" in caplog.text


def test_label_map_on_another_grid_is_refused_by_name(
    files: CaseFiles, description: DatasetDescription
) -> None:
    write_volume(files.prediction, np.zeros((6, 24, 30), np.uint8), AFFINE)
    with pytest.raises(UserError, match=r"preds.a\.nii\.gz: shape .*resample"):
        ShownCase(files, description)


def summary_of(files: CaseFiles, *names: str) -> dict[str, Any]:
    """Return as much of a summary as the figures need."""
    cases = []
    for index, name in enumerate(names):
        entry = {
            "case": name,
            "prediction_file": str(files.prediction),
            "reference_file": str(files.reference),
            "metrics": {1: {"Dice": index / 10}, 2: {"Dice": float("nan")}},
        }
        cases.append(entry)
    return {"metric_per_case": cases}


def test_damaged_image_does_not_end_an_evaluation(
    files: CaseFiles,
    description: DatasetDescription,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    damaged = tmp_path / "images" / "b_0000.nii.gz"
    damaged.write_bytes(b"no image")
    images = {"a": files.case, "b": Case("b", (damaged,))}
    monkeypatch.setattr("samnet.evaluation.overlays.evaluated_cases.NUM_CASES", 6)
    summary = summary_of(files, "b", "a", "without an image")
    assert draw_evaluated_cases(summary, images, description, tmp_path) == tmp_path / "figures"
    assert (tmp_path / "figures" / "02_a.png").is_file()
    assert "case b not drawn, the scores are complete" in caplog.text
    assert str(damaged) in caplog.text


def test_evaluation_without_images_draws_nothing(
    files: CaseFiles, description: DatasetDescription, tmp_path: Path
) -> None:
    assert draw_evaluated_cases(summary_of(files, "a"), {}, description, tmp_path) is None
    assert not (tmp_path / "figures").exists()


def test_images_lie_next_to_the_references(
    files: CaseFiles, description: DatasetDescription, tmp_path: Path
) -> None:
    references = tmp_path / "labelsTs"
    references.mkdir()
    assert find_images(references, description) == {}
    (tmp_path / "images").rename(tmp_path / "imagesTs")
    expected = (tmp_path / "imagesTs" / "a_0000.nii.gz",)
    assert find_images(references, description)["a"].image_files == expected
    assert find_images(tmp_path / "labels", description) == {}
    given = find_images(tmp_path / "labels", description, tmp_path / "imagesTs")
    assert given["a"].image_files == expected


def test_coloured_masks_keep_size_and_colours_of_2d_images(
    colour_files: CaseFiles, tmp_path: Path
) -> None:
    description = describe(tmp_path, ".png", {"0": "R", "1": "G", "2": "B"})
    missing = Case("none", (tmp_path / "none_0000.png",))

    def file_of(case: Case) -> Path:
        return tmp_path / "preds" / f"{case.identifier}.png"

    [file] = draw_coloured_masks([colour_files.case, missing], file_of, description, tmp_path)
    assert file == tmp_path / "colour" / "c.png"
    drawn, image = io.imread(file), io.imread(colour_files.case.image_files[0])
    assert drawn.shape == image.shape == (40, 60, 3)
    np.testing.assert_array_equal(drawn[22:], image[22:])
    np.testing.assert_array_equal(drawn[7:18, 15:30], image[7:18, 15:30])  # inside
    assert (drawn[5, 13:33] == np.rint(np.array(class_colour(1)) * 255)).all()
    np.testing.assert_array_equal(drawn[4, 13:33], image[4, 13:33] // 2)


def test_coloured_mask_of_a_volume_is_a_figure(
    files: CaseFiles, description: DatasetDescription, tmp_path: Path
) -> None:
    [file] = draw_coloured_masks([files.case], lambda _: files.prediction, description, tmp_path)
    assert io.imread(file).shape[2] in (3, 4)


def test_outline_does_not_follow_the_edge_of_the_image(
    description: DatasetDescription,
) -> None:
    full = np.ones((8, 9), np.uint8)
    image = np.full((8, 9), 0.2, np.float32)
    assert (outline_classes(image, full, description.label_scheme) == 51).all()


def luminance_under(matrix: np.ndarray, colour: tuple[float, float, float]) -> np.ndarray:
    return matrix @ np.array(colour)


@pytest.mark.parametrize(
    "matrix",
    [
        # Linear approximations of red- and green-blindness (Vienot, Brettel, Mollon 1999).
        np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]),
        np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]),
    ],
)
def test_colours_of_errors_differ_for_colour_blind_people(matrix: np.ndarray) -> None:
    seen = [luminance_under(matrix, ERROR_STYLES[kind].colour) for kind in (TRUE, MISSED, FALSE)]
    for one in range(3):
        for other in range(one):
            assert np.linalg.norm(seen[one] - seen[other]) > 0.2
    hatches = [ERROR_STYLES[kind].hatch for kind in (TRUE, MISSED, FALSE, CONFUSED)]
    assert len(set(hatches)) == 4


def test_classes_differ_in_colour_or_line_style() -> None:
    looks = {(class_colour(number), class_line_style(number)) for number in range(1, 29)}
    assert len(looks) == 28


def test_blend_lays_areas_over_a_grey_image() -> None:
    mask = np.array([[True, False]])
    blended = blend(np.array([[0.5, 0.5]]), [Area(mask, (1.0, 0.0, 0.0), 0.4)])
    np.testing.assert_allclose(blended, [[[0.7, 0.3, 0.3], [0.5, 0.5, 0.5]]], atol=1e-6)


@pytest.mark.parametrize(
    ("width", "unit", "text"),
    [
        (48, "mm", "10 mm"),
        (0.7, "mm", "0.2 mm"),
        (0.02, "mm", "5 \u00b5m"),
        (0.002, "mm", "500 nm"),
        (1388, "pixels", "200 pixels"),
    ],
)
def test_scale_bar_is_a_round_length(width: float, unit: str, text: str) -> None:
    assert describe_length(scale_bar_length(width), unit) == text


def test_ct_is_shown_in_the_window_of_soft_tissue_and_wider_for_bone() -> None:
    channel = np.full((4, 10, 10), -1000.0)
    channel[:, 2:8, 2:8] = 40
    foreground = channel > 0
    assert intensity_window(channel, foreground) == CT_WINDOW
    channel[foreground] = 900
    assert intensity_window(channel, foreground) == (CT_WINDOW[0], 900)


def test_other_images_are_shown_without_their_extremes() -> None:
    channel = np.arange(1000, dtype=np.int16).reshape(10, 10, 10)
    lowest, highest = intensity_window(channel, channel > 500, is_ct=False)
    assert (lowest, highest) == pytest.approx((6, 994), abs=1)
    constant = np.zeros((2, 3, 4))
    assert intensity_window(constant, constant > 0) == (0, 0)


def test_dice_of_an_absent_class_is_no_number() -> None:
    assert describe_dice({"a": 0.5, "b": float("nan")}) == "Dice: a 0.500, b absent; mean 0.500"
    dice = {f"c{number}": number / 60 for number in range(61)} | {"none": float("nan")}
    text = describe_dice(dice)
    assert text.startswith("lowest Dice of 61 classes: c0 0.000, c1 0.017, ")
    assert text.endswith(", c5 0.083; mean 0.500")
