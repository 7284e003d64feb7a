"""Plain SAM with box prompts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from samnet.cli import plan_and_preprocess, zero_shot
from samnet.dataset.label_scheme import Regions
from samnet.inference.zero_shot import _draw_regions, find_boxes
from samnet.models import registry
from samnet.models.encoder import PIXEL_MEAN, PIXEL_STD, build_encoder
from samnet.models.heads.mask_decoder import build_mask_decoder
from samnet.models.prompted import BoxPromptedSam
from samnet.models.sam_modules import PromptEncoder
from samnet.plan.backbones import BACKBONES, Backbone

SIZE = 224
TINY = Backbone("tiny", 48, 2, 2, (1,), SIZE)


@pytest.fixture
def sam_parts(tmp_path: Path) -> tuple[dict[str, torch.nn.Module], Path]:
    """SAM's three modules with random weights, and an official-looking file of them."""
    torch.manual_seed(3)
    parts = {
        "image_encoder": build_encoder(TINY, SIZE),
        "prompt_encoder": PromptEncoder(256, (SIZE // 16, SIZE // 16), (SIZE, SIZE), 16),
        "mask_decoder": build_mask_decoder(4),
    }
    state = {
        f"{name}.{key}": value
        for name, part in parts.items()
        for key, value in part.state_dict().items()
    }
    file = tmp_path / "sam_tiny.pth"
    torch.save(state, file)
    return {name: part.eval() for name, part in parts.items()}, file


def test_masks_are_those_of_sams_own_modules(sam_parts: tuple[dict[str, Any], Path]) -> None:
    parts, file = sam_parts
    image = torch.rand(3, SIZE, SIZE)
    boxes = torch.tensor([[10.0, 20.0, 100.0, 120.0], [50.0, 60.0, 200.0, 210.0]])
    mean, std = (torch.tensor(values)[:, None, None] for values in (PIXEL_MEAN, PIXEL_STD))
    with torch.no_grad():
        embedding = parts["image_encoder"](((image - mean) / std)[None])
        sparse, dense = parts["prompt_encoder"](points=None, boxes=boxes, masks=None)
        expected, _ = parts["mask_decoder"](
            embedding, parts["prompt_encoder"].get_dense_pe(), sparse, dense, multimask_output=False
        )
    torch.testing.assert_close(
        BoxPromptedSam(TINY, SIZE, file)(image, boxes), expected[:, 0], rtol=1e-4, atol=1e-5
    )


def test_every_object_has_its_box() -> None:
    plane = np.zeros((20, 30), np.uint8)
    plane[2:5, 3:8] = 1
    plane[10:12, 20:29] = 1
    plane[15:16, 0:2] = 2
    boxes, values = find_boxes(plane, 2, 0)
    assert values == [1, 1, 2]
    assert boxes == [(3, 2, 8, 5), (20, 10, 29, 12), (0, 15, 2, 16)]
    assert find_boxes(plane, 2, 2)[0][2] == (0, 13, 4, 18)


def test_the_command_writes_masks_on_the_grids_of_the_images(
    sam_parts: tuple[dict[str, Any], Path],
    make_dataset: Any,
    folders: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(BACKBONES, "tiny", TINY)
    entry = dataclasses.replace(registry.CHECKPOINTS["vit_b"], file_name="sam_tiny.pth")
    monkeypatch.setitem(registry.CHECKPOINTS, "tiny", entry)
    monkeypatch.setenv("samnet_checkpoints", str(sam_parts[1].parent))
    dataset = make_dataset(folders["raw"], number=7, num_cases=2, num_test=1)
    assert plan_and_preprocess.main(["-d", "7", "-np", "0", "--device", "cpu"]) == 0
    assert (
        zero_shot.main(
            ["-d", "7", "-o", str(tmp_path / "out"), "--backbone", "tiny", "--device", "cpu"]
        )
        == 0
    )
    (written,) = (tmp_path / "out").glob("*.nii.gz")
    image = nibabel.load(next((dataset / "imagesTs").glob("*.nii.gz")))
    mask = nibabel.load(written)
    assert mask.shape == image.shape
    assert np.array_equal(mask.affine, image.affine)


def test_an_unknown_backbone_is_refused(
    folders: dict[str, Path], capsys: pytest.CaptureFixture
) -> None:
    assert zero_shot.main(["-d", "7", "-o", "out", "--backbone", "huge"]) == 2
    assert "choose from small, vit_b" in capsys.readouterr().err


def test_regions_have_boxes_of_their_own_and_are_drawn_in_their_order() -> None:
    plane = np.zeros((20, 30), np.uint8)
    plane[2:12, 3:13], plane[4:8, 5:9], plane[15:17, 20:24] = 1, 2, 4
    regions = Regions(((1, 2), (2,), (3,)), (1, 2, 3))
    boxes, numbers = find_boxes(plane, regions.label_sets, 0)
    assert numbers == [1, 2]
    assert boxes == [(3, 2, 13, 12), (5, 4, 9, 8)]
    masks = np.stack([plane > 0, plane == 2])
    drawn = _draw_regions(masks, np.array(numbers), regions)
    assert np.array_equal(drawn, np.where(plane == 4, 1, plane))
