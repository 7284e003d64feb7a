"""The network of a trained model, from the folder of one of its runs."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from samnet.confidence.calibration import Calibration
from samnet.core.errors import UserError
from samnet.fingerprint.training_data import TrainingData, merge_training_data
from samnet.models.base import find_model_base
from samnet.models.lora import merge_lora
from samnet.models.model_folder import FINAL, LAST, ModelFolder, RunFolder
from samnet.models.network import SegmentationNetwork, build_network, load_weights
from samnet.models.precision import cast_weights

log = logging.getLogger(__name__)

# Before the names of weights in the checkpoint of a running training: those of the last step, and
# the average over steps of those that are trained.
_TRAINING_PREFIX = "network."
_AVERAGE_PREFIX = "average."


def load_training_data(runs: Sequence[RunFolder]) -> TrainingData | None:
    """Read what the runs of a model were trained on.

    Args:
        runs: The folders of the runs, of one model.

    Returns:
        Ranges that hold the training data of all runs; None where a run does not tell, as those of
        older versions.

    Raises:
        UserError: A file is damaged, or does not fit its plan.
    """
    parts = []
    for run in runs:
        file = run.training_data_file
        if not file.is_file():
            return None
        part = TrainingData.load(file)
        expected = len(run.plan.channel_names)
        if len(part.channels) != expected:
            raise UserError(
                f"{file}: describes {len(part.channels)} channels, the plan has {expected}; delete "
                "the file to predict without it"
            )
        parts.append(part)
    return merge_training_data(parts)


def load_calibration(
    runs: Sequence[RunFolder], checkpoint: str = FINAL, *, mirror: bool
) -> Calibration | None:
    """Read what Dice the signals of a model let expect.

    Args:
        runs: The folders of the runs, of one model.
        checkpoint: The weights that are used. Only the final ones are calibrated.
        mirror: Whether predictions are averaged over mirrored inputs.

    Returns:
        The calibration of the model. None where there is none, or none that can be used; the log
        then says why.
    """
    file = ModelFolder(runs[0].path.parent).calibration_file
    if not file.is_file():
        return None
    try:
        calibration = Calibration.load(file, runs[0].plan.label_scheme.class_names)
    except UserError as error:
        log.warning("%s: so predictions have no expected Dice", error)
        return None
    reason = ""
    if checkpoint != FINAL:
        reason = f"was fitted to the final weights, not to those of {checkpoint}"
    elif calibration.mirror != (mirror and bool(runs[0].configuration.mirror_axes)):
        given = "with" if calibration.mirror else "without"
        reason = f"was fitted to predictions {given} mirrored inputs"
    if reason:
        log.warning("%s: %s, so predictions have no expected Dice", file, reason)
        return None
    return calibration


def load_network(run: RunFolder, checkpoint: str = FINAL) -> SegmentationNetwork:
    """Load a trained network: the base it was trained on, and its own weights.

    Args:
        run: The folder of a run.
        checkpoint: `final`, `best` or `last`.

    Returns:
        The network, in which LoRA is not merged.

    Raises:
        UserError: The weights are missing or do not fit the plan, or the base here is not that of
            the training.
    """
    plan, configuration = run.plan, run.configuration
    network = build_network(
        configuration,
        len(plan.channel_names),
        plan.label_scheme.num_outputs,
        load_pretrained=False,
        base_file=find_model_base(configuration, run),
    )
    network.load_adapter(load_trained(run, checkpoint), str(run.checkpoint(checkpoint)))
    return network


def prepare_network(
    network: SegmentationNetwork, device: torch.device, precision: str
) -> SegmentationNetwork:
    """Change a network into the form in which it predicts fastest.

    LoRA is merged, in single precision. Channels come last in memory, the order that libraries of
    convolutions compute in. On a CPU that computes in bfloat16, the weights of layers are cast.

    Args:
        network: The network, which is changed in place.
        device: Where to put it.
        precision: The plan's `precision`.

    Returns:
        The same network, in evaluation mode.
    """
    merge_lora(network)
    cast_weights(network, precision, device)
    # torch's type hints lack this form of `to`.
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval()


def load_trained(run: RunFolder, checkpoint: str = FINAL) -> dict[str, Tensor]:
    """Read the weights that a training run changed: averaged over steps, where the run did that.

    Args:
        run: The folder of the run.
        checkpoint: `final`, `best` or `last`.

    Returns:
        The weights by their names in the network.

    Raises:
        UserError: The file is missing or damaged.
    """
    weights = load_weights(run.checkpoint(checkpoint))
    if checkpoint != LAST:
        return weights
    found = {}
    for prefix in (_TRAINING_PREFIX, _AVERAGE_PREFIX):  # the average replaces those of a step
        for name, value in weights.items():
            if name.startswith(prefix):
                found[name.removeprefix(prefix)] = value
    return found
