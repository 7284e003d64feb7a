"""The attention of SAM's mask decoder: same weights, same results, in one fused kernel."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from samnet.models.sam_modules import TokenAttention


class FusedTokenAttention(TokenAttention):
    """Replaces an `Attention` of segment_anything's transformer.

    Attributes:
        num_heads: Number of attention heads.
        q_proj: The original's linear layer for queries.
        k_proj: The original's linear layer for keys.
        v_proj: The original's linear layer for values.
        out_proj: The original's output projection.
    """

    def __init__(self, original: TokenAttention) -> None:
        """Take over the layers of an attention.

        Args:
            original: The attention.
        """
        nn.Module.__init__(self)
        self.num_heads = original.num_heads
        self.q_proj, self.k_proj = original.q_proj, original.k_proj
        self.v_proj, self.out_proj = original.v_proj, original.out_proj

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the attention's output.

        Args:
            q: What queries are made of, `(B, N, C)`.
            k: What keys are made of, `(B, K, C)`.
            v: What values are made of, `(B, K, C)`.

        Returns:
            A tensor `(B, N, C)`.
        """
        query, key, value = (
            layer(tokens).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer, tokens in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        )
        attended = functional.scaled_dot_product_attention(query, key, value)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


def fuse_attention(transformer: nn.Module) -> None:
    """Replace every attention of a transformer of segment_anything, in place.

    Args:
        transformer: The transformer.
    """
    for module in list(transformer.modules()):
        for name, child in list(module.named_children()):
            if type(child) is TokenAttention:
                setattr(module, name, FusedTokenAttention(child))
