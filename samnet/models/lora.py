"""Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685) of an encoder of SAM's shape.

In each chosen block the frozen weight W of a linear map gets an update B A of rank r, `y = W x + s B A x`: A starts
Kaiming-uniform with a = sqrt 5, B at zero, so that the network starts as it was. On the fused qkv layer every part has
its own pair, as in SAMed (arXiv 2304.13785), which adapts q and v with s = 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_QKV_PARTS = ("q", "k", "v")


class LoraLinear(nn.Module):
    """A frozen linear layer with low-rank updates of chosen equal parts of its output.

    base: the layer, its weight `(num_parts * width, in)`. parts: the parts that are updated, from 0.
    """

    def __init__(
        self, base: nn.Linear, *, rank: int, parts: Sequence[int] = (0,), num_parts: int = 1, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.parts, self.num_parts, self.scale = tuple(parts), num_parts, scale
        width = base.out_features // num_parts
        like = {"device": base.weight.device, "dtype": base.weight.dtype}
        self.down = nn.ParameterList([nn.Parameter(torch.empty(rank, base.in_features, **like)) for _ in parts])
        self.up = nn.ParameterList([nn.Parameter(torch.zeros(width, rank, **like)) for _ in parts])
        for weight in self.down:
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        self.merged = False

    def forward(self, x: Tensor) -> Tensor:
        y = self.base(x)
        if self.merged:
            return y
        pieces = list(y.chunk(self.num_parts, dim=-1))
        for part, down, up in zip(self.parts, self.down, self.up, strict=True):
            pieces[part] = pieces[part] + self.scale * (x @ down.T) @ up.T
        return torch.cat(pieces, dim=-1) if len(pieces) > 1 else pieces[0]

    @torch.no_grad()
    def merge(self) -> None:
        """Add the updates to the frozen weight: the same output for the cost of the plain layer. Twice changes nothing."""
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


def add_lora(encoder: nn.Module, *, rank: int, targets: Sequence[str], blocks: str, scale: float = 1.0) -> None:
    """Freeze an encoder of SAM's shape and put LoRA into the chosen layers of the chosen blocks, in place.

    targets: of `q`, `k`, `v`, `projection`, `mlp`. blocks: `all`, `last_half` or `last_quarter`.
    """
    encoder.requires_grad_(False)
    for block in select_blocks(encoder, blocks):
        parts = [index for index, name in enumerate(_QKV_PARTS) if name in targets]
        if parts:
            block.attn.qkv = LoraLinear(block.attn.qkv, rank=rank, parts=parts, num_parts=3, scale=scale)
        if "projection" in targets:
            block.attn.proj = LoraLinear(block.attn.proj, rank=rank, scale=scale)
        if "mlp" in targets:
            block.mlp.lin1 = LoraLinear(block.mlp.lin1, rank=rank, scale=scale)
            block.mlp.lin2 = LoraLinear(block.mlp.lin2, rank=rank, scale=scale)


def select_blocks(encoder: nn.Module, blocks: str) -> list[nn.Module]:
    """The blocks `all`, `last_half` or `last_quarter` stands for."""
    share = {"all": 1.0, "last_half": 0.5, "last_quarter": 0.25}[blocks]
    everything = list(encoder.blocks)
    return everything[len(everything) - max(1, round(len(everything) * share)) :]


def merge_lora(module: nn.Module) -> None:
    """Merge every LoRA layer of a network, for prediction."""
    for layer in module.modules():
        if isinstance(layer, LoraLinear):
            layer.merge()
