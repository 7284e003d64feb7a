"""The network of a trained model, from the folder of one of its folds."""

from __future__ import annotations

from pathlib import Path

import torch

from samnet.models.base import find_model_base
from samnet.models.lora import merge_lora
from samnet.models.network import SegmentationNetwork, build_network, load_weights
from samnet.plan.plan import Plan

FINAL_WEIGHTS = "checkpoint_final.safetensors"
_RUNNING = "network."  # before the names of weights in the checkpoint of a running training


def load_network(folder: Path, plan: Plan, checkpoint: str = "final") -> SegmentationNetwork:
    """A trained network in full: the base it was trained on, and its own weights. LoRA is not merged.

    folder: of a fold. plan: of a single configuration. checkpoint: `final`, `best` or `last`.

    Raises:
        UserError: the weights are missing or do not fit the plan, or the base here is not that of the training.
    """
    configuration = plan.configuration(next(iter(plan.configurations)))
    base_file = find_model_base(configuration, folder)
    network = build_network(
        configuration,
        len(plan.channel_names),
        plan.num_outputs,
        load_pretrained=False,
        base_file=base_file,
    )
    file = folder / f"checkpoint_{checkpoint}.safetensors"
    network.load_adapter(load_trained(file), str(file))
    return network


def prepare_network(network: SegmentationNetwork, device: torch.device) -> SegmentationNetwork:
    """The network, changed in place, as it predicts fastest: on its device, with LoRA merged.

    Channels come last in memory, the order that libraries of convolutions compute in.
    """
    merge_lora(network)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's own hints lack it
    return network.eval()


def load_trained(file: Path) -> dict:
    """The weights that a training changed, from any of its checkpoints, by their names in the network.

    Raises:
        UserError: the file is missing or damaged.
    """
    weights = load_weights(file)
    if file.name != "checkpoint_last.safetensors":
        return weights
    return {
        name.removeprefix(_RUNNING): value
        for name, value in weights.items()
        if name.startswith(_RUNNING)
    }
