"""Parity with segment_anything's own attention and windows: outputs and all gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from builders.tiny_sam import randomise, sam_encoder
from torch import Tensor, nn

from samnet.models import positional_attention
from samnet.models.encoder import build_encoder
from samnet.models.lora import add_lora
from samnet.models.positional_attention import Positions, attend, attend_with_codes
from samnet.plan.backbones import Backbone

Form = Callable[[Tensor, Tensor, Tensor, Positions], Tensor]
TWO_BLOCKS = Backbone("two", 48, 2, 3, (1,), None)


def assert_alike(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


def make_pair(tokens: int) -> tuple[nn.Module, nn.Module]:
    """An encoder of one windowed and one global block, samnet's and SAM's, with the same weights."""
    original = randomise(sam_encoder(TWO_BLOCKS, 16 * tokens))
    encoder = build_encoder(TWO_BLOCKS, 16 * tokens)
    encoder.load_state_dict(original.state_dict())
    return encoder, original


def run(block: nn.Module, tokens: Tensor, weights: Tensor) -> list[Tensor]:
    """The block's output, and the gradients of its weights and of the tokens."""
    tokens = tokens.clone().requires_grad_()
    output = block(tokens)
    (output * weights).sum().backward()
    assert tokens.grad is not None
    gradients = {name: weight.grad for name, weight in block.named_parameters()}
    missing = [name for name, gradient in gradients.items() if gradient is None]
    assert not missing
    return [output.detach(), tokens.grad, *(gradients[name] for name in sorted(gradients))]


# Windows of 14 tokens: one cut window; whole ones alone; a narrow edge; a wide one beside several.
@pytest.mark.parametrize("tokens", [3, 14, 28, 16, 32])
@pytest.mark.parametrize("number", [0, 1], ids=["windows", "global"])
@pytest.mark.parametrize("count", [1, 2])
def test_a_block_is_sams_with_its_gradients(
    tokens: int, number: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several chunks, the last one smaller; the weights of windows are kept, those of the largest image are not.
    monkeypatch.setattr(positional_attention, "_CHUNK", 200_000)
    encoder, original = make_pair(tokens)
    inputs = torch.randn(count, tokens, tokens, TWO_BLOCKS.width)
    weights = torch.randn_like(inputs)
    found = run(encoder.blocks[number], inputs, weights)
    for mine, sams in zip(found, run(original.blocks[number], inputs, weights), strict=True):
        assert_alike(mine, sams)


@pytest.mark.parametrize("tokens", [14, 32])
def test_the_form_for_gpus_is_sams_too(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samnet.models.attention.attend", attend_with_codes)
    test_a_block_is_sams_with_its_gradients(tokens, 0, 2, monkeypatch)
    test_a_block_is_sams_with_its_gradients(tokens, 1, 1, monkeypatch)


def test_images_need_not_be_square() -> None:
    encoder, original = make_pair(20)
    inputs = torch.randn(1, 9, 17, TWO_BLOCKS.width)
    assert_alike(encoder.blocks[0](inputs).detach(), original.blocks[0](inputs).detach())


def test_large_positions_do_not_overflow() -> None:
    """What stands for the padded tokens is the logarithm of a sum of exponentials, too large for a float."""
    encoder, original = make_pair(16)
    for module in (encoder, original):
        for name, weight in module.named_parameters():
            if "rel_pos" in name:
                weight.data *= 500
    inputs = torch.randn(1, 16, 16, TWO_BLOCKS.width)
    found, expected = encoder.blocks[0](inputs).detach(), original.blocks[0](inputs).detach()
    assert found.isfinite().all()
    assert float((found - expected).abs().max()) < 1e-3 * float(expected.abs().max())


@pytest.mark.parametrize("form", [attend, attend_with_codes])
def test_it_works_in_half_precision(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samnet.models.attention.attend", form)
    encoder, original = make_pair(16)
    inputs = torch.randn(1, 16, 16, TWO_BLOCKS.width, requires_grad=True)
    for number in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            found = encoder.blocks[number](inputs)
        expected = original.blocks[number](inputs)
        assert float((found - expected).detach().abs().max()) < 0.03 * float(
            expected.detach().abs().max()
        )
        found.float().sum().backward()
    assert inputs.grad is not None
    assert inputs.grad.isfinite().all()


def test_adapted_padding_is_the_bias_alone() -> None:
    """LoRA adds nothing to zeros, merged or not."""
    encoder, original = make_pair(16)
    for module in (encoder, original):
        torch.manual_seed(1)
        add_lora(module, rank=2, targets=("q", "k", "v"), blocks="all")
        for name, weight in module.named_parameters():
            if ".up." in name:
                nn.init.normal_(weight, std=0.2)
    inputs = torch.randn(1, 16, 16, TWO_BLOCKS.width)
    expected = original.blocks[0](inputs).detach()
    assert_alike(encoder.blocks[0](inputs).detach(), expected)
    encoder.blocks[0].attn.qkv.merge()
    assert_alike(encoder.blocks[0](inputs).detach(), expected)


def made(
    heads: int, queries: int, height: int, width: int, beyond: bool
) -> tuple[Tensor, Tensor, Tensor, Positions]:
    keys = height * width + beyond
    positions = Positions(
        torch.randn(heads, queries, height),
        torch.randn(heads, queries, width),
        torch.randn(heads, queries, 1) if beyond else None,
    )
    return (
        torch.randn(heads, queries, 5),
        torch.randn(heads, keys, 5),
        torch.randn(heads, keys, 5),
        positions,
    )


def test_training_may_follow_prediction() -> None:
    query, key, value, positions = made(2, 4, 2, 3, beyond=False)
    with torch.inference_mode():
        attend_with_codes(query, key, value, positions)
    attend_with_codes(query.requires_grad_(), key, value, positions).sum().backward()
    assert query.grad is not None


@pytest.mark.parametrize("form", [attend, attend_with_codes])
@pytest.mark.parametrize("beyond", [False, True])
def test_it_is_the_formula(form: Form, beyond: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(positional_attention, "_CHUNK", 50)
    query, key, value, positions = made(3, 4, 2, 3, beyond)
    found = form(query, key, value, positions)
    for head in range(3):
        for place in range(4):
            scores = [
                float(query[head, place] @ key[head, number]) / 5**0.5
                for number in range(len(key[head]))
            ]
            for row in range(2):
                for column in range(3):
                    scores[3 * row + column] += float(positions.rows[head, place, row])
                    scores[3 * row + column] += float(positions.columns[head, place, column])
            if positions.beyond is not None:
                scores[-1] += float(positions.beyond[head, place, 0])
            weights = torch.tensor(scores).softmax(0)
            assert torch.allclose(found[head, place], weights @ value[head], atol=1e-5)


@pytest.mark.parametrize(("chunk", "is_kept"), [(28**4, True), (28**4 - 1, False)])
def test_the_weights_of_large_images_are_not_kept(
    chunk: int, is_kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(positional_attention, "_CHUNK", chunk)
    encoder, _ = make_pair(28)
    kept: list[int] = []

    def count(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        encoder.blocks[1].attn(torch.randn(1, 28, 28, TWO_BLOCKS.width))
    assert (28**4 in kept) is is_kept
    assert max(kept) <= (28**4 if is_kept else 3 * 28**2 * TWO_BLOCKS.width)
