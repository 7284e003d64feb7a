"""Image encoders of SAM's shape at any input size, and the input stem before them."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from samnet.models.attention import WindowAttention
from samnet.models.channel_norm import fuse_norms
from samnet.models.heads.blocks import normalised_convolution
from samnet.models.registry import PIXEL_MEAN, PIXEL_STD
from samnet.models.sam_modules import ImageEncoderViT
from samnet.models.slice_adapter import SliceAdapter
from samnet.models.token_mlp import use_rows
from samnet.plan.backbones import EMBEDDING_CHANNELS, PATCH, WINDOW, Backbone


class ImageEncoder(ImageEncoderViT):
    """SAM's image encoder with a faster attention and optional gradient checkpointing.

    Attributes:
        slice_adapters: The adapters over neighbouring slices, by the number of the block before
            which they stand; none unless `add_slice_adapters` adds them.
        inner_slice_adapters: Those between attention and perceptron, by the number of their block.
        gradient_checkpointing: Whether the blocks' inner results are computed again in the
            backward pass: the same gradients with less memory and more time.
    """

    def __init__(
        self,
        *,
        gradient_checkpointing: bool = False,
        patch_convolutions: tuple[int, ...] = (),
        embed_dim: int,
        **dimensions: Any,
    ) -> None:
        """Build the encoder with the initial weights of segment_anything.

        Args:
            gradient_checkpointing: Whether the blocks' inner results are computed again in the
                backward pass.
            patch_convolutions: Channels of the convolutions that replace SAM's patch embedding, see
                `Backbone`; empty to keep it.
            embed_dim: Channels of a token.
            **dimensions: The other arguments of segment_anything's `ImageEncoderViT`.
        """
        super().__init__(embed_dim=embed_dim, **dimensions)
        if patch_convolutions:
            self.patch_embed = ConvolutionalPatchEmbedding(patch_convolutions, embed_dim)
        for block in self.blocks:
            block.attn = WindowAttention(block.attn, block.window_size or None)
            block.window_size = 0  # the attention itself handles the windows
        use_rows(self.blocks)
        fuse_norms(self.neck)
        self.slice_adapters = nn.ModuleDict()
        self.inner_slice_adapters = nn.ModuleDict()
        # A plain dict: the weights of these blocks keep their names.
        self._halves: dict[int, tuple[nn.Module, nn.Module]] = {}
        self.gradient_checkpointing = gradient_checkpointing

    def forward(self, images: Tensor, num_slices: int = 1) -> Tensor:
        """Encode images.

        Args:
            images: `(B, 3, S, S)`, normalised. Those of a stack follow each other.
            num_slices: Images of a stack, which adapters let see each other.

        Returns:
            The embedding `(B, 256, S / 16, S / 16)`.
        """
        tokens = self.tokens(images)
        for layer in self.layers():
            others = (num_slices,) if isinstance(layer, SliceAdapter) else ()
            tokens = self._run(layer, tokens, *others)
        return self.embedding(tokens)

    def layers(self) -> list[nn.Module]:
        """Return what tokens pass through: the blocks or their halves, and the slice adapters.

        Returns:
            The modules in their order. Each takes tokens `(B, h, w, width)`, a `SliceAdapter` also
            the number of slices of a stack.
        """
        layers: list[nn.Module] = []
        for number, block in enumerate(self.blocks):
            if str(number) in self.slice_adapters:
                layers.append(self.slice_adapters[str(number)])
            if number in self._halves:
                attention, perceptron = self._halves[number]
                layers += [attention, self.inner_slice_adapters[str(number)], perceptron]
            else:
                layers.append(block)
        return layers

    def divide_block(self, number: int, adapter: SliceAdapter) -> None:
        """Put an adapter between the attention and the perceptron of a block.

        Args:
            number: The number of the block.
            adapter: The adapter.
        """
        block: Any = self.blocks[number]
        self.inner_slice_adapters[str(number)] = adapter
        halves = (BlockHalf(block.norm1, block.attn), BlockHalf(block.norm2, block.mlp))
        self._halves[number] = halves

    def tokens(self, images: Tensor) -> Tensor:
        """Return the tokens of images before the first block.

        Args:
            images: `(B, 3, S, S)`, normalised.

        Returns:
            A tensor `(B, S / 16, S / 16, width)`.
        """
        # The convolution leaves the channels first in memory, which would slow down every layer
        # from here to the neck.
        return (self.patch_embed(images) + self.pos_embed).contiguous()

    def embedding(self, tokens: Tensor) -> Tensor:
        """Return the embedding of tokens after the last block.

        Args:
            tokens: `(B, S / 16, S / 16, width)`.

        Returns:
            A tensor `(B, 256, S / 16, S / 16)`.
        """
        return self.neck(tokens.permute(0, 3, 1, 2))

    def _run(self, layer: nn.Module, tokens: Tensor, *others: int) -> Tensor:
        """Return the tokens after one of the layers."""
        if not self._recomputes(layer, tokens):
            return layer(tokens, *others)
        return checkpoint(layer, tokens, *others, use_reentrant=False, preserve_rng_state=False)

    def _recomputes(self, block: nn.Module, tokens: Tensor) -> bool:
        """Tell whether a block's inner results are computed again in the backward pass.

        Frozen blocks before the first trained block have no graph, so nothing of them is kept.
        """
        if not self.gradient_checkpointing or not torch.is_grad_enabled():
            return False
        return tokens.requires_grad or any(weight.requires_grad for weight in block.parameters())


class BlockHalf(nn.Module):
    """Half of a block: adds to tokens what a layer makes of their norm.

    Attributes:
        norm: The norm of the half.
        layer: The attention or the perceptron.
    """

    def __init__(self, norm: nn.Module, layer: nn.Module) -> None:
        """Take the layers of a block, which keeps them.

        Args:
            norm: The norm of the half.
            layer: The attention or the perceptron.
        """
        super().__init__()
        self.norm, self.layer = norm, layer

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the tokens after this half.

        Args:
            tokens: `(B, h, w, width)`.

        Returns:
            Tokens of the same shape.
        """
        return tokens + self.layer(self.norm(tokens))


