"""The perceptron of SAM's blocks on the rows of a matrix."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from samnet.models.sam_modules import MLPBlock


class TokenMlp(MLPBlock):
    """Replaces an `MLPBlock` of segment_anything: same weights, same results.

    Its layers see all tokens as rows of one matrix, so that none of them has to turn images of
    tokens into rows and back, forward and backward.

    Attributes:
        lin1: The original's first linear layer.
        lin2: The original's second linear layer.
        act: The function between them.
    """

    def __init__(self, original: Any) -> None:
        """Take over the layers of a perceptron.

        Args:
            original: The `MLPBlock`.
        """
        nn.Module.__init__(self)
        self.lin1, self.lin2, self.act = original.lin1, original.lin2, original.act

    def forward(self, x: Tensor) -> Tensor:
        """Return the perceptron's output for tokens.

        Args:
            x: `(..., C)`.

        Returns:
            A tensor `(..., C)`.
        """
        return super().forward(x.flatten(0, -2)).view(x.shape)


def use_rows(module: nn.Module) -> None:
    """Replace every perceptron in a module of segment_anything, in place.

    Args:
        module: The module.
    """
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is MLPBlock:
                setattr(parent, name, TokenMlp(child))
