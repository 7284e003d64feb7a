"""Plain SAM with box prompts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from builders.data import write_dataset, write_volume
from builders.numerics import assert_close_to_norm, to_double
from builders.tiny import TWO_CLASSES, make_configuration, prepare_dataset

from samnet.cli import zero_shot
from samnet.core.geometry import Grid, spacing_affine
from samnet.dataset.cases import Case
from samnet.dataset.images import read_labels
from samnet.dataset.label_scheme import LabelScheme
from samnet.inference.zero_shot import (
    ZeroShot,
    draw_regions,
    filled_pixels,
    find_object_boxes,
    frame_as_sam,
    zero_shot_cases,
)
from samnet.models import registry
from samnet.models.encoder import PIXEL_MEAN, PIXEL_STD, build_encoder
from samnet.models.heads.mask_decoder import build_mask_decoder
from samnet.models.prompted import BoxPromptedSam
from samnet.models.sam_modules import PromptEncoder
from samnet.plan.backbones import BACKBONES, Backbone
from samnet.plan.configuration import IntensityWindow
from samnet.planning.planned_dataset import PlannedDataset
from samnet.preprocessing.case import PreparedVolume, prepare_volume

SIZE = 224
TINY = Backbone("tiny", 48, 2, 2, (1,), SIZE)


@pytest.fixture
def sam_parts(tmp_path: Path) -> tuple[dict[str, torch.nn.Module], Path]:
    """SAM's three modules with random weights, and a file of them in the official layout."""
    torch.manual_seed(3)
    parts = {
        "image_encoder": build_encoder(TINY, SIZE),
        "prompt_encoder": PromptEncoder(256, (SIZE // 16, SIZE // 16), (SIZE, SIZE), 16),
        "mask_decoder": build_mask_decoder(4),
    }
    state = {}
    for name, part in parts.items():
        for key, value in part.state_dict().items():
            state[f"{name}.{key}"] = value
    file = tmp_path / "sam_tiny.pth"
    torch.save(state, file)
    return {name: part.eval() for name, part in parts.items()}, file


def test_box_prompted_sam_gives_the_masks_of_sams_modules(
    sam_parts: tuple[dict[str, Any], Path],
) -> None:
    parts, file = sam_parts
    image = torch.rand(3, SIZE, SIZE, dtype=torch.float64)
    boxes = torch.tensor([[10.0, 20.0, 100.0, 120.0], [50.0, 60.0, 200.0, 210.0]])
    mean, std = (torch.tensor(values)[:, None, None] for values in (PIXEL_MEAN, PIXEL_STD))
    for part in parts.values():
        to_double(part)
    with torch.no_grad():
        embedding = parts["image_encoder"](((image - mean) / std)[None])
        sparse, dense = parts["prompt_encoder"](points=None, boxes=boxes, masks=None)
        expected, _ = parts["mask_decoder"](
            embedding, parts["prompt_encoder"].get_dense_pe(), sparse, dense, multimask_output=False
        )
    found = to_double(BoxPromptedSam(TINY, SIZE, file))(image, boxes)
    assert_close_to_norm(found, expected[:, 0])


def a_wide_slice() -> tuple[PreparedVolume, np.ndarray]:
    """A slice of 28 x 56 pixels of 1 x 2 mm: a bright box, and the label map of it."""
    reference = np.zeros((1, 28, 56), np.uint8)
    reference[0, 12:24, 5:17] = 1
    values = np.where(reference, 200, 50).astype(np.uint8)
    return prepare_volume(values[None], Grid((1, 28, 56), spacing_affine((1, 1, 2)))), reference


def zero_shot_with(network: Any) -> ZeroShot:
    scheme = LabelScheme({"background": 0, "box": 1})
    window = (IntensityWindow("fixed", 0, 255),)
    return ZeroShot(network, make_configuration(intensity=window), scheme, SIZE)


def test_zero_shot_shows_sam_images_as_in_its_training(
    sam_parts: tuple[dict[str, Any], Path],
) -> None:
    """SAM's code: the longer edge fills the input, normalised, then zeros on the right and below.

    (`Sam.preprocess`, `ResizeLongestSide` in segment_anything 1.0.)
    """
    network = BoxPromptedSam(TINY, SIZE, sam_parts[1])
    shown: dict[str, torch.Tensor] = {}
    network.encoder.register_forward_pre_hook(lambda _, inputs: shown.update(image=inputs[0]))
    network.decoder.prompt_encoder.register_forward_pre_hook(
        lambda _, __, prompts: shown.update(boxes=prompts["boxes"]), with_kwargs=True
    )
    zero_shot_with(network).segment(*a_wide_slice())
    image = shown["image"][0]
    assert image.shape == (3, SIZE, SIZE)
    # 28 x 112 mm
    assert not image[:, SIZE // 4 :].any()
    filled = image[:, : SIZE // 4].double()
    mean, std = (torch.tensor(values).double()[:, None] for values in (PIXEL_MEAN, PIXEL_STD))
    for row, column, value in ((0, 0, 50), (55, 223, 50), (36, 44, 200)):
        torch.testing.assert_close(filled[:, row, column, None], (value / 255 - mean) / std)
    assert shown["boxes"].tolist() == [[20.0, 24.0, 68.0, 48.0]]


class BrightAreas(torch.nn.Module):
    """In place of SAM: what is brighter than grey, as SAM would return it."""

    def __init__(self) -> None:
        super().__init__()
        self.threshold = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, image: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Return logits of a quarter of the input's size."""
        size = (0, SIZE - image.shape[2], 0, SIZE - image.shape[1])
        padded = torch.nn.functional.pad(image, size)
        return torch.nn.functional.avg_pool2d(padded, 4)[:1].detach() - self.threshold.detach()


def test_zero_shot_returns_masks_to_where_they_were_seen() -> None:
    volume, reference = a_wide_slice()
    found = zero_shot_with(BrightAreas()).segment(volume, reference)
    assert np.array_equal(found, reference)


def test_find_object_boxes_finds_every_object() -> None:
    plane = np.zeros((20, 30), np.uint8)
    plane[2:5, 3:8] = 1
    plane[5, 8] = 1  # touches the object at a corner
    plane[10:12, 20:29] = 1
    plane[15:16, 0:2] = 2
    boxes, values = find_object_boxes(plane, [(1,), (2,)], 0)
    assert values == [1, 1, 2]
    assert boxes == [(3, 2, 9, 6), (20, 10, 29, 12), (0, 15, 2, 16)]
    wider_boxes, _ = find_object_boxes(plane, [(1,), (2,)], 2)
    assert wider_boxes[2] == (0, 13, 4, 18)


def test_zero_shot_command_writes_masks_on_the_grids_of_their_images(
    sam_parts: tuple[dict[str, Any], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(BACKBONES, "tiny", TINY)
    entry = dataclasses.replace(registry.CHECKPOINTS["vit_b"], file_name="sam_tiny.pth")
    monkeypatch.setitem(registry.CHECKPOINTS, "tiny", entry)
    monkeypatch.setenv("samnet_checkpoints", str(sam_parts[1].parent))
    dataset = write_dataset(tmp_path / "raw", number=7, num_cases=2, num_test=1)
    prepare_dataset(tmp_path, 7, monkeypatch)
    options = ["-d", "7", "-o", str(tmp_path / "out"), "--backbone", "tiny", "--device", "cpu"]
    (dataset / "imagesTs" / "scan.mha").touch()
    assert zero_shot.main(options) == 0
    printed = capsys.readouterr().err
    assert "imagesTs: not predicted: scan.mha: ends in .mha" in printed
    assert "imagesTs: 1 files or folders in it were not predicted" in printed
    (written,) = (tmp_path / "out").glob("*.nii.gz")
    image = nibabel.load(next((dataset / "imagesTs").glob("*.nii.gz")))
    mask = nibabel.load(written)
    assert mask.shape == image.shape
    assert np.array_equal(mask.affine, image.affine)


def device_of(model: ZeroShot) -> str:
    return next(model.network.parameters()).device.type


def test_zero_shot_command_passes_its_options_on(
    sam_parts: tuple[dict[str, Any], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BACKBONES, "tiny", TINY)
    entry = dataclasses.replace(registry.CHECKPOINTS["vit_b"], file_name="sam_tiny.pth")
    monkeypatch.setitem(registry.CHECKPOINTS, "tiny", entry)
    monkeypatch.setenv("samnet_checkpoints", str(sam_parts[1].parent))
    dataset = write_dataset(tmp_path / "raw", number=7, num_cases=2, num_test=3)
    prepare_dataset(tmp_path, 7, monkeypatch)
    calls: list[Any] = []
    monkeypatch.setattr(
        "samnet.inference.zero_shot.zero_shot_cases", lambda *all: calls.append(all)
    )
    monkeypatch.setattr("samnet.core.machine.choose_device", lambda device: device or "cpu")

    words = ["-d", "7", "-o", "out", "--backbone", "tiny"]
    assert zero_shot.main(words) == 0
    model, cases, references, output = calls.pop()
    assert (model.input_size, model.margin, device_of(model)) == (SIZE, 0, "cpu")
    planned = PlannedDataset.find("7").plan
    assert model.configuration == planned.configuration("lora") != planned.configuration("samed")
    assert (references, output) == (dataset / "labelsTs", Path("out"))
    assert {case.image_files[0].parent for case in cases} == {dataset / "imagesTs"}
    assert len(cases) == 3

    images, masks = str(dataset / "imagesTr"), str(dataset / "labelsTr")
    words += ["-i", images, "-r", masks, "--margin", "3", "--device", "meta"]
    assert zero_shot.main([*words, "--num-parts", "2", "--part-id", "1"]) == 0
    model, cases, references, _ = calls.pop()
    assert (model.margin, device_of(model)) == (3, "meta")
    assert references == Path(masks)
    assert [case.identifier for case in cases] == ["case_01"]


def test_zero_shot_command_refuses_an_unknown_backbone(
    folders: dict[str, Path], capsys: pytest.CaptureFixture
) -> None:
    assert zero_shot.main(["-d", "7", "-o", "out", "--backbone", "huge"]) == 2
    assert "choose from small, vit_b" in capsys.readouterr().err


def test_draw_regions_writes_regions_in_their_order() -> None:
    plane = np.zeros((20, 30), np.uint8)
    plane[2:12, 3:13], plane[4:8, 5:9], plane[15:17, 20:24] = 1, 2, 4
    labels = {"background": 0, "whole": (1, 2), "core": 2, "other": 3}
    regions = LabelScheme(labels, regions_class_order=(1, 2, 3)).regions
    assert regions is not None
    boxes, numbers = find_object_boxes(plane, regions.label_sets, 0)
    assert numbers == [1, 2]
    assert boxes == [(3, 2, 13, 12), (5, 4, 9, 8)]
    masks = np.stack([plane > 0, plane == 2])
    drawn = draw_regions(masks, np.array(numbers), regions)
    assert np.array_equal(drawn, np.where(plane == 4, 1, plane))


class FilledBoxes(torch.nn.Module):
    """In place of SAM: every object fills its box."""

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.centres = 4 * torch.arange(input_size // 4) + 2

    def forward(self, image: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Return logits of a quarter of the input's size."""
        rows, columns = self.centres[:, None], self.centres[None]
        masks = [
            (left < columns) & (columns < right) & (top < rows) & (rows < bottom)
            for left, top, right, bottom in boxes
        ]
        return 2.0 * torch.stack(masks) - 1


def fill_boxes(axis: int, input_size: int, margin: int = 0) -> ZeroShot:
    network: Any = FilledBoxes(input_size)
    configuration = make_configuration(slicing_axis=axis, views=(axis,))
    return ZeroShot(network, configuration, TWO_CLASSES, input_size, margin)


@pytest.mark.parametrize(("axis", "input_size"), [(0, 64), (1, 80), (2, 80)])
def test_zero_shot_returns_filled_boxes_to_the_objects_across_every_axis(
    axis: int, input_size: int
) -> None:
    """A pixel of the slice is whole pixels of the masks, so that the labels are exact."""
    reference = np.zeros((10, 12, 16), np.uint8)
    reference[1:4, 2:9, 3:5] = 1
    reference[6:8, 1:3, 7:15] = 2
    image = np.full((1, *reference.shape), 9, np.uint8)
    volume = prepare_volume(image, Grid(reference.shape, spacing_affine((2.0, 1.0, 1.0))))
    model = fill_boxes(axis, input_size)
    assert np.array_equal(model.segment(volume, reference), reference)


def test_zero_shot_keeps_the_margin_between_objects_and_boxes() -> None:
    reference = np.zeros((1, 12, 16), np.uint8)
    reference[0, 4:7, 3:5] = 1
    image = np.full((1, *reference.shape), 9, np.uint8)
    volume = prepare_volume(image, Grid(reference.shape, np.eye(4)))
    expected = np.zeros_like(reference)
    expected[0, 3:8, 2:6] = 1
    assert np.array_equal(fill_boxes(0, 64, margin=1).segment(volume, reference), expected)


def test_edges_of_a_slice_are_rounded_to_pixels_of_the_input_as_by_sam() -> None:
    assert filled_pixels(frame_as_sam((100, 300), (1.0, 1.0), 224)) == (75, 224)  # from 74.67


def test_zero_shot_cases_keep_objects_beside_what_is_bright(tmp_path: Path) -> None:
    image, reference = np.zeros((2, 3, 12, 16), np.uint8)
    image[:, :4, :4] = 9
    reference[1, 8:, 10:] = 1
    file = tmp_path / "images" / "a_0000.nii.gz"
    write_volume(file, image, np.eye(4))
    write_volume(tmp_path / "labels" / "a.nii.gz", reference, np.eye(4))
    case, output = Case("a", (file,)), tmp_path / "out"
    zero_shot_cases(fill_boxes(0, 64), [case], tmp_path / "labels", output)
    assert np.array_equal(read_labels(output / "a.nii.gz").array[0], reference)
