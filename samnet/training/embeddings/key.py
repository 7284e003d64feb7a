"""The key under which embeddings are kept: it stands for everything they depend on."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from torch import nn

from samnet.core.records import to_json
from samnet.plan.configuration import earlier_values, keys_with
from samnet.plan.plan_key import Role
from samnet.training.embeddings.variants import VariantReader

VERSION = 2  # to be raised whenever the same plan shows the encoder something else


def embeddings_key(encoder: nn.Module, variants: VariantReader, precision: str) -> tuple[str, dict]:
    """Return a hash of all that an embedding depends on, except the case.

    Args:
        encoder: The encoder.
        variants: The slices, with their specification.
        precision: The precision of the computation.

    Returns:
        The hash, and what it was computed from, for a person to read.
    """
    origin = {
        "version": VERSION,
        "encoder_sha256": encoder_sha256(encoder),
        "precision": precision,
        "ignore_label": variants.specification.label_scheme.ignore_label,
        **_values_of_slices(to_json(variants.configuration)),
    }
    text = json.dumps(origin, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16], origin


def _values_of_slices(values: dict[str, Any]) -> dict[str, Any]:
    """Return what a plan's embeddings depend on.

    A key is left out where it means what samnet did before the key existed: embeddings of then are
    still right.
    """
    before = earlier_values()
    return {
        key: values[key]
        for key in keys_with(Role.EMBEDDINGS)
        if key not in before or values[key] != before[key]
    }


def encoder_sha256(encoder: nn.Module) -> str:
    """Return a hash of the weights of an encoder, whatever file they came from.

    Random weights differ with the seed of the training.

    Args:
        encoder: The encoder.

    Returns:
        The sha256 in hexadecimal.
    """
    digest = hashlib.sha256()
    for name, value in sorted(encoder.state_dict().items()):
        array = np.ascontiguousarray(value.detach().cpu().numpy())
        digest.update(f"{name}\0{array.dtype}\0{array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()
