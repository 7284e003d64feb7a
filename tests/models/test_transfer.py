"""Weights of one model as the start of another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from builders.tiny_sam import VALUES, train_a_little

from samnet.models.network import SegmentationNetwork, build_network
from samnet.models.transfer import Transfer, transfer_weights
from samnet.plan.configuration import Configuration

Build = Callable[..., SegmentationNetwork]


def with_outputs(num_outputs: int, **changes: object) -> SegmentationNetwork:
    return build_network(Configuration(**(VALUES | changes)), 1, num_outputs)


def trained(network: SegmentationNetwork) -> dict[str, torch.Tensor]:
    train_a_little(network)
    return {name: value.clone() for name, value in network.adapter().items()}


def test_transfer_between_equal_networks_copies_everything(build: Build, sam_file: Path) -> None:
    weights, network = trained(build()), build()
    transfer = transfer_weights(network, weights)
    assert transfer.loaded == sorted(weights)
    assert (transfer.left_out, transfer.untouched) == ({}, [])
    assert all(torch.equal(value, weights[name]) for name, value in network.adapter().items())
    assert transfer.report() == f"{len(weights)} weights taken over, 0 left out, 0 new"


def test_transfer_to_other_classes_copies_the_rest(sam_file: Path) -> None:
    weights, network = trained(with_outputs(3)), with_outputs(5)
    before = {name: value.clone() for name, value in network.adapter().items()}
    transfer = transfer_weights(network, weights)
    tokens = "head.mask_decoder.mask_tokens.weight"
    assert transfer.left_out[tokens] == "has shape (3, 256), here it is (5, 256)"
    assert tokens in transfer.untouched
    assert all(
        "mask_tokens" in name or "output_hypernetworks_mlps" in name for name in transfer.untouched
    )
    # The hyper-networks of the classes that the other model lacks are among them.
    assert any(".4." in name for name in transfer.untouched)
    after = network.adapter()
    assert all(torch.equal(after[name], weights[name]) for name in transfer.loaded)
    assert all(torch.equal(after[name], before[name]) for name in transfer.untouched)
    assert set(transfer.loaded) | set(transfer.untouched) == set(after)


def test_transfer_to_fewer_classes_leaves_out_the_others(sam_file: Path) -> None:
    transfer = transfer_weights(with_outputs(2), trained(with_outputs(3)))
    assert [
        name for name, why in transfer.left_out.items() if why == "this network has no such weight"
    ]
    assert "encoder.blocks.0.attn.qkv.down.0" in transfer.loaded


def test_transfer_to_another_head_copies_the_encoder(sam_file: Path) -> None:
    transfer = transfer_weights(with_outputs(3, head="cnn_slim"), trained(with_outputs(3)))
    assert transfer.loaded
    assert all(name.startswith("encoder.") for name in transfer.loaded)
    assert all(name.startswith("head.") for name in [*transfer.left_out, *transfer.untouched])


def test_transfer_to_another_rank_leaves_out_lora(sam_file: Path) -> None:
    transfer = transfer_weights(with_outputs(3, lora_rank=2), trained(with_outputs(3)))
    assert (
        transfer.left_out["encoder.blocks.0.attn.qkv.up.1"]
        == "has shape (48, 4), here it is (48, 2)"
    )


def test_transfer_leaves_frozen_weights_as_the_base(sam_file: Path) -> None:
    """Otherwise the adapter of the new network would be saved without what it builds on."""
    weights = trained(with_outputs(3, encoder_tuning="full"))
    network = with_outputs(3, encoder_tuning="frozen")
    before = {name: value.clone() for name, value in network.encoder.state_dict().items()}
    transfer = transfer_weights(network, weights)
    assert all(
        torch.equal(value, before[name]) for name, value in network.encoder.state_dict().items()
    )
    assert transfer.left_out["encoder.pos_embed"] == "is frozen here"


def test_transfer_resizes_position_tables(sam_file: Path) -> None:
    weights = trained(with_outputs(3, encoder_tuning="full"))
    network = with_outputs(3, encoder_tuning="full", input_size=448)
    transfer = transfer_weights(network, weights)
    assert transfer.left_out == {}
    table = network.encoder.get_parameter("pos_embed").detach()
    assert table.shape == (1, 28, 28, 48)
    assert float(table.mean()) == pytest.approx(
        float(weights["encoder.pos_embed"].mean()), abs=1e-3
    )
    with torch.no_grad():
        assert network(torch.rand(1, 3, 448, 448)).isfinite().all()


def test_a_long_report_of_a_transfer_is_cut() -> None:
    transfer = Transfer(
        ["a"],
        {f"old.{index}": "is frozen here" for index in range(10)},
        [f"new.{n}" for n in range(9)],
    )
    lines = transfer.report().splitlines()
    assert lines[0] == "1 weights taken over, 10 left out, 9 new"
    assert lines[1] == "  left out: old.0: is frozen here"
    assert lines[-1] == "  and 3 more"
    assert len(lines) == 1 + 8 + 8 + 1
