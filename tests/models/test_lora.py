from __future__ import annotations

import itertools
import math

import pytest
import torch
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
from samnet.plan.configuration import CHOICES

TARGETS = CHOICES["lora_targets"]
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
    encoder = randomise(build_encoder(TINY, 64))
    add_lora(encoder, rank=3, targets=targets, blocks=blocks, scale=scale)
    return encoder


def disturb(module: nn.Module) -> None:
    """Give the B of every pair, which starts at zero, something to add."""
    for layer in lora_layers(module):
        for up in layer.up:
            nn.init.normal_(up, std=0.2)


def images() -> Tensor:
    return torch.randn(2, 3, 64, 64)


@pytest.mark.parametrize("count", range(1, 6))
def test_the_chosen_layers_are_replaced_and_only_their_pairs_train(count: int) -> None:
    for targets in itertools.combinations(TARGETS, count):
        encoder = adapted_encoder(targets)
        replaced = [
            name for name, layer in encoder.named_modules() if isinstance(layer, LoraLinear)
        ]
        wanted = {LAYERS[target] for target in targets}
        assert {name.split(".", 2)[2].rstrip("12") for name in replaced} == wanted
        assert len(replaced) == TINY.depth * (len(wanted) + ("mlp" in targets))
        trained = {name for name, weight in encoder.named_parameters() if weight.requires_grad}
        assert trained == {
            name for name, _ in encoder.named_parameters() if ".down." in name or ".up." in name
        }
        pairs = (
            sum(target in targets for target in "qkv")
            + ("projection" in targets)
            + 2 * ("mlp" in targets)
        )
        assert len(trained) == 2 * TINY.depth * pairs


@pytest.mark.parametrize("target", TARGETS)
def test_it_starts_as_the_network_it_adapts(target: str) -> None:
    encoder = randomise(build_encoder(TINY, 64))
    x = images()
    before = encoder(x)
    add_lora(encoder, rank=3, targets=(target,), blocks="all")
    assert torch.allclose(encoder(x), before, atol=1e-6)
    disturb(encoder)
    assert not torch.allclose(encoder(x), before, atol=1e-3)


