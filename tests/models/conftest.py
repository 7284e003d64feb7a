"""A tiny SAM with weights in the layout of the official files, and networks built of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from builders.tiny_sam import TINY, VALUES, Build, randomise, sam_encoder
from torch import Tensor

from samnet.models.heads.mask_decoder import build_mask_decoder
from samnet.models.network import SegmentationNetwork, build_network
from samnet.models.registry import CHECKPOINTS, Checkpoint
from samnet.models.sam_modules import PromptEncoder
from samnet.plan.backbones import BACKBONES
from samnet.plan.configuration import Configuration


@pytest.fixture(autouse=True)
def _tiny_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setitem(BACKBONES, "tiny", TINY)
    monkeypatch.setitem(CHECKPOINTS, "tiny", Checkpoint("sam_tiny.pth", "0" * 64))


@pytest.fixture
def sam_weights() -> dict[str, Tensor]:
    """All weights of a tiny SAM for 1024 pixels, under the names of the official files."""
    parts = {
        "image_encoder": sam_encoder(TINY, 1024),
        "prompt_encoder": PromptEncoder(
            embed_dim=256,
            image_embedding_size=(64, 64),
            input_image_size=(1024, 1024),
            mask_in_chans=16,
        ),
        "mask_decoder": build_mask_decoder(4),
    }
    weights = {}
    for name, part in parts.items():
        for key, value in randomise(part).state_dict().items():
            weights[f"{name}.{key}"] = value
    return weights


@pytest.fixture
def sam_file(
    tmp_path: Path, sam_weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """`sam_weights` as an official `.pth` file, in the folder where samnet looks for it."""
    monkeypatch.setenv("samnet_checkpoints", str(tmp_path))
    file = tmp_path / "sam_tiny.pth"
    torch.save(sam_weights, file)
    return file


@pytest.fixture
def build() -> Build:
    """A function that builds the network of a configuration with some values changed.

    It has three outputs and, unless another number is given, one channel.
    """

    def build_changed(
        load_pretrained: bool = True,
        num_channels: int = 1,
        base_file: Path | None = None,
        **changes: Any,
    ) -> SegmentationNetwork:
        configuration = Configuration(**(VALUES | changes))
        return build_network(
            configuration, num_channels, 3, load_pretrained=load_pretrained, base_file=base_file
        )

    return build_changed
