"""The files of SAMed and SAMed_s (arXiv 2304.13785), and how samnet names the tensors in them.

A `.pth` file of SAMed holds `w_a_000`, `w_b_000`, ... (A and B of every block of the encoder, q
then v), and every weight of SAM's `prompt_encoder` and `mask_decoder` under SAM's names. A file of
SAMed_s leaves out the transformer of the mask decoder, because its weights are SAM's own. Instead
it holds the pairs of the transformer's attentions, q then v, layer by layer: `sa_`
(self-attention), `cti_` (tokens to image), `cit_` (image to tokens), and `fati_qa`, `fati_qb`,
`fati_va`, `fati_vb` of the final attention.
"""

from __future__ import annotations

from collections.abc import Iterable
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
_Q_AND_V = (0, 2)  # of the three parts of a block's fused qkv layer
# Weights that SAMed's files hold under SAM's names, and their names in samnet.
_SHARED = ("prompt_encoder.", "mask_decoder.")
_SHARED_IN_SAMNET = ("head.prompt_encoder.", "head.mask_decoder.")


@dataclass(frozen=True)
class SamedFile:
    """What a SAMed file contains, as recognised by its tensors.

    Attributes:
        backbone: The encoder that it adapts.
        rank: Rank of the encoder's LoRA.
        num_classes: Number of classes without the background.
        decoder_lora: Whether it is a file of SAMed_s, which also adapts the mask decoder by LoRA.
    """

    backbone: Backbone
    rank: int
    num_classes: int
    decoder_lora: bool


def inspect_samed(weights: dict[str, Tensor], where: str) -> SamedFile:
    """Recognise backbone, rank, number of classes and kind of a SAMed file.

    Args:
        weights: The tensors of the file by name.
        where: What to call the file in messages.

    Returns:
        The recognised content.

    Raises:
        UserError: It is not a file of SAMed, or adapts an encoder that samnet does not know.
    """
    mask_tokens = weights.get("mask_decoder.mask_tokens.weight")
    first_a = weights.get("w_a_000")
    if mask_tokens is None or first_a is None or mask_tokens.ndim != 2 or first_a.ndim != 2:
        raise UserError(
            f"{where}: no file of SAMed: expected w_a_000 and mask_decoder.mask_tokens.weight in it"
        )
    rank, width = first_a.shape
    depth = sum(name.startswith("w_a_") for name in weights) // 2
    for backbone in BACKBONES.values():
        if (backbone.width, backbone.depth) == (width, depth):
            return SamedFile(backbone, rank, len(mask_tokens) - 1, "sa_a_000" in weights)
    known = ", ".join(f"{one.name} ({one.depth} x {one.width})" for one in BACKBONES.values())
    raise UserError(
        f"{where}: adapts {depth} blocks of {width} channels; known encoders are {known}"
    )


def from_samed(
    network: SegmentationNetwork, weights: dict[str, Tensor], where: str
) -> dict[str, Tensor]:
    """Translate a SAMed file to the adapter of a network.

    Args:
        network: A network of the file's kind; it may be on torch's `meta` device.
        weights: The tensors of the file by name.
        where: What to call the file in messages.

    Returns:
        The tensors of the network's `adapter()` by name, with the values of the file.

    Raises:
        UserError: Weights are missing or unknown, or have another shape.
    """
    samnet_names = _lora_names(network)
    translated = _rename(network, samnet_names, weights, where)
    samed_keys = {name: key for key, name in samnet_names.items()}
    adapter = {}
    for name, target in network.adapter().items():
        key = samed_keys.get(name, name.removeprefix("head."))
        if name not in translated:
            raise UserError(f"{where}: {key} is missing")
        found = translated[name]
        if found.shape != target.shape:
            raise UserError(
                f"{where}: {key} has shape {tuple(found.shape)}, expected {tuple(target.shape)}"
            )
        adapter[name] = found.to(target.dtype)
    return adapter


def _rename(
    network: SegmentationNetwork,
    samnet_names: dict[str, str],
    weights: dict[str, Tensor],
    where: str,
) -> dict[str, Tensor]:
    """Return the tensors of a SAMed file under samnet's names; raise UserError for unknown ones."""
    head_names = {name for name in network.state_dict() if name.startswith("head.")}
    renamed = {}
    for key, value in weights.items():
        name = samnet_names.get(key) or (f"head.{key}" if key.startswith(_SHARED) else key)
        if key not in samnet_names and name not in head_names:
            kind = "SAMed_s" if _has_decoder_lora(network) else "SAMed"
            raise UserError(f"{where}: {key} is unknown in a file of {kind}")
        renamed[name] = value
    return renamed