def test_its_first_matrix_starts_kaiming_uniform() -> None:
    layer = LoraLinear(nn.Linear(400, 30), rank=50)
    bound = 1 / math.sqrt(400)  # of Kaiming's uniform distribution with a = sqrt 5
    assert 0.98 * bound < float(layer.down[0].detach().abs().max()) <= bound
    assert float(layer.down[0].detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert not layer.up[0].any()


@pytest.mark.parametrize(("parts", "scale"), [((0, 2), 1.0), ((1,), 0.5), ((0, 1, 2), 2.0)])
def test_it_is_the_formula_of_samed(parts: tuple[int, ...], scale: float) -> None:
    base, x = nn.Linear(8, 12), torch.randn(5, 8)
    layer = LoraLinear(base, rank=2, parts=parts, num_parts=3, scale=scale)
    disturb(layer)
    expected = base(x)
    for index, part in enumerate(parts):
        expected[:, 4 * part : 4 * part + 4] += scale * x @ layer.down[index].T @ layer.up[index].T
    assert torch.allclose(layer(x), expected, atol=1e-6)


def test_its_gradients_are_those_of_the_formula() -> None:
    base, x = nn.Linear(8, 12), torch.randn(2, 5, 8, requires_grad=True)
    layer = LoraLinear(base, rank=2, parts=(0, 2), num_parts=3, scale=0.5)
    disturb(layer)
    weights = torch.randn(2, 5, 12)
    trained = [x, *layer.down, *layer.up]
    found = torch.autograd.grad((layer(x) * weights).sum(), trained)
    q, k, v = base(x).chunk(3, dim=-1)
    q = q + 0.5 * x @ layer.down[0].T @ layer.up[0].T
    v = v + 0.5 * x @ layer.down[1].T @ layer.up[1].T
    expected = torch.autograd.grad((torch.cat([q, k, v], dim=-1) * weights).sum(), trained)
    for mine, formula in zip(found, expected, strict=True):
        assert torch.allclose(mine, formula, atol=1e-5)


@pytest.mark.parametrize("parts", [(0, 2), (1,)])
def test_it_works_in_half_precision(parts: tuple[int, ...]) -> None:
    layer, x = LoraLinear(nn.Linear(8, 12), rank=2, parts=parts, num_parts=3), torch.randn(2, 5, 8)
    disturb(layer)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    assert torch.allclose(y.float(), layer(x), atol=0.1)
    y.float().sum().backward()
    assert all(weight.grad is not None for weight in (*layer.down, *layer.up))


def test_merged_is_w_plus_s_b_a() -> None:
    base = nn.Linear(8, 12)
    before = base.weight.detach().clone()
    layer = LoraLinear(base, rank=2, parts=(0, 2), num_parts=3, scale=0.5)
    disturb(layer)
    update = torch.zeros(12, 8)
    update[:4] = 0.5 * layer.up[0].detach() @ layer.down[0].detach()
    update[8:] = 0.5 * layer.up[1].detach() @ layer.down[1].detach()
    layer.merge()
    assert torch.allclose(base.weight, before + update, atol=1e-6)
    merged = base.weight.detach().clone()
    layer.merge()
    assert torch.equal(base.weight, merged)
    layer.unmerge()
    layer.unmerge()
    assert torch.allclose(base.weight, before, atol=1e-6)


@pytest.mark.parametrize("targets", [("q", "v"), TARGETS])
def test_a_merged_encoder_computes_the_same(targets: tuple[str, ...]) -> None:
    encoder = adapted_encoder(targets, scale=0.7)
    disturb(encoder)
    x = images()
    with torch.inference_mode():
        expected = encoder(x)
        merge_lora(encoder)
        assert torch.allclose(encoder(x), expected, atol=1e-5)
        merge_lora(encoder)
        assert torch.allclose(encoder(x), expected, atol=1e-5)
        unmerge_lora(encoder)
        assert torch.allclose(encoder(x), expected, atol=1e-5)


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
def test_any_blocks_can_be_chosen(blocks: str, expected: list[int]) -> None:
    encoder = build_encoder(DEEP, 64)
    chosen = select_blocks(encoder, blocks)
    assert [list(encoder.blocks).index(block) for block in chosen] == list(expected)
    add_lora(encoder, rank=2, targets=("v",), blocks=blocks)
    assert [isinstance(block.attn.qkv, LoraLinear) for block in encoder.blocks] == [
        i in expected for i in range(8)
    ]


@pytest.mark.parametrize("blocks", ["first_half", "8", "-1", "1,,2", "", "1.5"])
def test_blocks_that_are_none_are_named(blocks: str) -> None:
    with pytest.raises(UserError, match="numbers from 0 to 7"):
        select_blocks(build_encoder(DEEP, 64), blocks)


@pytest.mark.parametrize(
    ("name", "rank", "expected"),
    [("vit_b", 4, 147_456), ("vit_b", 8, 294_912), ("vit_h", 4, 655_360)],
)
def test_samed_trains_as_many_weights_as_published(name: str, rank: int, expected: int) -> None:
    with torch.device("meta"):
        encoder = build_encoder(BACKBONES[name], 512)
        total = count_parameters(encoder)[0]
        add_lora(encoder, rank=rank, targets=("q", "v"), blocks="all")
    assert count_parameters(encoder) == (total + expected, expected)
    if name == "vit_b":
        assert total == 87_278_848


def adapted_head(targets: tuple[str, ...] = ("q", "v")) -> MaskDecoderHead:
    head = MaskDecoderHead(9, 4)
    add_decoder_lora(head.mask_decoder.transformer, rank=4, targets=targets)
    return head


def test_samed_s_adapts_q_and_v_of_every_attention_of_the_decoder() -> None:
    head = adapted_head()
    attentions = ["self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token"]
    wanted = [f"layers.{layer}.{attention}" for layer in range(2) for attention in attentions]
    wanted.append("final_attn_token_to_image")
    transformer = head.mask_decoder.transformer
    replaced = {
        name for name, layer in transformer.named_modules() if isinstance(layer, LoraLinear)
    }
    assert replaced == {f"{attention}.{letter}_proj" for attention in wanted for letter in "qv"}
    assert count_parameters(transformer)[1] == 2 * 2 * (4096 + 2 * 3072) // 2 + 3072
    assert all(weight.requires_grad for weight in head.mask_decoder.output_upscaling.parameters())
    assert all(
        weight.requires_grad for weight in head.mask_decoder.output_hypernetworks_mlps.parameters()
    )
    assert head.mask_decoder.mask_tokens.weight.requires_grad
    assert head.mask_decoder.iou_token.weight.requires_grad


@pytest.mark.parametrize("target", TARGETS)
def test_the_decoders_adaptation_starts_as_nothing_and_merges(target: str) -> None:
    head = randomise(MaskDecoderHead(3, 4))
    embedding, image = torch.randn(2, 256, 4, 4), torch.empty(2, 3, 64, 64)
    before = head(embedding, image)
    add_decoder_lora(head.mask_decoder.transformer, rank=4, targets=(target,))
    assert torch.allclose(head(embedding, image), before, atol=1e-6)
    disturb(head)
    adapted = head(embedding, image)
    assert not torch.allclose(adapted, before, atol=1e-3)
    merge_lora(head)
    assert torch.allclose(head(embedding, image), adapted, atol=1e-5)
