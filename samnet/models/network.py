"""The network that a plan describes: stem, encoder with its adaptation, and head."""

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
from samnet.core.files import atomic_path, require_readable
from samnet.core.read_failures import raise_failure_of_machine
from samnet.models.base import find_base_file, needs_base
from samnet.models.checkpoints import load_checkpoint, load_sam_weights
from samnet.models.encoder import InputStem, build_encoder
from samnet.models.heads import build_head
from samnet.models.heads.head import Head
from samnet.models.lora import add_decoder_lora, add_lora, lora_layers, unmerge_lora
from samnet.models.slice_adapter import add_slice_adapters
from samnet.plan.backbones import BACKBONES, PATCH
from samnet.plan.configuration import Configuration
from samnet.preprocessing.channels import num_input_channels

_STACK_DIMENSIONS = 5  # of (B, D, C, S, S)


class SegmentationNetwork(nn.Module):
    """Turns images into logits of classes, or of regions in a data set that has regions.

    Attributes:
        stem: Turns the data set's channels into the encoder's three.
        encoder: The image encoder.
        head: Turns the embedding into logits.
        stride: Input pixels for each output pixel.
        trainable_only: Whether `adapter()` holds only what was trained, because the rest are
            released weights.
    """

    def __init__(
        self, stem: nn.Module, encoder: nn.Module, head: Head, *, trainable_only: bool
    ) -> None:
        """Put the parts of a network together.

        Args:
            stem: Turns the data set's channels into the encoder's three.
            encoder: The image encoder.
            head: Turns the embedding into logits.
            trainable_only: Whether `adapter()` holds only what was trained.
        """
        super().__init__()
        self.stem, self.encoder, self.head = stem, encoder, head
        self.stride = head.stride
        self.trainable_only = trainable_only

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images.

        Args:
            images: `(B, C, S, S)`, values from 0 to 1; or stacks of D slices `(B, D, C, S, S)`,
                whose slices see each other through the encoder's slice adapters.

        Returns:
            Logits `(B, num_outputs, S / stride, S / stride)`, of the classes with the background
            first, or of the regions; of stacks `(B, D, num_outputs, S / stride, S / stride)`.
        """
        if images.ndim == _STACK_DIMENSIONS:
            return self._of_stacks(images)
        images = self.stem(images)
        return self.head(self.encoder(images), images)

    def _of_stacks(self, stacks: Tensor) -> Tensor:
        """Return the logits of stacks. The head sees each slice by itself."""
        images = self.stem(stacks.flatten(0, 1))
        embedding = self.encoder(images, stacks.shape[1])
        return self.head(embedding, images).unflatten(0, stacks.shape[:2])

    def embed(self, images: Tensor) -> Tensor:
        """Return the encoder's embedding of images.

        Args:
            images: `(B, C, S, S)`, values from 0 to 1.

        Returns:
            A tensor `(B, 256, S / 16, S / 16)`.
        """
        return self.encoder(self.stem(images))

    def decode(self, embedding: Tensor, images: Tensor | None = None) -> Tensor:
        """Return the logits of images whose embedding is known.

        Args:
            embedding: `(B, 256, S / 16, S / 16)`.
            images: `(B, C, S, S)`, values from 0 to 1; needed if `head.uses_image`.

        Returns:
            Logits `(B, num_outputs, S / stride, S / stride)`.
        """
        return self.head(embedding, None if images is None else self.stem(images))

    def adapter(self) -> dict[str, Tensor]:
        """Return the weights in which this network differs from its pre-trained start.

        Returns:
            Tensors by name; all weights if the network started from random weights.

        Raises:
            SamnetError: The adapter would hold weights that LoRA is merged into.
        """
        if not self.trainable_only and any(layer.merged for layer in lora_layers(self)):
            raise SamnetError("LoRA is merged into the weights; call unmerge_lora before adapter()")
        kept = {name for name, _ in self.named_buffers()}
        for name, weight in self.named_parameters():
            if weight.requires_grad or not self.trainable_only:
                kept.add(name)
        return {name: value.detach() for name, value in self.state_dict().items() if name in kept}

    def load_adapter(self, weights: dict[str, Tensor], where: str) -> None:
        """Fill the network from an `adapter()`.

        Args:
            weights: Tensors by name.
            where: What to call the weights in messages, such as the name of their file.

        Raises:
            UserError: Names or shapes differ; the message names the first that does.
        """
        unmerge_lora(self)
        expected = self.adapter()
        faults = [f"{name} is missing" for name in sorted(set(expected) - set(weights))]
        faults += [f"{name} is unknown" for name in sorted(set(weights) - set(expected))]
        for name, value in expected.items():
            if name in weights and value.shape != weights[name].shape:
                found = tuple(weights[name].shape)
                faults.append(f"{name} has shape {found}, expected {tuple(value.shape)}")
        if faults:
            raise UserError(f"{where}: does not fit the plan next to it; {faults[0]}")
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

    Args:
        configuration: The values of a plan.
        num_channels: Number of channels of the data set.
        num_outputs: Number of classes with the background, or of regions.
        load_pretrained: Whether to read the pre-trained weights; False if a complete adapter is
            loaded right afterwards.
        base_file: The weights to start from; by default the file that the configuration names.

    Returns:
        The network, with what is not trained frozen.

    Raises:
        UserError: Pre-trained weights are needed and are not on this machine.
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
    # Random weights that a file replaces anyway would take seconds, and memory for a second copy.
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
    """Freeze what is not trained, and add the configuration's LoRA and slice adapters."""
    rank, targets = configuration.lora_rank, configuration.lora_targets
    scale = configuration.lora_scale
    if configuration.encoder_tuning == "lora":
        add_lora(encoder, rank=rank, targets=targets, blocks=configuration.lora_blocks, scale=scale)
    elif configuration.encoder_tuning == "frozen":
        encoder.requires_grad_(False)
    if configuration.head == "mask_decoder_lora":
        add_decoder_lora(head.mask_decoder.transformer, rank=rank, targets=targets, scale=scale)
    # Last, so that a seed means the same weights of everything else with and without them.
    if configuration.depth > 1:
        add_slice_adapters(encoder, configuration.depth_blocks, configuration.depth_adapters)


def save_weights(
    weights: dict[str, Tensor], file: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write tensors as safetensors; the file is complete or not there at all.

    Args:
        weights: Tensors by name.
        file: The file to write.
        metadata: Texts by name to store with the tensors.

    Raises:
        OSError: The disk is full, or cannot be written to.
    """
    tensors = {name: value.contiguous().cpu() for name, value in weights.items()}
    with atomic_path(file) as temporary:
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:
            reason = re.search(r"\(os error (\d+)\)", str(error))
            if reason is None:
                raise
            raise OSError(int(reason[1]), os.strerror(int(reason[1])), str(file)) from None


def load_weights(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file.

    Args:
        file: The file to read.

    Returns:
        Tensors by name.

    Raises:
        UserError: The file is missing, not readable for this user, or damaged.
    """
    # safetensors calls every file that it cannot open missing.
    require_readable(file)
    try:
        return load_file(file)
    except Exception as error:
        raise_failure_of_machine(file, error)
        raise UserError(f"{file}: cannot be read as safetensors ({error})") from None


def count_parameters(module: nn.Module) -> tuple[int, int]:
    """Count the parameters of a network.

    Args:
        module: The network.

    Returns:
        Number of all parameters, and number of trained parameters.
    """
    weights = list(module.parameters())
    trained = [weight for weight in weights if weight.requires_grad]
    return sum(weight.numel() for weight in weights), sum(weight.numel() for weight in trained)
