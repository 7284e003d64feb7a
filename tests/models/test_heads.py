"""The heads: their shapes, what they train, and the numbers of SAM's, SAMed's and AutoSAM's."""

from __future__ import annotations

import itertools

import pytest
import torch
from builders.numerics import (
    assert_close_to_norm,
    assert_gradients_close,
    relative_error,
    to_double,
)
from builders.tiny_sam import randomise
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from samnet.models.heads import HEADS
from samnet.models.heads.blocks import dense_positions
from samnet.models.heads.linear import LinearHead
from samnet.models.heads.mask_decoder import FullMaskDecoderHead, MaskDecoderHead
from samnet.models.heads.vit import VitHead
from samnet.models.network import count_parameters
from samnet.plan.configuration import PLAN_KEYS

GRID = 4


def inputs(
    batch: int, grid: int = GRID, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """A random embedding and image."""
    embedding = torch.randn(batch, 256, grid, grid, dtype=dtype)
    return embedding, torch.randn(batch, 3, 16 * grid, 16 * grid, dtype=dtype)


def test_every_head_is_a_choice_of_the_plan() -> None:
    assert set(PLAN_KEYS["head"].choices()) == set(HEADS)


@pytest.mark.parametrize("name", HEADS)
def test_the_logits_of_a_head_have_its_resolution(name: str) -> None:
    for num_outputs, grid in ((1, 4), (2, 4), (6, 6)):
        head = HEADS[name](num_outputs, grid)
        edge = 16 * grid // head.stride
        assert head(*inputs(1, grid)).shape == (1, num_outputs, edge, edge)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_trains_all_that_its_output_depends_on_and_nothing_else(name: str) -> None:
    head = HEADS[name](3, GRID)
    weights = dict(head.named_parameters())
    trained = {key for key, weight in weights.items() if weight.requires_grad}
    head.requires_grad_(True)
    # A mean of logits would have a gradient for the last bias alone; a mean of squares has more.
    loss = head(*inputs(2)).square().mean()
    found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    gradients = {
        key: gradient for key, gradient in zip(weights, found, strict=True) if gradient is not None
    }
    assert set(gradients) == trained
    silent = {key for key, gradient in gradients.items() if not gradient.any()}
    # A softmax cancels the bias of its keys.
    assert not {key for key in silent if not key.endswith("k_proj.bias")}


@pytest.mark.parametrize("name", HEADS)
def test_the_logits_of_an_image_do_not_depend_on_the_rest_of_its_batch(name: str) -> None:
    head = to_double(randomise(HEADS[name](3, GRID))).train()
    for layer in head.modules():
        # With its initial weights AutoSAM's many layers would hardly show the image.
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    embedding, images = inputs(3, dtype=torch.float64)
    with torch.no_grad():
        together = head(embedding, images)
        alone = [head(embedding[i : i + 1], images[i : i + 1]) for i in range(3)]
    assert_close_to_norm(together, torch.cat(alone))
    assert relative_error(together[:1], together[1:2]) > 1e-3


@pytest.mark.parametrize("kind", [MaskDecoderHead, FullMaskDecoderHead])
def test_the_mask_decoder_head_matches_sam_image_by_image(kind: type[MaskDecoderHead]) -> None:
    head = to_double(randomise(kind(5, 6)))
    embedding, images = inputs(3, 6, torch.float64)
    with torch.inference_mode():
        expected = []
        for one in embedding:
            sparse, dense = head.prompt_encoder(points=None, boxes=None, masks=None)
            masks, _ = head.mask_decoder.predict_masks(
                image_embeddings=one[None],
                image_pe=head.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
            )
            expected.append(masks)
        assert_close_to_norm(head(embedding, images), torch.cat(expected))


def copied_per_class(head: VitHead, embedding: Tensor) -> Tensor:
    """AutoSAM's decoder as its authors run it: a copy of the embedding for each class."""
    decoder, batch, classes = head.mask_decoder, len(embedding), head.num_outputs
    masks = decoder.mask_tokens.weight.view(classes, 2, 256)
    tokens = torch.cat([decoder.iou_token.weight[:, None], masks], dim=1).repeat(batch, 1, 1)
    source = embedding[:, None].expand(-1, classes, -1, -1, -1).flatten(0, 1)
    positions = dense_positions(head.prompt_encoder["pe_layer"], head.grid)
    tokens_out, source_out = decoder.transformer(
        source, positions.expand(len(source), -1, -1, -1), tokens
    )
    upscaled = decoder.output_upscaling(source_out.transpose(1, 2).view(source.shape))
    weights = decoder.output_hypernetworks_mlps[0](tokens_out[:, 1])
    logits = torch.einsum("nc,nchw->nhw", weights, upscaled)
    return logits.view(batch, classes, *upscaled.shape[-2:])


@pytest.mark.parametrize(("batch", "classes"), [(2, 3), (3, 7), (17, 2)])
def test_the_vit_head_matches_autosam_without_its_copies(batch: int, classes: int) -> None:
    head = to_double(randomise(VitHead(classes, GRID)))
    embedding, images = inputs(batch, dtype=torch.float64)
    trained = [weight for weight in head.parameters() if weight.requires_grad]
    results = []
    for logits in (head(embedding, images), copied_per_class(head, embedding)):
        ramp = torch.linspace(-1, 1, logits.numel(), dtype=torch.float64).view(logits.shape)
        results.append((logits, torch.autograd.grad((logits * ramp).mean(), trained)))
    (logits, gradients), (expected, expected_gradients) = results
    assert_close_to_norm(logits, expected)
    assert_gradients_close(gradients, expected_gradients)


def test_the_vit_head_takes_less_than_half_of_the_operations_of_autosams() -> None:
    head, [embedding, images] = VitHead(4, 20), inputs(1, 20)
    counts = []
    for compute in (lambda: head(embedding, images), lambda: copied_per_class(head, embedding)):
        with FlopCounterMode(display=False) as counter:
            compute().sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] < counts[1] / 2


