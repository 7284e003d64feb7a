"""Pictures of label maps over images: the right slice the right way up, whole or not at all."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from skimage import io

from samnet.core.errors import UserError
from samnet.core.geometry import Grid
from samnet.dataset.cases import Case
from samnet.dataset.label_scheme import Regions
from samnet.evaluation import overlays
from samnet.evaluation.metrics import dice_per_class
from samnet.evaluation.overlays import draw_overlays

CLASSES = ("organ", "vessel")
LPS_BY_5MM = np.diag([-2.0, -2.0, 5.0, 1.0])


def save(array_z_y_x: np.ndarray, affine: np.ndarray, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array_z_y_x.transpose(), affine), file)


@pytest.fixture
def labels() -> np.ndarray:
    """A label map (Z, Y, X) with most foreground in slice 4."""
    labels = np.zeros((7, 20, 30), dtype=np.uint8)
    labels[2:6, 4:9, 3:12] = 1
    labels[4, 10:16, 15:25] = 2
    return labels


@pytest.fixture
def case(tmp_path, labels) -> Case:
    noise = np.random.default_rng(0).normal(0, 10, labels.shape)
    save(
        (labels * 50.0 + noise).astype(np.int16), LPS_BY_5MM, tmp_path / "images" / "a_0000.nii.gz"
    )
    save(labels, LPS_BY_5MM, tmp_path / "references" / "a.nii.gz")
    save(np.where(labels == 2, 0, labels), LPS_BY_5MM, tmp_path / "predictions" / "a.nii.gz")
    return Case("a", (tmp_path / "images" / "a_0000.nii.gz",))


@pytest.fixture
def colour_case(tmp_path) -> Case:
    picture = np.random.default_rng(0).integers(0, 255, (24, 40, 3), dtype=np.uint8)
    label = np.zeros((24, 40), dtype=np.uint8)
    label[:12, :10] = 1
    for name, content in (
        ("images/c_0000", picture),
        ("predictions/c", label),
        ("references/c", label),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        io.imsave(tmp_path / f"{name}.png", content, check_contrast=False)
    return Case("c", (tmp_path / "images" / "c_0000.png",))


def draw(case: Case, tmp_path: Path, name: str = "overlays.png", references: bool = True) -> Path:
    file = tmp_path / "out" / name
    draw_overlays(
        [case],
        tmp_path / "predictions",
        tmp_path / "references" if references else None,
        CLASSES,
        file,
    )
    return file


def is_coloured(picture: np.ndarray) -> np.ndarray:
    rgb = picture[..., :3].astype(int)
    return rgb.max(axis=-1) - rgb.min(axis=-1) > 40


def test_a_picture_is_written_with_colours_beside_a_grey_image(case, tmp_path):
    picture = io.imread(draw(case, tmp_path))
    thirds = np.array_split(is_coloured(picture[: picture.shape[0] * 2 // 3]), 3, axis=1)
    assert min(picture.shape[:2]) > 200
    assert not thirds[0].any()
    assert 0 < thirds[1].mean() < thirds[2].mean()  # the prediction misses a class
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["overlays.png"]


def test_without_references_there_is_one_column_less(case, tmp_path):
    with_references = io.imread(draw(case, tmp_path))
    without = io.imread(draw(case, tmp_path, "alone.png", references=False))
    assert without.shape[1] == pytest.approx(with_references.shape[1] * 2 / 3, abs=2)


@pytest.mark.parametrize("name", ["overlays.pdf", "overlays.svg", "overlays.jpg"])
def test_other_formats(case, tmp_path, name):
    assert draw(case, tmp_path, name).stat().st_size > 2000


def test_colour_pictures_keep_colours_and_directions(colour_case, tmp_path):
    row = overlays._load_row(colour_case, tmp_path / "predictions", tmp_path / "references", 2)
    np.testing.assert_allclose(row.image, io.imread(colour_case.image_files[0]) / 255, atol=1e-6)
    assert row.label_maps["reference"][:12, :10].all()
    assert row.aspect == 1
    assert draw(colour_case, tmp_path).is_file()


def test_the_slice_with_most_foreground_is_shown_from_the_feet_front_up(case, labels, tmp_path):
    row = overlays._load_row(case, tmp_path / "predictions", tmp_path / "references", 2)
    # Stored as LPS, a slice already has the patient's right on its left and the front at its top.
    np.testing.assert_array_equal(row.label_maps["reference"], labels[4])
    assert row.aspect == pytest.approx(1)
    assert "prediction, mean Dice 0.500" in row.label_maps


def test_the_view_does_not_depend_on_how_the_axes_are_stored(case, labels, tmp_path):
    image = nibabel.load(case.image_files[0])
    expected = overlays._load_row(case, tmp_path / "predictions", None, 2)
    for code in ("PSR", "RAS"):
        transform = nibabel.orientations.ornt_transform(
            nibabel.orientations.axcodes2ornt("LPS"), nibabel.orientations.axcodes2ornt(code)
        )
        nibabel.save(image.as_reoriented(transform), tmp_path / "images" / f"{code}_0000.nii.gz")
        prediction = nibabel.load(tmp_path / "predictions" / "a.nii.gz").as_reoriented(transform)
        nibabel.save(prediction, tmp_path / "predictions" / f"{code}.nii.gz")
        turned = Case(code, (tmp_path / "images" / f"{code}_0000.nii.gz",))
        row = overlays._load_row(turned, tmp_path / "predictions", None, 2)
        np.testing.assert_array_equal(
            row.label_maps["prediction"], expected.label_maps["prediction"]
        )
        np.testing.assert_allclose(row.image, expected.image, atol=1e-6)


def test_slices_cross_the_coarsest_axis_in_true_proportions(tmp_path, labels):
    grid = Grid(labels.shape, np.diag([2.0, 6.0, 3.0, 1.0]))
    views = overlays._Views(grid, labels, flat=False, num_classes=2)
    assert views.cut(labels).shape == (7, 30)
    assert views.aspect == pytest.approx(1.5)


def test_large_slices_are_thinned_out():
    labels = np.zeros((1, 1500, 3000), dtype=np.uint8)
    views = overlays._Views(Grid(labels.shape, np.eye(4)), labels, flat=True, num_classes=1)
    assert views.cut(labels).shape == (750, 1000)
    assert views.aspect == pytest.approx(2 / 3)


def test_the_window_keeps_organs_apart_in_spite_of_air():
    channel = np.full((4, 10, 10), -1000.0)
    channel[:, 2:8, 2:8] = np.linspace(0, 100, 36).reshape(6, 6)
    lowest, highest = overlays._intensity_window(channel, channel > -500)
    assert lowest > -150
    assert highest <= 100


@pytest.mark.parametrize("fill", [0, 1])
def test_empty_and_full_label_maps_are_drawn_without_warnings(
    case, labels, tmp_path, fill, recwarn
):
    for folder in ("predictions", "references"):
        save(np.full_like(labels, fill), LPS_BY_5MM, tmp_path / folder / "a.nii.gz")
    assert draw(case, tmp_path).is_file()
    assert not [
        warning
        for warning in recwarn
        if "contour" in str(warning.message) or "mean" in str(warning.message)
    ]


def test_the_ignore_label_is_neither_drawn_nor_scored(case, labels, tmp_path):
    ignoring = np.where(labels == 2, 3, labels)
    save(ignoring, LPS_BY_5MM, tmp_path / "references" / "a.nii.gz")
    save(np.minimum(labels, 1), LPS_BY_5MM, tmp_path / "predictions" / "a.nii.gz")
    row = overlays._load_row(case, tmp_path / "predictions", tmp_path / "references", 2)
    assert "prediction, mean Dice 1.000" in row.label_maps
    assert overlays._values_in(row.label_maps["reference"], 2) == [1]


def test_faults_name_file_and_remedy(case, labels, tmp_path):
    with pytest.raises(UserError, match=r"overlays\.tiff.*\.png"):
        draw(case, tmp_path, "overlays.tiff")
    with pytest.raises(UserError, match="nothing to draw"):
        draw_overlays([], tmp_path, None, CLASSES, tmp_path / "out" / "overlays.png")
    save(labels[:-1], LPS_BY_5MM, tmp_path / "predictions" / "a.nii.gz")
    with pytest.raises(UserError, match=r"predictions.a\.nii\.gz: shape .*resample"):
        draw(case, tmp_path)
    shifted = LPS_BY_5MM.copy()
    shifted[0, 3] = 1.0
    save(labels, shifted, tmp_path / "predictions" / "a.nii.gz")
    with pytest.raises(UserError, match="voxels beside"):
        draw(case, tmp_path)
    (tmp_path / "predictions" / "a.nii.gz").unlink()
    with pytest.raises(UserError, match=r"predictions.a\.nii\.gz: missing"):
        draw(case, tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_failure_while_writing_leaves_nothing_partial(case, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    def write_a_part(figure, file, **options):
        Path(file).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", write_a_part)
    with pytest.raises(OSError, match="disk full"):
        draw(case, tmp_path)
    assert list((tmp_path / "out").iterdir()) == []


def test_only_the_first_cases_are_read(case, tmp_path):
    missing = Case("b", (tmp_path / "images" / "b_0000.nii.gz",))
    file = tmp_path / "out" / "overlays.png"
    draw_overlays([case, missing], tmp_path / "predictions", None, CLASSES, file, max_cases=1)
    assert file.is_file()


def test_regions_are_drawn_and_scored_as_unions(case, labels, tmp_path):
    """The prediction has lost label 2, so all that is left of the outer region is right."""
    regions = Regions(((1, 2), (2,)), (1, 2))
    row = overlays._load_row(
        case, tmp_path / "predictions", tmp_path / "references", regions.label_sets
    )
    expected = dice_per_class(np.where(labels == 2, 0, labels), labels, regions.label_sets)
    assert expected[1] == 0 < expected[0] < 1
    assert list(row.label_maps) == [f"prediction, mean Dice {expected.mean():.3f}", "reference"]
    seen = [overlays._values_in(shown, regions.label_sets) for shown in row.label_maps.values()]
    assert seen == [[1], [1, 2]]
    figure = overlays._draw([row], dict(zip(CLASSES, regions.label_sets, strict=True)))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(CLASSES)
    fill = figure.axes[2].images[1].get_array()
    shown = row.label_maps["reference"]
    for number in (1, 2):  # the inner region lies over the outer one
        colours = np.unique(fill[shown == number][:, :3], axis=0)
        np.testing.assert_allclose(colours, [overlays._colour(number)], atol=1e-6)
    file = tmp_path / "out" / "overlays.png"
    draw_overlays(
        [case], tmp_path / "predictions", tmp_path / "references", CLASSES, file, regions=regions
    )
    assert is_coloured(io.imread(file)).any()
