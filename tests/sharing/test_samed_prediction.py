"""A file of SAMed predicts in samnet as SAMed's own code predicts with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from builders.models import TINY_SAM, add_tiny_sam
from builders.samed_files import predict_as_samed, write_samed
from builders.tiny_sam import sam_encoder
from torch import Tensor

from samnet.cli import import_samed
from samnet.core.files import write_json
from samnet.core.geometry import Grid
from samnet.dataset.description import DatasetDescription
from samnet.inference.predictor import Predictor
from samnet.models.model_folder import ALL_CASES, ModelFolder
from samnet.sharing import samed
from samnet.sharing.samed import SamedOptions

SIZE = 96
ORGANS = DatasetDescription(("CT",), {"background": 0, "spleen": 1, "liver": 2}, None, ".nii.gz")
# Rows and columns, and their spacing in mm: slices of 333, 400 and 492 mm.
VOLUMES = [((111, 111), 3.0), ((100, 80), 4.0), ((205, 164), 2.4)]
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture
def sam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """The released weights of a tiny SAM by SAM's names."""
    return add_tiny_sam(tmp_path / "checkpoints", monkeypatch)


@pytest.fixture
def content(sam: dict[str, Tensor]) -> dict[str, Tensor]:
    """The content of a file of SAMed."""
    torch.manual_seed(1)
    return write_samed(TINY_SAM, 2, SIZE, decoder_lora=False)


def ct(size: tuple[int, int]) -> np.ndarray:
    """Return two slices `(Z, Y, X)` of smooth structures in HU, some beyond SAMed's window."""
    generator = np.random.default_rng(0)
    coarse = torch.from_numpy(generator.uniform(-400, 600, (1, 2, 12, 10)).astype(np.float32))
    return torch.nn.functional.interpolate(coarse, size, mode="bicubic")[0].numpy()


