"""Files as SAMed and SAMed_s write them, with random values, and what SAMed computes with them.

The computation is a plain transcription, written from the description of SAMed's released code in
the papers' notes: modules of segment_anything, LoRA added to q and v by hand, and tables resized as
SAMed does.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import zoom
from torch import Tensor, nn
from torch.nn import functional

from builders.numerics import to_double
from samnet.models.sam_modules import MaskDecoder, PromptEncoder, TwoWayTransformer
from samnet.plan.backbones import Backbone

RANK = 4


def mask_decoder(num_outputs: int) -> nn.Module:
    """Build SAM's mask decoder.

    Args:
        num_outputs: Number of masks.

    Returns:
        The decoder, randomly initialised.
    """
    return MaskDecoder(
        transformer_dim=256,
        transformer=TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
        num_multimask_outputs=num_outputs - 1,
    )


def prompt_encoder(size: int) -> nn.Module:
    """Build SAM's prompt encoder.

    Args:
        size: Edge of the square input in pixels.

    Returns:
        The prompt encoder, randomly initialised.
    """
    return PromptEncoder(
        embed_dim=256,
        image_embedding_size=(size // 16, size // 16),
        input_image_size=(size, size),
        mask_in_chans=16,
    )


def attentions(decoder: nn.Module) -> dict[str, nn.Module]:
    """Find the attentions of a mask decoder.

    Args:
        decoder: SAM's mask decoder.

    Returns:
        The attentions by the beginning of their keys in SAMed's files: `sa`, `cti` and `cit` with
        the number of their layer, and `fati`.
    """
    found = {}
    for number, layer in enumerate(decoder.transformer.layers):
        found[f"sa{number}"] = layer.self_attn
        found[f"cti{number}"] = layer.cross_attn_token_to_image
        found[f"cit{number}"] = layer.cross_attn_image_to_token
    return found | {"fati": decoder.transformer.final_attn_token_to_image}


def lora_keys(name: str, letter: str) -> tuple[str, str]:
    """Return SAMed's keys of the matrices A and B of an attention of the mask decoder.

    Args:
        name: The attention, a key of `attentions`.
        letter: `q` or `v`.

    Returns:
        The keys of A and of B.
    """
    if name == "fati":
        return f"fati_{letter}a", f"fati_{letter}b"
    number = 2 * int(name[-1]) + "qv".index(letter)
    return f"{name[:-1]}_a_{number:03d}", f"{name[:-1]}_b_{number:03d}"


def write_samed(
    backbone: Backbone, num_classes: int, size: int, *, decoder_lora: bool
) -> dict[str, Tensor]:
    """Return the content of a `.pth` file of SAMed, with random values.

    Args:
        backbone: Dimensions of the encoder.
        num_classes: Number of classes without the background.
        size: Edge of the square input in pixels.
        decoder_lora: Whether it is a file of SAMed_s, whose mask decoder has LoRA too.

    Returns:
        Tensors by SAMed's keys.
    """
    content = {}
    for number in range(2 * backbone.depth):
        content[f"w_a_{number:03d}"] = 0.3 * torch.randn(RANK, backbone.width)
        content[f"w_b_{number:03d}"] = 0.3 * torch.randn(backbone.width, RANK)
    decoder = mask_decoder(num_classes + 1)
    for part, module in {"prompt_encoder": prompt_encoder(size), "mask_decoder": decoder}.items():
        for key, value in module.state_dict().items():
            if not (decoder_lora and "transformer" in key):
                content[f"{part}.{key}"] = value + 0.05 * torch.randn_like(value)
    if decoder_lora:
        for name, attention in attentions(decoder).items():
            for letter in "qv":
                key_a, key_b = lora_keys(name, letter)
                content[key_a] = 0.1 * torch.randn(RANK, attention.embedding_dim)
                content[key_b] = 0.1 * torch.randn(attention.internal_dim, RANK)
    return content


class _AddedToQAndV(nn.Module):
    """A qkv layer with low-rank updates of q and v."""

    def __init__(self, qkv: nn.Module, pairs: list[Tensor]) -> None:
        super().__init__()
        self.qkv, self.pairs = qkv, pairs

    def forward(self, x: Tensor) -> Tensor:
        a_q, b_q, a_v, b_v = self.pairs
        out, width = self.qkv(x).clone(), x.shape[-1]
        out[..., :width] += functional.linear(functional.linear(x, a_q), b_q)
        out[..., -width:] += functional.linear(functional.linear(x, a_v), b_v)
        return out


class _Added(nn.Module):
    """A layer with a low-rank update of its output."""

    def __init__(self, layer: nn.Module, a: Tensor, b: Tensor) -> None:
        super().__init__()
        self.layer, self.a, self.b = layer, a, b

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + functional.linear(functional.linear(x, self.a), self.b)


def _resized(key: str, value: Tensor, size: int, is_global: bool) -> Tensor:
    """Resize a table of positions as SAMed does; return any other weight unchanged."""
    grid = size // 16
    if key == "pos_embed":
        channels_first = value.permute(0, 3, 1, 2)
        resized = functional.interpolate(channels_first, (grid, grid), mode="bilinear")
        return resized.permute(0, 2, 3, 1)
    if "rel_pos" in key and is_global:
        shape = (2 * grid - 1, value.shape[1])
        return functional.interpolate(value[None, None], shape, mode="bilinear")[0, 0]
    return value


@torch.no_grad()
def samed_logits(
    images: Tensor,
    content: dict[str, Tensor],
    sam: dict[str, Tensor],
    encoder: nn.Module,
    backbone: Backbone,
) -> Tensor:
    """Compute what SAMed computes with a file, in the precision of the images.

    Args:
        images: `(B, 3, S, S)`, values from 0 to 1.
        content: The content of SAMed's file.
        sam: SAM's weights.
        encoder: SAM's encoder of that input size; it is filled and changed.
        backbone: Dimensions of the encoder.

    Returns:
        Low-resolution logits `(B, K, S / 4, S / 4)`.
    """
    size = images.shape[-1]
    prompts = prompt_encoder(size)
    decoder = mask_decoder(len(content["mask_decoder.mask_tokens.weight"]))
    _fill_encoder(encoder, sam, size, backbone)
    _fill_decoder(decoder, prompts, content, sam)
    if images.dtype == torch.float64:
        for module in (encoder, prompts, decoder):
            to_double(module)
    _add_updates(encoder, decoder, {key: value.to(images) for key, value in content.items()})

    sparse, dense = prompts(points=None, boxes=None, masks=None)
    positions = prompts.get_dense_pe()
    masks = []
    for embedding in encoder(images):
        mask, _ = decoder.predict_masks(embedding[None], positions, sparse, dense)
        masks.append(mask)
    return torch.cat(masks)


def predict_as_samed(
    image: np.ndarray,
    content: dict[str, Tensor],
    sam: dict[str, Tensor],
    encoder: nn.Module,
    backbone: Backbone,
    size: int,
    first: int = 224,
) -> np.ndarray:
    """Predict a CT volume slice by slice as SAMed's code does.

    Each slice is clipped to [-125, 275] HU and scaled, resampled by cubic splines to `first`
    pixels, and likewise to the input. The logits are enlarged bilinearly to the input. The map of
    the winners goes back to the slice by the nearest pixel.

    Args:
        image: Intensities `(Z, Y, X)` in HU.
        content: The content of SAMed's file.
        sam: SAM's weights.
        encoder: SAM's encoder of that input size; it is filled and changed.
        backbone: Dimensions of the encoder.
        size: Edge of the square input in pixels.
        first: Edge of the square that slices are resampled to at first.

    Returns:
        Labels `(Z, Y, X)`.
    """
    inputs = []
    for plane in (np.clip(image, -125, 275) + 125) / 400:
        rows, columns = plane.shape
        square = zoom(plane, (first / rows, first / columns), order=3)
        inputs.append(zoom(square, size / first, order=3))
    grey = torch.from_numpy(np.stack(inputs)).float()
    logits = samed_logits(grey[:, None].repeat(1, 3, 1, 1), content, sam, encoder, backbone)
    enlarged = functional.interpolate(logits, (size, size), mode="bilinear")
    scales = (image.shape[1] / size, image.shape[2] / size)
    winners = enlarged.softmax(1).argmax(1).numpy()
    return np.stack([zoom(plane, scales, order=0) for plane in winners])


def _fill_encoder(
    encoder: nn.Module, sam: dict[str, Tensor], size: int, backbone: Backbone
) -> None:
    found = {}
    for key, value in sam.items():
        if key.startswith("image_encoder."):
            name = key.removeprefix("image_encoder.")
            block = int(name.split(".")[1]) if name.startswith("blocks.") else -1
            found[name] = _resized(name, value, size, block in backbone.global_blocks)
    encoder.load_state_dict(found)


def _fill_decoder(
    decoder: nn.Module, prompts: nn.Module, content: dict[str, Tensor], sam: dict[str, Tensor]
) -> None:
    """Fill both from SAMed's file, and what it does not hold of the transformer from SAM's."""
    prompts.load_state_dict(_with_prefix(content, "prompt_encoder."))
    transformer = _with_prefix(sam, "mask_decoder.transformer.")
    kept = {f"transformer.{key}": value for key, value in transformer.items()}
    decoder.load_state_dict(kept | _with_prefix(content, "mask_decoder."))


def _with_prefix(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the weights whose names begin with a prefix, by the rest of their names."""
    return {
        key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)
    }


def _add_updates(encoder: nn.Module, decoder: nn.Module, content: dict[str, Tensor]) -> None:
    """Add the low-rank updates of SAMed's file to the layers."""
    for number, block in enumerate(encoder.blocks):
        keys = [f"w_{letter}_{2 * number + part:03d}" for part in (0, 1) for letter in "ab"]
        block.attn.qkv = _AddedToQAndV(block.attn.qkv, [content[key] for key in keys])
    if "sa_a_000" not in content:
        return
    for name, attention in attentions(decoder).items():
        for letter in "qv":
            key_a, key_b = lora_keys(name, letter)
            layer = getattr(attention, f"{letter}_proj")
            setattr(attention, f"{letter}_proj", _Added(layer, content[key_a], content[key_b]))
