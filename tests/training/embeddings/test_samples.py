from __future__ import annotations

import gc
from pathlib import Path
from types import FunctionType, ModuleType

import numpy as np
import pytest
import torch
from builders.embeddings import (
    CPU,
    count_encoded,
    fill,
    make_network,
    make_samples,
    make_specification,
)
from builders.numerics import SINGLE, assert_close_to_norm
from builders.tiny import make_case
from torch.utils.data import DataLoader

from samnet.dataset.label_scheme import LabelScheme
from samnet.preprocessing.storage import StoredCase
from samnet.training.embeddings.samples import collate, predict_logits
from samnet.training.loss import segmentation_loss
from samnet.training.sampling import SliceSamples


@pytest.mark.parametrize(
    ("head", "layout", "zoom"),
    [
        ("mask_decoder", "repeat", 2.5),
        ("cnn_slim", "neighbours", 1.0),
        ("upsampling", "neighbours", 2.5),
    ],
)
def test_loss_from_embeddings_is_that_of_the_whole_network(
    tmp_path: Path, cases: list[StoredCase], head: str, layout: str, zoom: float
) -> None:
    changes = {"head": head, "channel_layout": layout, "zoom": zoom, "views": (0,)}
    network = make_network(**changes)
    blocks = fill(tmp_path, cases, network, **changes)
    # With images in addition to the embeddings, logits can be computed from either.
    samples = make_samples(cases, blocks, uses_image=True, stride=network.stride, **changes)
    inputs, target = collate([samples[number] for number in range(12)])
    assert inputs.is_embedded.all()
    assert inputs.images is not None
    assert network.head.uses_image == (head == "upsampling")
    given = inputs if network.head.uses_image else inputs._replace(images=None)
    logits = [predict_logits(network, given, CPU), network(inputs.images)]
    assert not torch.equal(*logits)  # half precision: they did come from the cache
    cached, whole = (
        segmentation_loss(values, target, cross_entropy_weight=0.2, dice_weight=0.8)
        for values in logits
    )
    assert cached.item() == pytest.approx(whole.item(), rel=2e-3)
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    gradients = []
    for loss in (cached, whole):
        parts = torch.autograd.grad(loss, trained, allow_unused=True)
        gradients.append(torch.cat([part.flatten() for part in parts if part is not None]))
    assert_close_to_norm(*gradients, tolerance=0.02)


def test_slices_that_are_not_kept_are_encoded_when_they_are_drawn(
    tmp_path: Path, cases: list[StoredCase]
) -> None:
    network = make_network()
    blocks = fill(tmp_path, cases, network)[:3]
    samples = make_samples(cases, blocks)
    batch = [samples[number] for number in range(12)]
    inputs, _ = collate(batch)
    assert 0 < inputs.is_embedded.sum() < 12
    encoded = count_encoded(network)
    with torch.no_grad():
        logits = predict_logits(network, inputs, CPU)
        assert encoded == [12 - int(inputs.is_embedded.sum())]
        for number, (embedding, image, _) in enumerate(batch):
            if embedding is None:
                alone = network(image[None])
            else:
                alone = network.decode(embedding[None].float())
            assert_close_to_norm(logits[number], alone[0], SINGLE)


def test_samples_without_embeddings_are_those_of_images(cases: list[StoredCase]) -> None:
    nothing, plain = make_samples(cases, []), SliceSamples(cases, make_specification())
    for number in range(4):
        embedding, image, target = nothing[number]
        expected_image, expected_target = plain[number]
        assert embedding is None
        assert torch.equal(image, expected_image)
        assert torch.equal(target, expected_target)


def test_samples_show_every_variant_and_the_class_they_are_drawn_for(
    tmp_path: Path, cases: list[StoredCase]
) -> None:
    changes = {"zoom": 4.0, "views": (0,), "foreground_share": 1.0}
    blocks = fill(tmp_path, cases, num_variants=3, **changes)
    samples = make_samples(cases, blocks, **changes)
    assert len(samples.embedded) == 12 * samples.variants.num_tiles(0, 0) * 3
    shown = [set(samples[number][2].unique().tolist()) - {0} for number in range(200)]
    assert all(shown)
    # Class 2 is drawn as often as class 1, though few of the variants show it.
    assert sum(2 in classes for classes in shown) == pytest.approx(100, abs=30)


def count_objects(root: object) -> int:
    """Count the Python objects that a worker process would copy by looking at them."""
    seen: dict[int, object] = {}
    left = [root]
    while left:
        found = left.pop()
        if id(found) not in seen and not isinstance(found, (type, ModuleType, FunctionType)):
            seen[id(found)] = found
            left += gc.get_referents(found)
    return len(seen)


def test_samples_hold_no_object_for_each_embedding(tmp_path: Path) -> None:
    """Objects that forked processes share are copied into each as soon as it looks at them."""
    image = np.full((1, 60, 8, 8), 100, np.uint8)
    case = make_case(tmp_path / "slices", image, image[0] // 100, name="case")
    changes = {"views": (0,)}
    counts = {}
    for num_variants in (1, 4):
        blocks = fill(tmp_path, [case], num_variants=num_variants, **changes)
        counts[len(blocks)] = count_objects(make_samples([case], blocks, **changes))
    assert list(counts) == [1, 4]
    assert counts[4] - counts[1] < 60  # 180 embeddings more


def test_samples_of_worker_processes_are_the_same(tmp_path: Path, cases: list[StoredCase]) -> None:
    samples = make_samples(cases, fill(tmp_path, cases)[:4])
    samples[0]
    batches = []
    for workers in (0, 1):
        loader = DataLoader(samples, 2, sampler=range(8), num_workers=workers, collate_fn=collate)
        batches.append([(inputs.embeddings, inputs.images, target) for inputs, target in loader])
    for one, other in zip(*batches, strict=True):
        for left, right in zip(one, other, strict=True):
            assert (left is None and right is None) or torch.equal(left, right)


def test_regions_share_embeddings_with_plain_classes(
    tmp_path: Path, cases: list[StoredCase]
) -> None:
    """What a variant shows does not depend on regions; only the target does."""
    regions = LabelScheme({"background": 0, "whole": (1, 2), "core": 2}, regions_class_order=(1, 2))
    blocks = fill(tmp_path, cases, make_network())
    plain, nested = make_samples(cases, blocks), make_samples(cases, blocks, label_scheme=regions)
    samples = [(plain[number], nested[number]) for number in range(8)]
    for (embedding, _, classes), (same, _, masks) in samples:
        assert torch.equal(embedding, same)
        assert torch.equal(masks, torch.stack([classes > 0, classes == 2]).int())
    _, target = collate([sample for _, sample in samples])
    assert target.shape == (8, 2, 8, 8)
    assert target[:, 1].any()
