"""Files as SAMed and SAMed_s write them, of random values, and a plain transcription of what SAMed computes with them.

Written from the description of SAMed's released code in the papers' notes: modules of segment_anything, LoRA added to q
and v by hand, tables resized as SAMed does.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from samnet.models.sam_modules import MaskDecoder, PromptEncoder, TwoWayTransformer
from samnet.plan.backbones import Backbone

RANK = 4


def mask_decoder(num_outputs: int) -> nn.Module:
    return MaskDecoder(
        transformer_dim=256,
        transformer=TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
        num_multimask_outputs=num_outputs - 1,
    )


def prompt_encoder(size: int) -> nn.Module:
    return PromptEncoder(
        embed_dim=256,
        image_embedding_size=(size // 16, size // 16),
        input_image_size=(size, size),
        mask_in_chans=16,
    )


def attentions(decoder: nn.Module) -> dict[str, nn.Module]:
    """The attentions of a mask decoder by the beginning of their keys, `sa`, `cti` and `cit` with their layer."""
    found = {}
    for number, layer in enumerate(decoder.transformer.layers):
        found[f"sa{number}"] = layer.self_attn
        found[f"cti{number}"] = layer.cross_attn_token_to_image
        found[f"cit{number}"] = layer.cross_attn_image_to_token
    return found | {"fati": decoder.transformer.final_attn_token_to_image}


def lora_keys(name: str, letter: str) -> tuple[str, str]:
    """The keys of A and B of q or v of one attention of the mask decoder."""
    if name == "fati":
        return f"fati_{letter}a", f"fati_{letter}b"
    number = 2 * int(name[-1]) + "qv".index(letter)
    return f"{name[:-1]}_a_{number:03d}", f"{name[:-1]}_b_{number:03d}"


def write_samed(
    backbone: Backbone, num_classes: int, size: int, *, decoder_lora: bool
) -> dict[str, Tensor]:
    """The content of a `.pth` of SAMed, or of SAMed_s with `decoder_lora`."""
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
    def __init__(self, layer: nn.Module, a: Tensor, b: Tensor) -> None:
        super().__init__()
        self.layer, self.a, self.b = layer, a, b

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + functional.linear(functional.linear(x, self.a), self.b)


def _resized(key: str, value: Tensor, size: int, is_global: bool) -> Tensor:
    grid = size // 16
    if key == "pos_embed":
        return functional.interpolate(
            value.permute(0, 3, 1, 2), (grid, grid), mode="bilinear"
        ).permute(0, 2, 3, 1)
    if "rel_pos" in key and is_global:
        return functional.interpolate(
            value[None, None], (2 * grid - 1, value.shape[1]), mode="bilinear"
        )[0, 0]
    return value


@torch.no_grad()
def samed_logits(
    images: Tensor,
    content: dict[str, Tensor],
    sam: dict[str, Tensor],
    encoder: nn.Module,
    backbone: Backbone,
) -> Tensor:
    """Low-resolution logits `(B, K, S / 4, S / 4)` of images `(B, 3, S, S)`, 0 to 1.

    content: of SAMed's file. sam: SAM's own weights. encoder: SAM's, of that input size; it is filled and changed.
    """
    size = images.shape[-1]
    found = {}
    for key, value in sam.items():
        if key.startswith("image_encoder."):
            name = key.removeprefix("image_encoder.")
            block = int(name.split(".")[1]) if name.startswith("blocks.") else -1
            found[name] = _resized(name, value, size, block in backbone.global_blocks)
    encoder.load_state_dict(found)
    for number, block in enumerate(encoder.blocks):
        keys = [f"w_{letter}_{2 * number + part:03d}" for part in (0, 1) for letter in "ab"]
        block.attn.qkv = _AddedToQAndV(block.attn.qkv, [content[key] for key in keys])

    prompts = prompt_encoder(size)
    prompts.load_state_dict(
        {key[15:]: value for key, value in content.items() if key.startswith("prompt_encoder.")}
    )
    decoder = mask_decoder(len(content["mask_decoder.mask_tokens.weight"]))
    own = {key[13:]: value for key, value in content.items() if key.startswith("mask_decoder.")}
    kept = {
        key[13:]: value for key, value in sam.items() if key.startswith("mask_decoder.transformer.")
    }
    decoder.load_state_dict(kept | own)
    if "sa_a_000" in content:
        for name, attention in attentions(decoder).items():
            for letter in "qv":
                key_a, key_b = lora_keys(name, letter)
                layer = getattr(attention, f"{letter}_proj")
                setattr(attention, f"{letter}_proj", _Added(layer, content[key_a], content[key_b]))

    sparse, dense = prompts(points=None, boxes=None, masks=None)
    positions = prompts.get_dense_pe()
    masks = []
    for embedding in encoder(images):
        mask, _ = decoder.predict_masks(embedding[None], positions, sparse, dense)
        masks.append(mask)
    return torch.cat(masks)
