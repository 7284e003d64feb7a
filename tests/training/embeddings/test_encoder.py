from __future__ import annotations

import numpy as np
import pytest
import torch
from builders.embeddings import CPU, count_encoded, make_network, make_variants
from builders.numerics import assert_close_to_norm

from samnet.core.errors import SamnetError
from samnet.preprocessing.storage import StoredCase
from samnet.training.embeddings.choice import Block
from samnet.training.embeddings.encoder import SliceEncoder

BLOCKS = [
    Block("case_0", 0, 0, True, (1, 2, 3, 4)),
    Block("case_1", 2, 1, False, (0, 1, 19)),
]


def test_encoder_yields_every_slice_of_its_blocks_in_their_order(cases: list[StoredCase]) -> None:
    network, variants = make_network(), make_variants(cases)
    found = list(SliceEncoder(network, CPU).encode(variants, BLOCKS))
    expected = []
    for case_index, block in enumerate(BLOCKS):
        for index in block.slices:
            variant = variants.draw(case_index, block.axis, index, block.number)
            expected.append((case_index, variant))
    assert [variant for variant, _ in found] == [variant for _, variant in expected]
    for (_, row), (case_index, variant) in zip(found, expected, strict=True):
        image = variants.image(case_index, BLOCKS[case_index].axis, variant)
        with torch.no_grad():
            embedding = network.embed(image[None])[0]
        assert row.dtype == np.float16
        assert_close_to_norm(row, embedding, 1e-3)  # half precision rounds by up to 5e-4


def test_batches_of_the_encoder_end_with_their_block(cases: list[StoredCase]) -> None:
    """What is encoded does not depend on what else is left to encode."""
    network = make_network()
    counts = count_encoded(network)
    list(SliceEncoder(network, CPU).encode(make_variants(cases), BLOCKS))
    assert counts == [4, 3]


def test_worker_processes_of_the_encoder_change_nothing(cases: list[StoredCase]) -> None:
    network, variants = make_network(), make_variants(cases)
    here = list(SliceEncoder(network, CPU).encode(variants, BLOCKS))
    in_worker = list(SliceEncoder(network, CPU, workers=1).encode(variants, BLOCKS))
    assert [variant for variant, _ in here] == [variant for variant, _ in in_worker]
    for (_, row), (_, other) in zip(here, in_worker, strict=True):
        assert np.array_equal(row, other)


def test_embedding_beyond_half_precision_is_an_error(cases: list[StoredCase]) -> None:
    network = make_network()
    network.encoder.register_forward_hook(lambda encoder, inputs, embedding: embedding * 1e9)
    with pytest.raises(SamnetError, match="exceeds half precision; train with --no-cache"):
        list(SliceEncoder(network, CPU).encode(make_variants(cases), BLOCKS))


def test_encoder_falls_back_on_smaller_batches(
    cases: list[StoredCase], caplog: pytest.LogCaptureFixture
) -> None:
    variants = make_variants(cases)
    expected = list(SliceEncoder(make_network(), CPU).encode(variants, BLOCKS))
    poor = make_network()

    def refuse(encoder: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if len(inputs[0]) > most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    poor.encoder.register_forward_pre_hook(refuse)
    most = 2
    found = list(SliceEncoder(poor, CPU).encode(variants, BLOCKS))
    assert "encoding at most 2 images at a time" in caplog.text
    assert [variant for variant, _ in found] == [variant for variant, _ in expected]
    for (_, row), (_, other) in zip(found, expected, strict=True):
        assert_close_to_norm(row, other, 1e-3)
    most = 0
    with pytest.raises(SamnetError, match=r"single image does not fit into the memory.*small"):
        list(SliceEncoder(poor, CPU).encode(variants, BLOCKS))
