"""The network a plan describes: stem, encoder with its adaptation, head."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from samnet.core.errors import SamnetError, UserError
from samnet.core.files import atomic_path
from samnet.models.base import find_base_file, needs_base
from samnet.models.checkpoints import load_checkpoint, load_sam_weights
from samnet.models.encoder import InputStem, build_encoder
from samnet.models.heads import build_head
from samnet.models.heads.head import Head
from samnet.models.lora import add_decoder_lora, add_lora, lora_layers, unmerge_lora
from samnet.plan.backbones import BACKBONES, PATCH
from samnet.plan.configuration import Configuration
from samnet.preprocessing.channels import num_input_channels


class SegmentationNetwork(nn.Module):
    """Images `(B, C, S, S)`, 0 to 1, to logits `(B, num_outputs, S / stride, S / stride)`.

    The outputs are the classes, background first, or the regions of a data set that has such.
    trainable_only: whether `adapter()` holds only what was trained, the rest being released weights.
    """

    def __init__(
        self, stem: nn.Module, encoder: nn.Module, head: Head, *, trainable_only: bool
    ) -> None:
        super().__init__()
        self.stem, self.encoder, self.head = stem, encoder, head
        self.stride = head.stride
        self.trainable_only = trainable_only

    def forward(self, images: Tensor) -> Tensor:
        images = self.stem(images)
        return self.head(self.encoder(images), images)

    def embed(self, images: Tensor) -> Tensor:
        """What the encoder makes of images `(B, C, S, S)`: `(B, 256, S / 16, S / 16)`."""
        return self.encoder(self.stem(images))

    def decode(self, embedding: Tensor, images: Tensor | None = None) -> Tensor:
        """The logits of images whose embedding is known; the images are needed where `head.uses_image`."""
        return self.head(embedding, None if images is None else self.stem(images))

    def adapter(self) -> dict[str, Tensor]:
        """What makes this network differ from its pre-trained start; everything where it started at random.

        Raises:
            SamnetError: it would hold weights that LoRA is merged into.
        """
        if not self.trainable_only and any(layer.merged for layer in lora_layers(self)):
            raise SamnetError(
                "LoRA is merged into the weights; use unmerge_lora before asking for the adapter"
            )
        kept = {
            name
            for name, weight in self.named_parameters()
            if weight.requires_grad or not self.trainable_only
        }
        kept |= {name for name, _ in self.named_buffers()}
        return {name: value.detach() for name, value in self.state_dict().items() if name in kept}

    def load_adapter(self, weights: dict[str, Tensor], where: str) -> None:
        """Take over an `adapter()`.

        Raises:
            UserError: names or shapes differ; the first that does is named.
        """
        unmerge_lora(self)
        expected = self.adapter()
        faults = [f"{name} is missing" for name in sorted(set(expected) - set(weights))]
        faults += [f"{name} is unknown" for name in sorted(set(weights) - set(expected))]
        faults += [
            f"{name} has shape {tuple(weights[name].shape)}, expected {tuple(value.shape)}"
            for name, value in expected.items()
            if name in weights and value.shape != weights[name].shape
        ]
        if faults:
            raise UserError(f"{where}: does not fit the plan beside it; {faults[0]}")
        self.load_state_dict(weights, strict=False)


def build_network(
    configuration: Configuration,
    num_channels: int,
    num_outputs: int,
    *,
    load_pretrained: bool = True,
    base_file: Path | None = None,
) -> SegmentationNetwork:
    """Assemble the network of a configuration.

    num_channels: of the data set. num_outputs: classes with the background, or regions.
    load_pretrained: False where a complete adapter is loaded right after.
    base_file: the weights to start from, where they are not those that the configuration finds.

    Raises:
        UserError: pre-trained weights are asked for and not on this machine.
    """
    backbone = BACKBONES[configuration.backbone]
    pretrained = configuration.initial_weights != "random"
    file = None
    if pretrained and (load_pretrained or needs_base(configuration)):
        file = base_file or find_base_file(configuration)
    stem = InputStem(
        num_input_channels(configuration.channel_layout, num_channels),
        configuration.pixel_statistics == "sam",
    )
    # Random weights that a file replaces would take seconds, and their memory again.
    with torch.device("meta") if file else contextlib.nullcontext():
        encoder = build_encoder(
            backbone,
            configuration.input_size,
            gradient_checkpointing=configuration.gradient_checkpointing,
        )
    head = build_head(configuration.head, num_outputs, configuration.input_size // PATCH, backbone)
    if file:
        load_sam_weights(encoder, head, load_checkpoint(file), str(file))
    _adapt(encoder, head, configuration)
    return SegmentationNetwork(stem, encoder, head, trainable_only=pretrained)


def _adapt(encoder: nn.Module, head: Any, configuration: Configuration) -> None:
    """Freeze what is not trained, and put LoRA where the configuration wants it."""
    rank, targets = configuration.lora_rank, configuration.lora_targets
    scale = configuration.lora_scale
    if configuration.encoder_tuning == "lora":
        add_lora(encoder, rank=rank, targets=targets, blocks=configuration.lora_blocks, scale=scale)
    elif configuration.encoder_tuning == "frozen":
        encoder.requires_grad_(False)
    if configuration.head == "mask_decoder_lora":
        add_decoder_lora(head.mask_decoder.transformer, rank=rank, targets=targets, scale=scale)


def save_weights(
    weights: dict[str, Tensor], file: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write tensors as safetensors, whole or not at all.

    Raises:
        OSError: the disk is full, or cannot be written to.
    """
    with atomic_path(file) as temporary:
        try:
            save_file(
                {name: value.contiguous().cpu() for name, value in weights.items()},
                temporary,
                metadata,
            )
        except SafetensorError as error:
            reason = re.search(r"\(os error (\d+)\)", str(error))
            if reason is None:
                raise
            raise OSError(int(reason[1]), os.strerror(int(reason[1])), str(file)) from None


def load_weights(file: Path) -> dict[str, Tensor]:
    """Read tensors from a safetensors file.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        return load_file(file)
    except FileNotFoundError:
        raise UserError(f"{file}: no such file") from None
    except Exception as error:
        raise UserError(f"{file}: cannot be read as safetensors ({error})") from None


def count_parameters(module: nn.Module) -> tuple[int, int]:
    """All parameters, and those that are trained."""
    every = list(module.parameters())
    return sum(weight.numel() for weight in every), sum(
        weight.numel() for weight in every if weight.requires_grad
    )