def test_the_vit_head_is_as_precise_in_bfloat16_as_autosams() -> None:
    head, (embedding, images) = VitHead(4, 16), inputs(2, 16)
    exact = head(embedding, images)
    with torch.autocast("cpu", torch.bfloat16):
        found, plain = head(embedding, images), copied_per_class(head, embedding)
    assert relative_error(found, exact) < 1.25 * relative_error(plain, exact)


def test_the_linear_head_matches_its_layers_one_by_one() -> None:
    head = to_double(randomise(LinearHead(3, 6)))
    embedding, images = inputs(2, 6, torch.float64)
    trained = list(head.parameters())
    results = []
    expected = head.classify(head.mask_decoder["output_upscaling"](embedding))
    for logits in (head(embedding, images), expected):
        ramp = torch.linspace(-1, 1, logits.numel(), dtype=torch.float64).view(logits.shape)
        results.append((logits, torch.autograd.grad((logits * ramp).mean(), trained)))
    (found, gradients), (expected, expected_gradients) = results
    assert_close_to_norm(found, expected)
    assert_gradients_close(gradients, expected_gradients)


def test_the_classes_of_the_vit_head_do_not_see_each_other() -> None:
    head, pair = to_double(randomise(VitHead(4, GRID))), inputs(2, dtype=torch.float64)
    with torch.no_grad():
        before = head(*pair)
        head.mask_decoder.iou_token.weight[2] += 1
        head.mask_decoder.mask_tokens.weight[5] += 1  # the second mask token of the same class
        after = head(*pair)
    errors = [relative_error(after[:, index], before[:, index]) for index in range(4)]
    assert errors[2] > 1e-3
    assert max(errors[:2] + errors[3:]) < 1e-10


def test_the_logits_of_the_linear_head_may_be_negative() -> None:
    head = LinearHead(3, GRID)
    logits = head(*inputs(2))
    assert (logits < 0).any()
    assert (logits > 0).any()


@pytest.mark.parametrize("name", ["mask_decoder", "vit"])
def test_positions_of_heads_keep_single_precision_under_autocast(name: str) -> None:
    head = HEADS[name](2, 8)
    layer = head.prompt_encoder["pe_layer"] if name == "vit" else head.prompt_encoder.pe_layer
    with torch.autocast("cpu", torch.bfloat16):
        positions = dense_positions(layer, 8)
        logits = head(*inputs(1, 8))
    assert positions.dtype == torch.float32
    assert_close_to_norm(positions, layer((8, 8))[None], 1e-6)
    assert logits.isfinite().all()


def parameters(*modules: nn.Module) -> int:
    return sum(count_parameters(module)[0] for module in modules)


def test_the_mask_decoder_head_has_the_weights_of_samed() -> None:
    head = MaskDecoderHead(9, 32)
    assert parameters(head.mask_decoder) == 4_759_945
    unused = parameters(head.mask_decoder.iou_prediction_head)
    assert count_parameters(head)[1] == 4_759_945 - unused + 256  # and the vector for "no mask"


def test_the_full_mask_decoder_head_has_the_widths_of_ma_sam() -> None:
    """64, 32, 16 and 8 channels, with a norm after each enlargement except the last."""
    decoder = FullMaskDecoderHead(13, 32).mask_decoder
    widths = (256, 64, 32, 16, 8)
    convolutions = sum(4 * a * b + b for a, b in itertools.pairwise(widths))
    assert parameters(decoder.output_upscaling) == convolutions + 2 * (64 + 32 + 16)
    assert list(decoder.output_upscaling.state_dict()) == [
        f"{number}.{kind}" for number in (0, 1, 3, 4, 6, 7, 9) for kind in ("weight", "bias")
    ]
    outputs = {tuple(mlp.layers[-1].weight.shape) for mlp in decoder.output_hypernetworks_mlps}
    assert outputs == {(8, 256)}


def test_the_vit_head_has_the_weights_of_autosam() -> None:
    head = VitHead(4, 64)
    # AutoSAM trains all weights except those named after IoU. Its second hyper-network counts
    # there, though nothing uses it.
    autosam = sum(weight.numel() for name, weight in head.named_parameters() if "iou" not in name)
    assert autosam == 3_646_880
    unused = parameters(head.mask_decoder.output_hypernetworks_mlps[1])
    iou_tokens = head.mask_decoder.iou_token.weight.numel()
    assert count_parameters(head)[1] == autosam - unused + iou_tokens


@pytest.mark.parametrize(
    ("name", "expected"), [("cnn", 20_686_340), ("linear", 75_140), ("cnn_slim", 1_144_324)]
)
def test_the_convolutional_heads_have_the_weights_of_autosam(name: str, expected: int) -> None:
    assert count_parameters(HEADS[name](4, 64)) == (expected, expected)
