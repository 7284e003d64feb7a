"""The operations that a training step needs, counted without computing it."""

from __future__ import annotations

import sys
from dataclasses import replace
from unittest.mock import patch

import torch
from torch.utils.flop_counter import FlopCounterMode

from samnet.models import chunked_attention
from samnet.models.attention_form import as_if_on
from samnet.models.encoder import build_encoder
from samnet.models.network import build_network
from samnet.plan.backbones import BACKBONES, EMBEDDING_CHANNELS, PATCH
from samnet.plan.configuration import Configuration
from samnet.preprocessing.channels import num_input_channels


def count_step(
    configuration: Configuration, num_channels: int, num_outputs: int, *, from_cache: bool = False
) -> int:
    """Count the operations of products in the forward and the backward pass of a training step.

    A multiplication and an addition are two operations. Tensors have no values, so that nothing is
    computed. Attention is counted in the form that does nothing but its own products, which is that
    of CPUs, without tokens that only fill up windows.

    Args:
        configuration: The configuration; its batch size counts.
        num_channels: Number of image channels of the data set.
        num_outputs: Number of outputs of the network.
        from_cache: Whether the step begins with stored embeddings, and leaves out the encoder.

    Returns:
        The number of operations.
    """
    batch, size = configuration.batch_size, configuration.input_size
    channels = num_input_channels(configuration.channel_layout, num_channels)
    # Without values only the first chunk of heads is worked on, so all have to be in it.
    one_chunk = patch.object(chunked_attention, "CHUNK_VALUES", sys.maxsize)
    with torch.device("meta"), as_if_on("cpu"), one_chunk:
        network = build_network(
            replace(configuration, initial_weights="random"), num_channels, num_outputs
        ).train()
        images = torch.empty(batch, channels, size, size)
        embeddings = torch.empty(batch, EMBEDDING_CHANNELS, size // PATCH, size // PATCH)
        with FlopCounterMode(display=False) as counter:
            logits = network.decode(embeddings, images) if from_cache else network(images)
            logits.sum().backward()
    return int(counter.get_total_flops())


def count_encoder(backbone: str, size: int) -> int:
    """Count the operations of products in the forward pass of an encoder for one image.

    Args:
        backbone: Name of the backbone.
        size: Edge of the input in pixels.

    Returns:
        The number of operations, counted as by `count_step`.
    """
    one_chunk = patch.object(chunked_attention, "CHUNK_VALUES", sys.maxsize)
    with torch.device("meta"), as_if_on("cpu"), one_chunk, torch.no_grad():
        encoder = build_encoder(BACKBONES[backbone], size)
        with FlopCounterMode(display=False) as counter:
            encoder(torch.empty(1, 3, size, size))
    return int(counter.get_total_flops())