def to_samed(network: SegmentationNetwork, where: str) -> dict[str, Tensor]:
    """Translate a network to the tensors that SAMed's own code loads.

    Args:
        network: A network with all its weights, and with LoRA not merged into them.
        where: What to call the network in messages.

    Returns:
        Copies of the tensors on the CPU, by SAMed's names.

    Raises:
        UserError: SAMed's format cannot hold this network: it needs LoRA on q and v of every block,
            and a mask decoder.
    """
    state = network.state_dict()
    samnet_names = _lora_names(network)
    shared = _shared_names(state, _has_decoder_lora(network))
    _require_samed_form(network, samnet_names, shared, where)
    tensors = {}
    for key, name in samnet_names.items():
        tensors[key] = _to_cpu(state[name] * _scale(network, name))
    for name in shared:
        tensors[name.removeprefix("head.")] = _to_cpu(state[name])
    return tensors


def _shared_names(state: Iterable[str], has_decoder_lora: bool) -> list[str]:
    """Return the names of the weights that a SAMed file holds in addition to LoRA."""
    names = [name for name in state if name.startswith(_SHARED_IN_SAMNET)]
    if has_decoder_lora:
        names = [name for name in names if not name.startswith(_TRANSFORMER)]
    return names


def _require_samed_form(
    network: SegmentationNetwork, samnet_names: dict[str, str], shared: list[str], where: str
) -> None:
    """Raise UserError where a SAMed file would lack trained weights, or the network lacks LoRA."""
    lora_names = set(samnet_names.values())
    not_in_samed = set(network.adapter()) - set(shared) - lora_names
    not_in_network = lora_names - set(network.state_dict())
    other_parts = any(
        layer.num_parts == 3 and layer.parts != _Q_AND_V for layer in lora_layers(network)
    )
    if not_in_samed or not_in_network or not shared or other_parts:
        fallback = "lora_targets" if other_parts else "head"
        example = min(not_in_samed | not_in_network, default=fallback)
        raise UserError(
            f"{where}: SAMed's files hold LoRA on q and v of every block, and SAM's mask decoder, "
            f"nothing else; this model differs, for example in {example}"
        )


def _to_cpu(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().cpu()


def _lora_names(network: SegmentationNetwork) -> dict[str, str]:
    """Return SAMed's key -> samnet's name of every low-rank matrix in a SAMed file of this kind."""
    names = {}
    num_blocks = len(list(network.encoder.get_submodule("blocks").children()))
    for block in range(num_blocks):
        layer = f"encoder.blocks.{block}.attn.qkv"
        for part in range(2):
            number = f"{2 * block + part:03d}"
            names[f"w_a_{number}"] = f"{layer}.down.{part}"
            names[f"w_b_{number}"] = f"{layer}.up.{part}"
    return names | _decoder_lora_names() if _has_decoder_lora(network) else names


def _decoder_lora_names() -> dict[str, str]:
    names = {}
    for short, attention in _ATTENTIONS.items():
        for index in range(_DECODER_LAYERS):
            for part, letter in enumerate("qv"):
                number = f"{2 * index + part:03d}"
                layer = f"{_TRANSFORMER}.layers.{index}.{attention}.{letter}_proj"
                names[f"{short}_a_{number}"] = f"{layer}.down.0"
                names[f"{short}_b_{number}"] = f"{layer}.up.0"
    for letter in "qv":
        layer = f"{_TRANSFORMER}.final_attn_token_to_image.{letter}_proj"
        names[f"fati_{letter}a"] = f"{layer}.down.0"
        names[f"fati_{letter}b"] = f"{layer}.up.0"
    return names


def _has_decoder_lora(network: SegmentationNetwork) -> bool:
    return any(
        name.startswith(_TRANSFORMER) and ".down." in name for name, _ in network.named_parameters()
    )


def _scale(network: SegmentationNetwork, name: str) -> float:
    """Return the factor for a B matrix: SAMed has no LoRA scale, so B takes samnet's."""
    path, _, _ = name.rpartition(".up.")
    layer = network.get_submodule(path) if path else None
    return layer.scale if isinstance(layer, LoraLinear) else 1.0


def save_samed(weights: dict[str, Tensor], file: Path) -> None:
    """Write tensors as SAMed's code reads them: a `torch.save` of a plain dict of tensors.

    Args:
        weights: The tensors by SAMed's names.
        file: The `.pth` file to write.
    """
    torch.save(weights, file)
