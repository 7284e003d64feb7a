"""LoRA: which layers it replaces, its formula and gradients, and its merging into the weights."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from builders.numerics import (
    assert_close_to_norm,
    assert_gradients_close,
    relative_error,
    to_double,
)
from builders.tiny_sam import TINY, randomise
from torch import Tensor, nn

from samnet.core.errors import UserError
from samnet.models.encoder import build_encoder
from samnet.models.heads.mask_decoder import MaskDecoderHead
from samnet.models.lora import (
    LoraLinear,
    add_decoder_lora,
    add_lora,
    lora_layers,
    merge_lora,
    select_blocks,
    unmerge_lora,
)
from samnet.models.network import count_parameters
from samnet.plan.backbones import BACKBONES, Backbone
from samnet.plan.configuration import PLAN_KEYS

TARGETS = PLAN_KEYS["lora_targets"].choices()
LAYERS = {
    "q": "attn.qkv",
    "k": "attn.qkv",
    "v": "attn.qkv",
    "projection": "attn.proj",
    "mlp": "mlp.lin",
}
DEEP = Backbone("deep", 32, 8, 2, (3, 7), 96)


def adapted_encoder(
    targets: tuple[str, ...] = ("q", "v"), blocks: str = "all", scale: float = 1.0
) -> nn.Module:
    encoder = to_double(randomise(build_encoder(TINY, 64)))
    add_lora(encoder, rank=3, targets=targets, blocks=blocks, scale=scale)
    return encoder


def disturb(module: nn.Module) -> None:
    """Give the B of every pair, which starts at zero, something to add."""
    for layer in lora_layers(module):
        for up in layer.up:
            nn.init.normal_(up, std=0.2)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def linear(inputs: int = 8, outputs: int = 12) -> nn.Linear:
    return nn.Linear(inputs, outputs, dtype=torch.float64)


def lora_names(module: nn.Module) -> set[str]:
    return {name for name, layer in module.named_modules() if isinstance(layer, LoraLinear)}


@pytest.mark.parametrize("count", range(1, 6))
def test_add_lora_replaces_the_chosen_layers_and_trains_only_their_pairs(count: int) -> None:
    for targets in itertools.combinations(TARGETS, count):
        encoder = adapted_encoder(targets)
        replaced = lora_names(encoder)
        expected = {LAYERS[target] for target in targets}
        assert {name.split(".", 2)[2].rstrip("12") for name in replaced} == expected
        assert len(replaced) == TINY.depth * (len(expected) + ("mlp" in targets))
        names = [name for name, _ in encoder.named_parameters()]
        trained = {name for name, weight in encoder.named_parameters() if weight.requires_grad}
        assert trained == {name for name in names if ".down." in name or ".up." in name}
        pairs = sum(target in targets for target in "qkv")
        pairs += ("projection" in targets) + 2 * ("mlp" in targets)
        assert len(trained) == 2 * TINY.depth * pairs


@pytest.mark.parametrize("target", TARGETS)
def test_lora_starts_as_the_network_that_it_adapts(target: str) -> None:
    encoder = to_double(randomise(build_encoder(TINY, 64)))
    x = draw(2, 3, 64, 64)
    before = encoder(x)
    add_lora(encoder, rank=3, targets=(target,), blocks="all")
    assert_close_to_norm(encoder(x), before)
    disturb(encoder)
    assert relative_error(encoder(x), before) > 1e-5


def test_the_first_matrix_of_lora_starts_kaiming_uniform() -> None:
    layer = LoraLinear(nn.Linear(400, 30), rank=50)
    bound = 1 / math.sqrt(400)  # of Kaiming's uniform distribution with a = sqrt 5
    assert 0.98 * bound < float(layer.down[0].detach().abs().max()) <= bound
    assert float(layer.down[0].detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert not layer.up[0].any()


@pytest.mark.parametrize(("parts", "scale"), [((0, 2), 1.0), ((1,), 0.5), ((0, 1, 2), 2.0)])
def test_lora_follows_the_formula_of_samed(parts: tuple[int, ...], scale: float) -> None:
    base, x = linear(), draw(5, 8)
    layer = LoraLinear(base, rank=2, parts=parts, num_parts=3, scale=scale)
    disturb(layer)
    expected = base(x)
    for index, part in enumerate(parts):
        expected[:, 4 * part : 4 * part + 4] += scale * x @ layer.down[index].T @ layer.up[index].T
    assert_close_to_norm(layer(x), expected)


def test_the_gradients_of_lora_are_those_of_its_formula() -> None:
    base, x = linear(), draw(2, 5, 8).requires_grad_()
    layer = LoraLinear(base, rank=2, parts=(0, 2), num_parts=3, scale=0.5)
    disturb(layer)
    weights = draw(2, 5, 12)
    trained = [x, *layer.down, *layer.up]
    found = torch.autograd.grad((layer(x) * weights).sum(), trained)
    q, k, v = base(x).chunk(3, dim=-1)
    q = q + 0.5 * x @ layer.down[0].T @ layer.up[0].T
    v = v + 0.5 * x @ layer.down[1].T @ layer.up[1].T
    expected = torch.autograd.grad((torch.cat([q, k, v], dim=-1) * weights).sum(), trained)
    assert_gradients_close(found, expected)


@pytest.mark.parametrize("parts", [(0, 2), (1,)])
def test_lora_works_in_half_precision(parts: tuple[int, ...]) -> None:
    layer, x = LoraLinear(nn.Linear(8, 12), rank=2, parts=parts, num_parts=3), torch.randn(2, 5, 8)
    disturb(layer)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    assert relative_error(y, layer(x)) < 0.01  # bfloat16 rounds to 1 / 256
    y.float().sum().backward()
    assert all(weight.grad is not None for weight in (*layer.down, *layer.up))


def test_merging_adds_the_scaled_product_to_the_weight() -> None:
    base = linear()
    before = base.weight.detach().clone()
    layer = LoraLinear(base, rank=2, parts=(0, 2), num_parts=3, scale=0.5)
    disturb(layer)
    expected = before.clone()
    expected[:4] += 0.5 * layer.up[0].detach() @ layer.down[0].detach()
    expected[8:] += 0.5 * layer.up[1].detach() @ layer.down[1].detach()
    layer.merge()
    assert_close_to_norm(base.weight, expected)
    merged = base.weight.detach().clone()
    layer.merge()
    assert torch.equal(base.weight, merged)
    layer.unmerge()
    layer.unmerge()
    assert_close_to_norm(base.weight, before)


@pytest.mark.parametrize("targets", [("q", "v"), TARGETS])
def test_a_merged_encoder_computes_the_same(targets: tuple[str, ...]) -> None:
    encoder = adapted_encoder(targets, scale=0.7)
    disturb(encoder)
    x = draw(2, 3, 64, 64)
    with torch.inference_mode():
        expected = encoder(x)
        for change in (merge_lora, merge_lora, unmerge_lora):
            change(encoder)
            assert_close_to_norm(encoder(x), expected)


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ("all", range(8)),
        ("last_half", range(4, 8)),
        ("last_quarter", range(6, 8)),
        ("7", [7]),
        ("0, 3,3,5", [0, 3, 5]),
    ],
)
def test_any_blocks_can_be_chosen_for_lora(blocks: str, expected: list[int]) -> None:
    encoder = build_encoder(DEEP, 64)
    chosen = select_blocks(encoder, blocks)
    every_block = list(encoder.blocks)
    assert [every_block.index(block) for block in chosen] == list(expected)
    add_lora(encoder, rank=2, targets=("v",), blocks=blocks)
    adapted = [i for i, block in enumerate(every_block) if isinstance(block.attn.qkv, LoraLinear)]
    assert adapted == list(expected)


@pytest.mark.parametrize("blocks", ["first_half", "8", "-1", "1,,2", "", "1.5"])
def test_blocks_that_do_not_exist_are_refused(blocks: str) -> None:
    with pytest.raises(UserError, match="numbers from 0 to 7"):
        select_blocks(build_encoder(DEEP, 64), blocks)


@pytest.mark.parametrize(
    ("name", "rank", "expected"),
    [("vit_b", 4, 147_456), ("vit_b", 8, 294_912), ("vit_h", 4, 655_360)],
)
def test_lora_trains_as_many_weights_as_samed_published(
    name: str, rank: int, expected: int
) -> None:
    with torch.device("meta"):
        encoder = build_encoder(BACKBONES[name], 512)
        total = count_parameters(encoder)[0]
        add_lora(encoder, rank=rank, targets=("q", "v"), blocks="all")
    assert count_parameters(encoder) == (total + expected, expected)
    if name == "vit_b":
        assert total == 87_278_848


def test_decoder_lora_adapts_q_and_v_of_every_attention_as_samed_s() -> None:
    head = MaskDecoderHead(9, 4)
    decoder = head.mask_decoder
    add_decoder_lora(decoder.transformer, rank=4, targets=("q", "v"))
    attentions = ["self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token"]
    adapted = [f"layers.{layer}.{attention}" for layer in range(2) for attention in attentions]
    adapted.append("final_attn_token_to_image")
    expected = {f"{attention}.{letter}_proj" for attention in adapted for letter in "qv"}
    assert lora_names(decoder.transformer) == expected
    assert count_parameters(decoder.transformer)[1] == 2 * 2 * (4096 + 2 * 3072) // 2 + 3072
    for part in (decoder.output_upscaling, decoder.output_hypernetworks_mlps):
        assert all(weight.requires_grad for weight in part.parameters())
    assert decoder.mask_tokens.weight.requires_grad
    assert decoder.iou_token.weight.requires_grad


@pytest.mark.parametrize("target", TARGETS)
def test_decoder_lora_starts_as_the_decoder_and_can_be_merged(target: str) -> None:
    head = to_double(randomise(MaskDecoderHead(3, 4)))
    embedding, image = draw(2, 256, 4, 4), draw(2, 3, 64, 64)
    before = head(embedding, image)
    add_decoder_lora(head.mask_decoder.transformer, rank=4, targets=(target,))
    assert_close_to_norm(head(embedding, image), before)
    disturb(head)
    adapted = head(embedding, image)
    assert relative_error(adapted, before) > 1e-3
    merge_lora(head)
    assert_close_to_norm(head(embedding, image), adapted)


@pytest.mark.parametrize(
    ("depth", "blocks", "count"),
    [(12, "last_half", 6), (12, "last_quarter", 3), (3, "last_half", 2), (7, "last_quarter", 2)],
)
def test_share_of_the_blocks_is_rounded(depth: int, blocks: str, count: int) -> None:
    encoder = nn.Module()
    encoder.blocks = nn.ModuleList(nn.Identity() for _ in range(depth))
    assert select_blocks(encoder, blocks) == list(encoder.blocks)[-count:]


@pytest.mark.parametrize("scale", [None, 0.5])
def test_every_layer_has_rank_and_scale_of_the_plan(scale: float | None) -> None:
    given = {} if scale is None else {"scale": scale}
    encoder, head = build_encoder(TINY, 64), MaskDecoderHead(3, 4)
    add_lora(encoder, rank=3, targets=TARGETS, blocks="all", **given)
    add_decoder_lora(head.mask_decoder.transformer, rank=3, targets=TARGETS, **given)
    for network in (encoder, head):
        layers = list(lora_layers(network))
        assert {layer.scale for layer in layers} == {scale or 1.0}
        assert {up.shape[1] for layer in layers for up in layer.up} == {3}
