"""The attention gives the numbers of segment_anything, with all gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from builders.numerics import assert_close_to_norm, relative_error, to_double
from builders.tiny_sam import randomise, sam_encoder
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from samnet.models import chunked_attention
from samnet.models.attention import fills_windows
from samnet.models.attention_form import as_if_on, attention_form
from samnet.models.encoder import build_encoder
from samnet.models.lora import add_lora
from samnet.models.positional_attention import attend, attend_with_codes, attend_with_matrix
from samnet.models.positions import Positions
from samnet.plan.backbones import Backbone

Form = Callable[[Tensor, Tensor, Tensor, Positions], Tensor]
FORMS = (attend, attend_with_codes, attend_with_matrix)
TWO_BLOCKS = Backbone("two", 48, 2, 3, (1,), None)


def make_pair(tokens: int) -> tuple[nn.Module, nn.Module]:
    """An encoder of a windowed and a global block, samnet's and SAM's, with equal weights."""
    original = randomise(sam_encoder(TWO_BLOCKS, 16 * tokens))
    encoder = build_encoder(TWO_BLOCKS, 16 * tokens)
    encoder.load_state_dict(original.state_dict())
    return to_double(encoder), to_double(original)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


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


def check_block(tokens: int, number: int, count: int) -> None:
    encoder, original = make_pair(tokens)
    inputs = draw(count, tokens, tokens, TWO_BLOCKS.width)
    weights = torch.randn_like(inputs)
    found = run(encoder.blocks[number], inputs, weights)
    expected = run(original.blocks[number], inputs, weights)
    for mine, sams in zip(found, expected, strict=True):
        assert_close_to_norm(mine, sams)


# Windows of 14 tokens: one cut window; whole ones alone; a narrow edge; a wide one next to several.
@pytest.mark.parametrize("tokens", [3, 14, 28, 16, 32])
@pytest.mark.parametrize("number", [0, 1], ids=["windows", "global"])
@pytest.mark.parametrize("count", [1, 2])
def test_an_attention_block_matches_sam_with_all_gradients(
    tokens: int, number: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several chunks, the last one smaller. The weights of windows are kept, those of the largest
    # image are not.
    monkeypatch.setattr(chunked_attention, "CHUNK_VALUES", 200_000)
    check_block(tokens, number, count)


@pytest.mark.parametrize("form", [attend_with_codes, attend_with_matrix])
@pytest.mark.parametrize("tokens", [14, 32])
def test_the_attention_of_gpus_matches_sam_with_all_gradients(
    tokens: int, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samnet.models.attention.attend", form)
    check_block(tokens, 0, 2)
    check_block(tokens, 1, 1)


# Windows: whole ones alone; filled up; cut, as filling them up would add more than there is.
@pytest.mark.parametrize("tokens", [14, 20, 16, 32])
@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_the_choices_of_gpus_match_sam_with_all_gradients(tokens: int, device: str) -> None:
    with as_if_on(device):
        check_block(tokens, 0, 2)
        check_block(tokens, 1, 1)


@pytest.mark.parametrize(
    ("device", "shape", "expected"),
    [
        ("cuda", (28, 28), False),  # no window is cut
        ("cuda", (32, 32), True),
        ("cuda", (64, 64), True),
        ("cuda", (28, 30), True),
        ("cuda", (20, 20), True),
        ("cuda", (16, 16), False),  # would be three times the tokens
        ("cuda", (3, 3), False),
        ("cpu", (32, 32), False),
        ("mps", (32, 32), False),
    ],
)
def test_windows_are_filled_up_on_cuda_devices_where_that_adds_few_tokens(
    device: str, shape: tuple[int, int], expected: bool
) -> None:
    assert fills_windows(device, shape, 14) is expected
    assert not fills_windows(device, shape, None)


@pytest.mark.parametrize(
    ("device", "num_keys", "expected"),
    [
        ("cpu", 196, "chunks"),
        ("cpu", 4096, "chunks"),
        ("cuda", 196, "matrix"),
        ("cuda", 784, "codes"),
        ("cuda", 4096, "codes"),
        ("mps", 196, "codes"),
    ],
)
def test_form_of_attention_is_chosen_by_device_and_size(
    device: str, num_keys: int, expected: str
) -> None:
    assert attention_form(device, num_keys) == expected


def test_matrix_of_positions_has_rows_that_kernels_take_without_a_copy() -> None:
    positions = Positions(draw(2, 9, 3), draw(2, 9, 3))
    aligned = positions.bias(8)
    assert torch.equal(aligned, positions.bias())
    assert aligned.stride() == (9 * 16, 16, 1)


def test_attention_takes_images_that_are_not_square() -> None:
    encoder, original = make_pair(20)
    inputs = draw(1, 9, 17, TWO_BLOCKS.width)
    assert_close_to_norm(encoder.blocks[0](inputs), original.blocks[0](inputs))


def test_large_positions_of_padded_tokens_do_not_overflow() -> None:
    """Their sum of exponentials is too large for a float; its logarithm is not."""
    encoder, original = make_pair(16)
    for module in (encoder, original):
        for name, weight in module.named_parameters():
            if "rel_pos" in name:
                weight.data *= 500
    inputs = draw(1, 16, 16, TWO_BLOCKS.width)
    found, expected = encoder.blocks[0](inputs), original.blocks[0](inputs)
    assert found.isfinite().all()
    assert_close_to_norm(found, expected)


@pytest.mark.parametrize("form", FORMS)
def test_attention_works_in_half_precision(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samnet.models.attention.attend", form)
    encoder, original = (module.float() for module in make_pair(16))
    inputs = torch.randn(1, 16, 16, TWO_BLOCKS.width, requires_grad=True)
    for number in range(2):
        # Torch's fused kernel of CPUs fails where ATEN_CPU_CAPABILITY allows fewer instructions
        # than the CPU has.
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            found = encoder.blocks[number](inputs)
        # bfloat16 rounds to 1 / 256, and the inputs are added to the results unrounded.
        assert relative_error(found, original.blocks[number](inputs)) < 0.005
        found.float().sum().backward()
    assert inputs.grad is not None
    assert inputs.grad.isfinite().all()


def draw_in_bfloat16(beyond: bool, needs_graph: bool) -> list[Tensor]:
    """Query, key, value and position terms of 6 heads of windows of 4 x 5 tokens.

    As in the encoder, the term of the key beyond is in single precision.
    """
    torch.manual_seed(0)
    query, key, value, positions = draw_arguments(6, 20, 4, 5, beyond)
    drawn = [query, key, value, positions.rows, positions.columns]
    drawn = [tensor.bfloat16() for tensor in drawn]
    if positions.beyond is not None:
        drawn.append(positions.beyond.float())
    return [tensor.requires_grad_(needs_graph) for tensor in drawn]


@pytest.mark.parametrize("beyond", [False, True])
def test_attention_in_bfloat16_is_trained_on_a_cpu_with_gradients_close_to_double_precision(
    beyond: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked_attention, "CHUNK_VALUES", 1000)  # several chunks
    drawn = draw_in_bfloat16(beyond, needs_graph=True)
    exact = [tensor.detach().double().requires_grad_() for tensor in drawn]
    found = attend(*drawn[:3], Positions(*drawn[3:]))
    expected = attend(*exact[:3], Positions(*exact[3:]))
    assert relative_error(found, expected) < 0.02
    weights = torch.randn_like(found)
    found.backward(weights)
    expected.backward(weights.double())
    for mine, other in zip(drawn, exact, strict=True):
        assert mine.grad is not None
        assert other.grad is not None
        assert relative_error(mine.grad, other.grad) < 0.02


@pytest.mark.usefixtures("cpu_bfloat16")
@pytest.mark.parametrize("beyond", [False, True])
def test_prediction_in_bfloat16_rounds_no_sum_of_positions(beyond: bool) -> None:
    """They are additional channels, whose products are added in single precision."""
    drawn = draw_in_bfloat16(beyond, needs_graph=False)
    exact = [tensor.double() for tensor in drawn]
    expected = attend(*exact[:3], Positions(*exact[3:]))
    predicted = attend(*drawn[:3], Positions(*drawn[3:]))
    assert torch.equal(predicted, attend_with_codes(*drawn[:3], Positions(*drawn[3:])))
    trained = attend(drawn[0].clone().requires_grad_(), *drawn[1:3], Positions(*drawn[3:]))
    assert relative_error(predicted, expected) < relative_error(trained, expected)


@pytest.mark.parametrize("beyond", [False, True])
def test_positions_in_bfloat16_are_added_and_divided_as_in_double_precision(beyond: bool) -> None:
    terms = draw_in_bfloat16(beyond, needs_graph=False)[3:]
    half, exact = Positions(*terms), Positions(*(term.double() for term in terms))
    bias = half.bias()
    # The sums of two terms are rounded once.
    assert torch.equal(bias, exact.bias().bfloat16())
    for mine, other in zip(half.gradients(bias), exact.gradients(bias.double()), strict=True):
        assert mine.dtype == torch.bfloat16
        assert relative_error(mine, other) < 0.005


def test_attention_pads_layers_with_lora_with_their_bias_alone() -> None:
    """LoRA adds nothing to zeros, merged or not."""
    encoder, original = make_pair(16)
    for module in (encoder, original):
        torch.manual_seed(1)
        add_lora(module, rank=2, targets=("q", "k", "v"), blocks="all")
        for name, weight in module.named_parameters():
            if ".up." in name:
                nn.init.normal_(weight, std=0.2)
    inputs = draw(1, 16, 16, TWO_BLOCKS.width)
    expected = original.blocks[0](inputs)
    assert_close_to_norm(encoder.blocks[0](inputs), expected)
    encoder.blocks[0].attn.qkv.merge()
    assert_close_to_norm(encoder.blocks[0](inputs), expected)


def draw_arguments(
    heads: int, queries: int, height: int, width: int, beyond: bool
) -> tuple[Tensor, Tensor, Tensor, Positions]:
    """Random arguments of `attend`, with a key beyond or without."""
    num_keys = height * width + beyond
    rows, columns = draw(heads, queries, height), draw(heads, queries, width)
    positions = Positions(rows, columns, draw(heads, queries, 1) if beyond else None)
    return draw(heads, queries, 5), draw(heads, num_keys, 5), draw(heads, num_keys, 5), positions


def test_attention_can_be_trained_after_it_was_used_for_prediction() -> None:
    query, key, value, positions = draw_arguments(2, 4, 2, 3, beyond=False)
    with torch.inference_mode():
        attend_with_codes(query, key, value, positions)
    attend_with_codes(query.requires_grad_(), key, value, positions).sum().backward()
    assert query.grad is not None


def attend_by_formula(
    query: Tensor, key: Tensor, value: Tensor, positions: Positions, head: int, place: int
) -> Tensor:
    """The result of one query, score by score."""
    scale = query.shape[-1] ** -0.5
    scores = [float(query[head, place] @ one) * scale for one in key[head]]
    height, width = positions.rows.shape[-1], positions.columns.shape[-1]
    for row in range(height):
        for column in range(width):
            scores[width * row + column] += float(positions.rows[head, place, row])
            scores[width * row + column] += float(positions.columns[head, place, column])
    if positions.beyond is not None:
        scores[-1] += float(positions.beyond[head, place, 0])
    return torch.tensor(scores, dtype=torch.float64).softmax(0) @ value[head]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("beyond", [False, True])
def test_attention_follows_its_formula(
    form: Form, beyond: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked_attention, "CHUNK_VALUES", 50)
    query, key, value, positions = draw_arguments(3, 4, 2, 3, beyond)
    found = form(query, key, value, positions)
    for head in range(3):
        for place in range(4):
            expected = attend_by_formula(query, key, value, positions, head, place)
            assert_close_to_norm(found[head, place], expected)


@pytest.mark.parametrize(("chunk", "is_kept"), [(28**4, True), (28**4 - 1, False)])
def test_attention_keeps_no_weights_of_large_images(
    chunk: int, is_kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked_attention, "CHUNK_VALUES", chunk)
    encoder, _ = make_pair(28)
    kept: list[int] = []

    def count(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        encoder.blocks[1].attn(draw(1, 28, 28, TWO_BLOCKS.width))
    assert (28**4 in kept) is is_kept
    assert max(kept) <= (28**4 if is_kept else 3 * 28**2 * TWO_BLOCKS.width)