class ConvolutionalPatchEmbedding(nn.Sequential):
    """Turns the image into tokens in several convolutions instead of one.

    A vision transformer learns faster and more steadily behind a few convolutions (Xiao et al.
    2021, arXiv 2106.14881).
    """

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        """Build the convolutions; each halves the resolution.

        Args:
            channels: Output channels of each convolution except the last.
            width: Channels of a token.
        """
        layers = [
            normalised_convolution(before, after, 2)
            for before, after in itertools.pairwise((3, *channels))
        ]
        super().__init__(*layers, nn.Conv2d(channels[-1], width, 3, stride=2, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        """Return the tokens of images.

        Args:
            images: `(B, 3, S, S)`.

        Returns:
            A tensor `(B, S / 16, S / 16, width)`.
        """
        return super().forward(images).permute(0, 2, 3, 1)


def build_encoder(
    backbone: Backbone, input_size: int, *, gradient_checkpointing: bool = False
) -> ImageEncoder:
    """Build SAM's image encoder, randomly initialised.

    Args:
        backbone: Dimensions of the encoder.
        input_size: Edge of the square input in pixels.
        gradient_checkpointing: See `ImageEncoder`.

    Returns:
        An encoder from `(B, 3, S, S)` to `(B, 256, S / 16, S / 16)`.
    """
    encoder = ImageEncoder(
        patch_convolutions=backbone.patch_convolutions,
        gradient_checkpointing=gradient_checkpointing,
        **encoder_arguments(backbone, input_size),
    )
    _initialise(encoder)
    return encoder


def encoder_arguments(backbone: Backbone, input_size: int) -> dict[str, Any]:
    """Return the arguments of segment_anything's `ImageEncoderViT` for a backbone.

    Args:
        backbone: Dimensions of the encoder.
        input_size: Edge of the square input in pixels.

    Returns:
        The arguments by name.
    """
    return {
        "img_size": input_size,
        "patch_size": PATCH,
        "embed_dim": backbone.width,
        "depth": backbone.depth,
        "num_heads": backbone.heads,
        "mlp_ratio": 4,
        "out_chans": EMBEDDING_CHANNELS,
        "qkv_bias": True,
        "norm_layer": partial(nn.LayerNorm, eps=1e-6),
        "use_rel_pos": True,
        "window_size": WINDOW,
        "global_attn_indexes": backbone.global_blocks,
    }


def _initialise(encoder: ImageEncoder) -> None:
    """Draw linear layers and positions from a truncated normal of 0.02, usual for transformers."""
    for module in encoder.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.trunc_normal_(encoder.pos_embed, std=0.02)


class InputStem(nn.Module):
    """Turns the channels of a data set into the three normalised channels of SAM's encoder.

    Three channels are only normalised. For any other number a 1 x 1 convolution is learned; it
    starts as the mean of the channels.

    Attributes:
        mix: The convolution, or the identity for three channels.
        mean: Subtracted from each channel, `(3, 1, 1)`.
        std: Divisor of each channel, `(3, 1, 1)`.
    """

    def __init__(self, num_channels: int, sam_statistics: bool) -> None:
        """Build the stem.

        Args:
            num_channels: Number of channels of the input.
            sam_statistics: Whether to normalise with the mean and standard deviation of SAM's
                training images; the values stay unchanged otherwise.
        """
        super().__init__()
        self.mix = nn.Identity() if num_channels == 3 else _mean_of_channels(num_channels)
        mean, std = (PIXEL_MEAN, PIXEL_STD) if sam_statistics else ((0.0,) * 3, (1.0,) * 3)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the encoder's input.

        Args:
            images: `(B, C, S, S)`, values from 0 to 1.

        Returns:
            A tensor `(B, 3, S, S)`.
        """
        return (self.mix(images) - self.mean) / self.std


def _mean_of_channels(num_channels: int) -> nn.Module:
    mix = nn.Conv2d(num_channels, 3, 1)
    nn.init.constant_(mix.weight, 1 / num_channels)
    mix.bias = nn.Parameter(torch.zeros(3))
    return mix
