from __future__ import annotations

import pytest
import torch
from builders.tiny_sam import randomise
from torch import Tensor, nn

from samnet.models.heads import HEADS
from samnet.models.heads.blocks import dense_positions
from samnet.models.heads.linear import LinearHead
from samnet.models.heads.mask_decoder import MaskDecoderHead
from samnet.models.heads.vit import VitHead
from samnet.models.network import count_parameters
from samnet.plan.configuration import CHOICES

GRID = 4


def inputs(batch: int, grid: int = GRID) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, 256, grid, grid), torch.randn(batch, 3, 16 * grid, 16 * grid)


def test_every_head_can_be_planned() -> None:
    assert set(CHOICES["head"]) == set(HEADS)


@pytest.mark.parametrize("name", HEADS)
def test_its_logits_have_the_resolution_it_says(name: str) -> None:
    for num_outputs, grid in ((1, 4), (2, 4), (6, 6)):
        head = HEADS[name](num_outputs, grid)
        edge = 16 * grid // head.stride
        assert head(*inputs(1, grid)).shape == (1, num_outputs, edge, edge)


@pytest.mark.parametrize("name", HEADS)
def test_everything_the_output_depends_on_is_trained_and_nothing_else(name: str) -> None:
    head = HEADS[name](3, GRID)
    weights = dict(head.named_parameters())
    trained = {key for key, weight in weights.items() if weight.requires_grad}
    head.requires_grad_(True)
    # What pushes every logit the same way would leave the last bias alone with a gradient; squares do not.
    gradients = torch.autograd.grad(
        head(*inputs(2)).square().mean(), list(weights.values()), allow_unused=True
    )
    reached = {
        key for key, gradient in zip(weights, gradients, strict=True) if gradient is not None
    }
    assert reached == trained
    silent = {
        key
        for key, gradient in zip(weights, gradients, strict=True)
        if gradient is not None and not any_of(gradient)
    }
    assert not {
        key for key in silent if not key.endswith("k_proj.bias")
    }  # a softmax cancels the bias of its keys


def any_of(gradient: Tensor) -> bool:
    return bool(gradient.abs().max() > 0)


@pytest.mark.parametrize("name", HEADS)
def test_an_image_does_not_depend_on_the_others_of_its_batch(name: str) -> None:
    head = randomise(HEADS[name](3, GRID)).train()
    for layer in head.modules():
        if isinstance(
            layer, nn.Conv2d
        ):  # as it starts, the image hardly shows behind AutoSAM's many layers
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    embedding, images = inputs(3)
    together = head(embedding, images)
    alone = torch.cat([head(embedding[i : i + 1], images[i : i + 1]) for i in range(3)])
    assert torch.allclose(together, alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[:1], together[1:2], atol=1e-3)


def test_the_mask_decoder_is_sams_image_by_image() -> None:
    head = randomise(MaskDecoderHead(5, 6))
    embedding, images = inputs(3, 6)
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
        assert torch.allclose(head(embedding, images), torch.cat(expected), atol=1e-5)


def copied_per_class(head: VitHead, embedding: Tensor) -> Tensor:
    """AutoSAM's decoder as its authors run it: a copy of the embedding for each class."""
    decoder, batch, classes = head.mask_decoder, len(embedding), head.num_outputs
    masks = decoder.mask_tokens.weight.view(classes, 2, 256)
    tokens = torch.cat([decoder.iou_token.weight[:, None], masks], dim=1).repeat(batch, 1, 1)
    source = embedding[:, None].expand(-1, classes, -1, -1, -1).flatten(0, 1)
    positions = dense_positions(head.prompt_encoder["pe_layer"], head.grid).expand(
        len(source), -1, -1, -1
    )
    tokens_out, source_out = decoder.transformer(source, positions, tokens)
    upscaled = decoder.output_upscaling(source_out.transpose(1, 2).view(source.shape))
    weights = decoder.output_hypernetworks_mlps[0](tokens_out[:, 1])
    return torch.einsum("nc,nchw->nhw", weights, upscaled).view(
        batch, classes, *upscaled.shape[-2:]
    )


@pytest.mark.parametrize(("batch", "classes"), [(2, 3), (3, 7), (17, 2)])
def test_the_vit_head_gives_autosams_numbers_without_its_copies(batch: int, classes: int) -> None:
    head = randomise(VitHead(classes, GRID))
    embedding, images = inputs(batch)
    trained = [weight for weight in head.parameters() if weight.requires_grad]
    results = []
    for logits in (head(embedding, images), copied_per_class(head, embedding)):
        weighted = (logits * torch.linspace(-1, 1, logits.numel()).view(logits.shape)).mean()
        results.append((logits, torch.autograd.grad(weighted, trained)))
    (logits, gradients), (expected, expected_gradients) = results
    assert torch.allclose(logits, expected, atol=1e-5)
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        assert torch.allclose(gradient, other, rtol=1e-3, atol=1e-6)


def test_the_vit_heads_classes_do_not_see_each_other() -> None:
    head = randomise(VitHead(4, GRID))
    before = head(*(pair := inputs(2)))
    with torch.no_grad():
        head.mask_decoder.iou_token.weight[2] += 1
        head.mask_decoder.mask_tokens.weight[5] += 1  # the second mask token of the same class
    changed = (head(*pair) - before).abs().amax(dim=(0, 2, 3)) > 1e-4
    assert changed.tolist() == [False, False, True, False]


def test_the_linear_heads_logits_may_be_negative() -> None:
    head = LinearHead(3, GRID)
    logits = head(*inputs(2))
    assert (logits < 0).any()
    assert (logits > 0).any()


@pytest.mark.parametrize("name", ["mask_decoder", "vit"])
def test_positions_keep_single_precision_under_autocast(name: str) -> None:
    head = HEADS[name](2, 8)
    layer = head.prompt_encoder["pe_layer"] if name == "vit" else head.prompt_encoder.pe_layer
    with torch.autocast("cpu", torch.bfloat16):
        positions = dense_positions(layer, 8)
        logits = head(*inputs(1, 8))
    assert torch.equal(positions, layer((8, 8))[None])
    assert positions.dtype == torch.float32
    assert logits.isfinite().all()


def parameters(*modules: nn.Module) -> int:
    return sum(count_parameters(module)[0] for module in modules)


def test_the_mask_decoder_has_the_weights_of_samed() -> None:
    head = MaskDecoderHead(9, 32)
    assert parameters(head.mask_decoder) == 4_759_945
    unused = parameters(head.mask_decoder.iou_prediction_head)
    assert count_parameters(head)[1] == 4_759_945 - unused + 256  # and the vector for "no mask"


def test_the_vit_head_has_the_weights_of_autosam() -> None:
    head = VitHead(4, 64)
    # AutoSAM trains all but what is named after IoU; its second hyper-network counts there, though nothing uses it.
    autosam = sum(weight.numel() for name, weight in head.named_parameters() if "iou" not in name)
    assert autosam == 3_646_880
    unused = parameters(head.mask_decoder.output_hypernetworks_mlps[1])
    assert (
        count_parameters(head)[1] == autosam - unused + head.mask_decoder.iou_token.weight.numel()
    )


@pytest.mark.parametrize(
    ("name", "expected"), [("cnn", 20_686_340), ("linear", 75_140), ("cnn_slim", 1_144_324)]
)
def test_the_other_heads_have_the_weights_of_autosam(name: str, expected: int) -> None:
    assert count_parameters(HEADS[name](4, 64)) == (expected, expected)
