"""Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685) of SAM's encoder and of its mask decoder's transformer.

In each chosen block the frozen weight W of a linear map gets an update B A of rank r, `y = W x + s B A x`: A starts
Kaiming-uniform with a = sqrt 5, B at zero, so that the network starts as it was. On the fused qkv layer every part has
its own pair, as in SAMed (arXiv 2304.13785), which adapts q and v with s = 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from samnet.core.errors import UserError
from samnet.models.sam_modules import MLPBlock, TokenAttention

_QKV_PARTS = ("q", "k", "v")
_DECODER_LAYERS = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "projection": "out_proj"}
_SHARES = {"all": 1.0, "last_half": 0.5, "last_quarter": 0.25}


class LoraLinear(nn.Module):
    """A frozen linear layer with low-rank updates of chosen equal parts of its output.

    base: the layer, its weight `(num_parts * width, in)`. parts: the parts that are updated, from 0.
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
        super().__init__()
        self.base = base.requires_grad_(False)
        self.parts, self.num_parts, self.scale = tuple(parts), num_parts, scale
        width = base.out_features // num_parts
        like = base.weight
        self.down = nn.ParameterList(
            [nn.Parameter(like.new_empty(rank, base.in_features)) for _ in parts]
        )
        self.up = nn.ParameterList([nn.Parameter(like.new_zeros(width, rank)) for _ in parts])
        for weight in self.down:
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        self.merged = False

    @property
    def bias(self) -> Tensor:
        """The layer's own: what becomes of zeros."""
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        if self.merged:
            return self.base(x)
        rows = x.flatten(0, -2)
        y = self.base(rows)
        low = rows @ torch.cat(list(self.down)).T
        # In place: one pass over the output less, for each layer and step.
        y = y.addmm_(low.to(y.dtype), self._scaled_up().T.to(y.dtype))
        return y.unflatten(0, x.shape[:-1])

    def _scaled_up(self) -> Tensor:
        """All B times the scale as one matrix `(out, parts * rank)`, with zeros where a part has no update."""
        width, rank = self.up[0].shape
        rows = list(self.up[0].new_zeros(self.num_parts, width, rank * len(self.parts)).unbind(0))
        for index, (part, up) in enumerate(zip(self.parts, self.up, strict=True)):
            rows[part] = functional.pad(up, (rank * index, rank * (len(self.parts) - 1 - index)))
        return self.scale * torch.cat(rows)

    @torch.no_grad()
    def merge(self) -> None:
        """Add the updates to the frozen weight: the same output as fast as the plain layer. Twice changes nothing."""
        self._add_updates(+1, merged=True)

    @torch.no_grad()
    def unmerge(self) -> None:
        """Take the updates out of the weight again."""
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
    """Freeze an encoder of SAM's shape and put LoRA into the chosen layers of the chosen blocks, in place.

    targets: of `q`, `k`, `v`, `projection`, `mlp`. blocks: see `select_blocks`.
    """
    encoder.requires_grad_(False)
    for block in select_blocks(encoder, blocks):
        parts = [index for index, name in enumerate(_QKV_PARTS) if name in targets]
        if parts:
            block.attn.qkv = LoraLinear(
                block.attn.qkv, rank=rank, parts=parts, num_parts=3, scale=scale
            )
        if "projection" in targets:
            block.attn.proj = LoraLinear(block.attn.proj, rank=rank, scale=scale)
        if "mlp" in targets:
            _adapt_mlp(block.mlp, rank, scale)


def add_decoder_lora(
    transformer: nn.Module, *, rank: int, targets: Sequence[str], scale: float = 1.0
) -> None:
    """Freeze the transformer of a mask decoder of SAM's and put LoRA into all its attentions, in place.

    With the targets q and v it is SAMed_s's. targets: of `q`, `k`, `v`, `projection`, `mlp`.
    """
    transformer.requires_grad_(False)
    modules: list[Any] = list(transformer.modules())
    for module in modules:
        if isinstance(module, TokenAttention):
            for name in [layer for target, layer in _DECODER_LAYERS.items() if target in targets]:
                setattr(module, name, LoraLinear(getattr(module, name), rank=rank, scale=scale))
        elif isinstance(module, MLPBlock) and "mlp" in targets:
            _adapt_mlp(module, rank, scale)


def _adapt_mlp(mlp: Any, rank: int, scale: float) -> None:
    mlp.lin1 = LoraLinear(mlp.lin1, rank=rank, scale=scale)
    mlp.lin2 = LoraLinear(mlp.lin2, rank=rank, scale=scale)


def select_blocks(encoder: Any, blocks: str) -> list[Any]:
    """The blocks that `all`, `last_half`, `last_quarter`, or numbers from 0 such as `2,5,8,11` stand for.

    Raises:
        UserError: it is none of these, or the encoder has no such block.
    """
    everything = list(encoder.blocks)
    if blocks in _SHARES:
        return everything[len(everything) - max(1, round(len(everything) * _SHARES[blocks])) :]
    numbers = [number.strip() for number in blocks.split(",")]
    wrong = [
        number for number in numbers if not number.isdecimal() or int(number) >= len(everything)
    ]
    if wrong:
        raise UserError(
            f"lora_blocks is {blocks!r}: {wrong[0]!r} is no block; write {', '.join(_SHARES)}, or numbers from 0 to "
            f"{len(everything) - 1} with commas between them"
        )
    return [everything[number] for number in sorted({int(number) for number in numbers})]


def merge_lora(module: nn.Module) -> None:
    """Merge every LoRA layer of a network, for prediction."""
    for layer in lora_layers(module):
        layer.merge()


def unmerge_lora(module: nn.Module) -> None:
    """Undo `merge_lora`, up to rounding."""
    for layer in lora_layers(module):
        layer.unmerge()


def lora_layers(module: nn.Module) -> Iterator[LoraLinear]:
    """The LoRA layers of a network, in the order of its modules."""
    return (layer for layer in module.modules() if isinstance(layer, LoraLinear))