def predict_file(model: Path, image: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return samnet's labels of an image `(Z, Y, X)` whose file has an affine."""
    predictor = Predictor.from_folder(model, device="cpu")
    return predictor.predict_on_grid(image[None], Grid(image.shape, affine))


def agreement(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the share of the voxels that either shows as foreground which have the same label."""
    foreground = (found > 0) | (expected > 0)
    assert foreground.mean() > 0.1
    assert len(np.unique(expected)) == 3
    return float((found == expected)[foreground].mean())


@pytest.mark.parametrize(("size", "spacing"), VOLUMES, ids=["333 mm", "400 mm", "492 mm"])
@pytest.mark.parametrize(
    ("axes", "affine"),
    [("file", LPS), ("file_transposed", np.eye(4))],
    ids=["file", "file_transposed"],
)
def test_imported_file_predicts_as_samed_does(
    sam: dict[str, Tensor],
    content: dict[str, Tensor],
    tmp_path: Path,
    size: tuple[int, int],
    spacing: float,
    axes: str,
    affine: np.ndarray,
) -> None:
    image = ct(size)
    torch.save(content, tmp_path / "epoch_159.pth")
    options = SamedOptions(input_size=SIZE, orientation=axes)
    samed.import_samed(tmp_path / "epoch_159.pth", ORGANS, tmp_path / "model", options)
    scaled = affine @ np.diag([spacing, spacing, 5.0, 1.0])
    found = predict_file(tmp_path / "model", image, scaled)

    as_trained = image.swapaxes(1, 2) if axes == "file_transposed" else image
    encoder = sam_encoder(TINY_SAM, SIZE)
    expected = predict_as_samed(as_trained, content, sam, encoder, TINY_SAM, SIZE)
    if axes == "file_transposed":
        expected = expected.swapaxes(1, 2)
    assert agreement(found, expected) >= 0.99


@pytest.mark.parametrize("frame", ["splines", "stretch", "scale"])
def test_other_frames_predict_otherwise(
    sam: dict[str, Tensor], content: dict[str, Tensor], tmp_path: Path, frame: str
) -> None:
    """Without the step of 224 pixels, the same as SAMed's code without it."""
    image = ct((100, 80))
    torch.save(content, tmp_path / "epoch_159.pth")
    options = SamedOptions(input_size=SIZE, frame=frame, slice_width=200.0)
    samed.import_samed(tmp_path / "epoch_159.pth", ORGANS, tmp_path / "model", options)
    found = predict_file(tmp_path / "model", image, np.diag([4.0, 4.0, 5.0, 1.0]))
    encoder = sam_encoder(TINY_SAM, SIZE)
    expected = predict_as_samed(image, content, sam, encoder, TINY_SAM, SIZE, first=SIZE)
    if frame == "splines":
        assert agreement(found, expected) >= 0.99
    else:
        lowest = {"stretch": 0.7, "scale": 0.0}[frame]
        assert lowest < agreement(found, expected) < 0.99


def test_model_that_was_trained_reoriented_predicts_the_same_for_every_orientation(
    content: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save(content, tmp_path / "epoch_159.pth")
    models = {}
    for axes in ("file", "SPL"):
        models[axes] = tmp_path / axes
        options = SamedOptions(input_size=SIZE, orientation=axes)
        samed.import_samed(tmp_path / "epoch_159.pth", ORGANS, models[axes], options)
    image = ct((100, 80))
    # In a file with the axes L, P, S, slices run to the head, rows to the back, columns to the
    # left.
    expected = predict_file(models["file"], image, LPS)
    assert np.array_equal(predict_file(models["SPL"], image, LPS), expected)
    flipped = predict_file(models["SPL"], image[:, ::-1, ::-1], np.eye(4))
    assert np.array_equal(flipped[:, ::-1, ::-1], expected)
    assert not np.array_equal(
        predict_file(models["file"], image[:, ::-1, ::-1], np.eye(4)), flipped
    )


def test_stretched_slices_keep_their_margins(content: dict[str, Tensor], tmp_path: Path) -> None:
    """samnet crops to what is not 0; it is the whole slice that fills the input."""
    torch.save(content, tmp_path / "epoch_159.pth")
    options = SamedOptions(input_size=SIZE)
    samed.import_samed(tmp_path / "epoch_159.pth", ORGANS, tmp_path / "model", options)
    image = ct((100, 80))
    image[:, :13] = 0
    image[:, :, 70:] = 0
    almost = np.where(image == 0, 1e-4, image)  # not cropped
    found = predict_file(tmp_path / "model", image, np.eye(4))[:, 13:, :70]
    expected = predict_file(tmp_path / "model", almost, np.eye(4))[:, 13:, :70]
    assert agreement(found, expected) > 0.999


@pytest.mark.parametrize(
    ("options", "frame", "orientation"),
    [
        ([], "splines_224", "file"),
        (["--frame", "splines"], "splines", "file"),
        (["--slice-width", "192"], "scale", "file"),
        (["--frame", "scale", "--axes", "patient"], "scale", "patient"),
        (["--frame", "stretch", "--axes", "SPL"], "stretch", "SPL"),
    ],
    ids=["no options", "frame", "slice width", "as before", "code"],
)
def test_import_command_takes_the_way_of_samed_unless_told_otherwise(
    content: dict[str, Tensor],
    tmp_path: Path,
    options: list[str],
    frame: str,
    orientation: str,
) -> None:
    torch.save(content, tmp_path / "epoch_159.pth")
    write_json(tmp_path / "dataset.json", ORGANS.as_json())
    arguments = [str(tmp_path / "epoch_159.pth"), "--dataset-json", str(tmp_path / "dataset.json")]
    arguments += ["-o", str(tmp_path / "model"), "--input-size", str(SIZE)]
    assert import_samed.main([*arguments, *options]) == 0
    configuration = ModelFolder(tmp_path / "model").run(ALL_CASES).configuration
    assert (configuration.frame, configuration.orientation) == (frame, orientation)
    if "--slice-width" in options:
        assert configuration.in_plane_spacing == 2.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--frame", "splines", "--slice-width", "400"], "--slice-width is for --frame scale"),
        (["--frame", "stretched"], "--frame: frame is 'stretched'; possible are scale, stretch"),
        (["--axes", "RAX"], "--axes: orientation is 'RAX'; it has to be `patient`"),
    ],
    ids=["slice width", "frame", "axes"],
)
def test_import_command_refuses_what_it_does_not_know(
    tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["epoch_159.pth", "--dataset-json", "dataset.json", "-o", str(tmp_path / "model")]
    assert import_samed.main([*arguments, *options]) == 2
    assert message in capsys.readouterr().err
