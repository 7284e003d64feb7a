"""Starting a training run with another samnet model's weights (`--from`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from samnet.core.errors import UserError
from samnet.core.hashing import file_sha256
from samnet.inference.load import load_trained
from samnet.models.base import base_sha256, load_base
from samnet.models.model_folder import FINAL, ModelFolder, RunFolder
from samnet.models.network import SegmentationNetwork
from samnet.models.transfer import Transfer, transfer_weights


@dataclass(frozen=True)
class Source:
    """The model that a training run starts from.

    Attributes:
        folder: The folder of one of its runs.
        sha256: The sha256 of its final weights.
    """

    folder: str
    sha256: str


def choose_source(folder: Path) -> Source:
    """Choose the model to start from.

    Args:
        folder: What the user names: the folder of a configuration with a single fold, or of a fold.

    Returns:
        The model.

    Raises:
        UserError: There is no finished model, or several folds to choose from.
    """
    runs = ModelFolder(folder).select_runs()
    if len(runs) > 1:
        names = ", ".join(run.name for run in runs)
        raise UserError(f"--from {folder}: has {names}; name the folder of one")
    [run] = runs
    return Source(str(run.path.absolute()), file_sha256(run.checkpoint(FINAL)))


def warm_start(network: SegmentationNetwork, source: Source, base_file: Path | None) -> Transfer:
    """Take the weights of another model, as far as they fit.

    Args:
        network: The network, which is changed in place.
        source: The model.
        base_file: The weights the network has been built with.

    Returns:
        What was copied and what was not.

    Raises:
        UserError: The model has changed since the run began, builds on other weights, or has
            nothing that fits.
    """
    run = RunFolder(Path(source.folder))
    weights = run.checkpoint(FINAL)
    if not weights.is_file() or file_sha256(weights) != source.sha256:
        raise UserError(
            f"--from {source.folder}: has changed, or is gone, since this run began with it"
        )
    if base_file is not None and run.base_file.is_file():
        base = load_base(run.base_file)
        if base.sha256 != base_sha256(base_file):
            raise UserError(
                f"--from {source.folder}: is an adapter of {base}, but this run starts from "
                f"{base_file}; name the other file with --set initial_weights=FILE"
            )
    transfer = transfer_weights(network, load_trained(run))
    if not transfer.loaded:
        report = transfer.report()
        raise UserError(f"--from {source.folder}: none of its weights fits this network\n{report}")
    return transfer
