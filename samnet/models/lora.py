"""Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685) of SAM's encoder and mask decoder.

In each chosen block the frozen weight W of a linear map gets an update B A of rank r:
`y = W x + s B A x`. A starts Kaiming-uniform with a = sqrt 5 and B at zero, so that the network
starts unchanged. In the fused qkv layer every part has a separate pair A, B, as in SAMed (arXiv
2304.13785), which adapts q and v with s = 1. In the mask decoder the transformer is adapted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from samnet.core.errors import UserError
from samnet.models.lora_product import lora_product
from samnet.models.sam_modules import MLPBlock, TokenAttention

_QKV_PARTS = ("q", "k", "v")
_DECODER_LAYERS = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "projection": "out_proj"}
_SHARES = {"all": 1.0, "last_half": 0.5, "last_quarter": 0.25}


class LoraLinear(nn.Module):
    """A frozen linear layer with low-rank updates of some equal parts of its output.

    Attributes:
        base: The frozen layer, its weight `(num_parts * width, in)`.
        parts: The parts that are updated, counted from 0.
        num_parts: Number of equal parts of the output.
        scale: Factor s of the updates.
        down: Matrices A `(rank, in)`, one for each updated part.
        up: Matrices B `(width, rank)`, one for each updated part.
        merged: Whether the updates are part of the frozen weight at the moment.
    """

    def __init__(
        self,
        base: nn.Linear,
        *,
        rank: int,
        parts: Sequence[int] = (0,),
        num_parts: int = 1,
        scale: float = 1.0,
    ) -> None:
        """Freeze a layer and add updates that start at zero.

        Args:
            base: The layer to adapt.
            rank: Rank r of each update.
            parts: The parts to update, counted from 0.
            num_parts: Number of equal parts of the output, 3 for a fused qkv layer.
            scale: Factor s of the updates.
        """
        super().__init__()
        self.base = base.requires_grad_(False)
        self.parts, self.num_parts, self.scale = tuple(parts), num_parts, scale
        width = base.out_features // num_parts
        like = base.weight
        downs = [nn.Parameter(like.new_empty(rank, base.in_features)) for _ in parts]
        ups = [nn.Parameter(like.new_zeros(width, rank)) for _ in parts]
        self.down, self.up = nn.ParameterList(downs), nn.ParameterList(ups)
        for weight in self.down:
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        self.merged = False

    @property
    def bias(self) -> Tensor:
        """Bias of the frozen layer `(out,)`: this layer's output for an input of zeros."""
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        """Return `W x + s B A x`.

        Args:
            x: `(..., in)`.

        Returns:
            A tensor `(..., out)`.
        """
        if self.merged:
            return self.base(x)
        return lora_product(
            x,
            self.base.weight,
            self.base.bias,
            down=list(self.down),
            up=list(self.up),
            parts=self.parts,
            scale=self.scale,
        )

    @torch.no_grad()
    def merge(self) -> None:
        """Add the updates to the frozen weight: the same output at the speed of the plain layer.

        Does nothing if they are merged already.
        """
        self._add_updates(+1, merged=True)

    @torch.no_grad()
    def unmerge(self) -> None:
        """Subtract the updates from the weight again; does nothing if they are not merged."""
        self._add_updates(-1, merged=False)

    def _add_updates(self, sign: int, merged: bool) -> None:
        if self.merged == merged:
            return
        rows = self.base.weight.chunk(self.num_parts, dim=0)
        for part, down, up in zip(self.parts, self.down, self.up, strict=True):
            rows[part].add_(sign * self.scale * (up @ down))
        self.merged = merged


