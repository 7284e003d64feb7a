"""The files of SAMed and SAMed_s (arXiv 2304.13785), as its released code writes them, and samnet's names for them.

A `.pth` of SAMed holds `w_a_000`, `w_b_000`, ... (A and B of every block of the encoder, q then v), and every weight of
SAM's `prompt_encoder` and `mask_decoder` under SAM's names. SAMed_s leaves out the mask decoder's transformer, which is
SAM's own, and adds the pairs of its attentions, q then v, layer by layer: `sa_` (self-attention), `cti_` (tokens to
image), `cit_` (image to tokens), and `fati_qa`, `fati_qb`, `fati_va`, `fati_vb` of the last one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from samnet.core.errors import UserError
from samnet.models.lora import LoraLinear, lora_layers
from samnet.models.network import SegmentationNetwork
from samnet.plan.backbones import BACKBONES, Backbone

_TRANSFORMER = "head.mask_decoder.transformer"
_ATTENTIONS = {
    "sa": "self_attn",
    "cti": "cross_attn_token_to_image",
    "cit": "cross_attn_image_to_token",
}
_DECODER_LAYERS = 2
_Q_AND_V = (0, 2)  # of the three parts of a block's fused qkv
_SHARED = ("prompt_encoder.", "mask_decoder.")


@dataclass(frozen=True)
class SamedFile:
    """What a file of SAMed is, told from its tensors.

    rank: of the encoder's LoRA. num_classes: without the background. decoder_lora: whether it is SAMed_s's.
    """

    backbone: Backbone
    rank: int
    num_classes: int
    decoder_lora: bool


def inspect_samed(weights: dict[str, Tensor], where: str) -> SamedFile:
    """Tell backbone, rank, classes and kind of a SAMed file.

    Raises:
        UserError: it is no file of SAMed, or of an encoder samnet does not know.
    """
    tokens, first = weights.get("mask_decoder.mask_tokens.weight"), weights.get("w_a_000")
    if tokens is None or first is None or first.ndim != 2 or tokens.ndim != 2:
        raise UserError(
            f"{where}: no file of SAMed: expected w_a_000 and mask_decoder.mask_tokens.weight in it"
        )
    rank, width = first.shape
    blocks = sum(name.startswith("w_a_") for name in weights) // 2
    backbone = next(
        (known for known in BACKBONES.values() if (known.width, known.depth) == (width, blocks)),
        None,
    )
    if backbone is None:
        known_ones = ", ".join(
            f"{known.name} ({known.depth} x {known.width})" for known in BACKBONES.values()
        )
        raise UserError(
            f"{where}: adapts {blocks} blocks of {width} channels; known encoders are {known_ones}"
        )
    return SamedFile(backbone, rank, len(tokens) - 1, "sa_a_000" in weights)


def from_samed(
    network: SegmentationNetwork, weights: dict[str, Tensor], where: str
) -> dict[str, Tensor]:
    """The adapter of `network`, which may be on torch's `meta` device, from a file of SAMed.

    Raises:
        UserError: weights are missing, unknown or of another shape.
    """
    layout = _lora_names(network)
    known = {name for name in network.state_dict() if name.startswith("head.")}
    translated = {}
    for key, value in weights.items():
        name = layout.get(key) or (f"head.{key}" if key.startswith(_SHARED) else key)
        if key not in layout and name not in known:
            raise UserError(f"{where}: {key} is unknown in a file of SAMed{_kind(network)}")
        translated[name] = value
    keys = {name: key for key, name in layout.items()}
    adapter = network.adapter()
    for name, wanted in adapter.items():
        key = keys.get(name, name.removeprefix("head."))
        if name not in translated:
            raise UserError(f"{where}: {key} is missing")
        if translated[name].shape != wanted.shape:
            raise UserError(
                f"{where}: {key} has shape {tuple(translated[name].shape)}, expected {tuple(wanted.shape)}"
            )
    return {name: translated[name].to(wanted.dtype) for name, wanted in adapter.items()}


def to_samed(network: SegmentationNetwork, where: str) -> dict[str, Tensor]:
    """The tensors SAMed's own code loads, from a network with its base and adapter, LoRA not merged.

    Raises:
        UserError: SAMed has no form for this network: it needs LoRA on q and v of every block, and a mask decoder.
    """
    state = network.state_dict()
    layout = _lora_names(network)
    other_parts = any(
        layer.num_parts == 3 and layer.parts != _Q_AND_V for layer in lora_layers(network)
    )
    has_decoder_lora = "sa_a_000" in layout
    shared = [
        name
        for name in state
        if name.startswith(tuple(f"head.{part}" for part in _SHARED))
        and not (has_decoder_lora and name.startswith(_TRANSFORMER))
    ]
    unsaid = {name for name in network.adapter() if name not in shared} - set(layout.values())
    missing = set(layout.values()) - set(state)
    if unsaid or missing or not shared or other_parts:
        example = min(unsaid | missing, default="lora_targets" if other_parts else "head")
        raise UserError(
            f"{where}: SAMed's files hold LoRA on q and v of every block, and SAM's mask decoder, nothing else; this "
            f"model differs, for example in {example}"
        )
    scales = {name: _scale(network, name) for name in layout.values()}
    pairs = {key: state[name] * scales[name] for key, name in layout.items()}
    return {key: value.detach().clone().cpu() for key, value in pairs.items()} | {
        name.removeprefix("head."): state[name].detach().clone().cpu() for name in shared
    }


def _lora_names(network: SegmentationNetwork) -> dict[str, str]:
    """SAMed's key -> samnet's name of every low-rank matrix that a SAMed of this network's kind has."""
    names = {}
    for block in range(len(list(network.encoder.get_submodule("blocks").children()))):
        for part in range(2):
            stem = f"encoder.blocks.{block}.attn.qkv"
            names[f"w_a_{2 * block + part:03d}"] = f"{stem}.down.{part}"
            names[f"w_b_{2 * block + part:03d}"] = f"{stem}.up.{part}"
    if not any(
        name.startswith(_TRANSFORMER) and ".down." in name for name, _ in network.named_parameters()
    ):
        return names
    for short, attention in _ATTENTIONS.items():
        for layer in range(_DECODER_LAYERS):
            for part, letter in enumerate("qv"):
                stem = f"{_TRANSFORMER}.layers.{layer}.{attention}.{letter}_proj"
                names[f"{short}_a_{2 * layer + part:03d}"] = f"{stem}.down.0"
                names[f"{short}_b_{2 * layer + part:03d}"] = f"{stem}.up.0"
    for letter in "qv":
        stem = f"{_TRANSFORMER}.final_attn_token_to_image.{letter}_proj"
        names[f"fati_{letter}a"] = f"{stem}.down.0"
        names[f"fati_{letter}b"] = f"{stem}.up.0"
    return names


def _scale(network: SegmentationNetwork, name: str) -> float:
    """SAMed has no scale: what samnet multiplies an update by goes into its B."""
    stem, _, _ = name.rpartition(".up.")
    layer = network.get_submodule(stem) if stem else None
    return layer.scale if isinstance(layer, LoraLinear) else 1.0


def _kind(network: SegmentationNetwork) -> str:
    return (
        "_s"
        if any(name.startswith(_TRANSFORMER) and ".down." in name for name in network.state_dict())
        else ""
    )


def save_samed(weights: dict[str, Tensor], file: Path) -> None:
    """Write tensors the way SAMed's code reads them: a `torch.save` of a plain dict of tensors."""
    torch.save(weights, file)