def add_lora(
    encoder: nn.Module, *, rank: int, targets: Sequence[str], blocks: str, scale: float = 1.0
) -> None:
    """Freeze an encoder of SAM's shape and put LoRA into some layers of some blocks, in place.

    Args:
        encoder: The encoder, which is changed.
        rank: Rank of each update.
        targets: Layers to adapt, of `q`, `k`, `v`, `projection` and `mlp`.
        blocks: Blocks to adapt, see `select_blocks`.
        scale: Factor of the updates.

    Raises:
        UserError: The encoder has no such blocks.
    """
    encoder.requires_grad_(False)
    parts = [index for index, name in enumerate(_QKV_PARTS) if name in targets]
    for block in select_blocks(encoder, blocks):
        attention = block.attn
        if parts:
            attention.qkv = LoraLinear(
                attention.qkv, rank=rank, parts=parts, num_parts=3, scale=scale
            )
        if "projection" in targets:
            attention.proj = LoraLinear(attention.proj, rank=rank, scale=scale)
        if "mlp" in targets:
            _adapt_mlp(block.mlp, rank, scale)


def add_decoder_lora(
    transformer: nn.Module, *, rank: int, targets: Sequence[str], scale: float = 1.0
) -> None:
    """Freeze the transformer of SAM's mask decoder and put LoRA into all its attentions, in place.

    With the targets q and v this is the decoder of SAMed_s.

    Args:
        transformer: The transformer, which is changed.
        rank: Rank of each update.
        targets: Layers to adapt, of `q`, `k`, `v`, `projection` and `mlp`.
        scale: Factor of the updates.
    """
    transformer.requires_grad_(False)
    names = [layer for target, layer in _DECODER_LAYERS.items() if target in targets]
    modules: list[Any] = list(transformer.modules())
    for module in modules:
        if isinstance(module, TokenAttention):
            for name in names:
                setattr(module, name, LoraLinear(getattr(module, name), rank=rank, scale=scale))
        elif isinstance(module, MLPBlock) and "mlp" in targets:
            _adapt_mlp(module, rank, scale)


def _adapt_mlp(mlp: Any, rank: int, scale: float) -> None:
    mlp.lin1 = LoraLinear(mlp.lin1, rank=rank, scale=scale)
    mlp.lin2 = LoraLinear(mlp.lin2, rank=rank, scale=scale)


def select_blocks(encoder: Any, blocks: str, key: str = "lora_blocks") -> list[Any]:
    """Return the blocks of an encoder that a value of a configuration names.

    Args:
        encoder: An encoder with SAM's `blocks`.
        blocks: `all`, `last_half`, `last_quarter`, or numbers from 0 such as `2,5,8,11`.
        key: The key of the plan, for messages.

    Returns:
        The blocks in the encoder's order.

    Raises:
        UserError: The value is none of these, or the encoder has no such block.
    """
    every_block = list(encoder.blocks)
    if blocks in _SHARES:
        return every_block[len(every_block) - max(1, round(len(every_block) * _SHARES[blocks])) :]
    entries = [entry.strip() for entry in blocks.split(",")]
    for entry in entries:
        if not entry.isdecimal() or int(entry) >= len(every_block):
            raise UserError(
                f"{key} is {blocks!r}: {entry!r} is no block; write {', '.join(_SHARES)}, "
                f"or numbers from 0 to {len(every_block) - 1} with commas between them"
            )
    numbers = sorted(set(map(int, entries)))
    return [every_block[number] for number in numbers]


def merge_lora(module: nn.Module) -> None:
    """Merge every LoRA layer of a network, for prediction.

    Args:
        module: The network, which is changed.
    """
    for layer in lora_layers(module):
        layer.merge()


def unmerge_lora(module: nn.Module) -> None:
    """Undo `merge_lora`, up to rounding.

    Args:
        module: The network, which is changed.
    """
    for layer in lora_layers(module):
        layer.unmerge()


def lora_layers(module: nn.Module) -> Iterator[LoraLinear]:
    """Find the LoRA layers of a network.

    Args:
        module: The network.

    Returns:
        An iterator over the layers, in the order of the network's modules.
    """
    return (layer for layer in module.modules() if isinstance(layer, LoraLinear))
