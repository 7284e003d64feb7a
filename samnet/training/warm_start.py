"""The weights a training starts with instead of the base's alone: another samnet model's (`--from`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError
from samnet.core.hashing import file_sha256
from samnet.core.records import from_json
from samnet.inference.load import load_trained
from samnet.inference.predictor import find_fold_folders
from samnet.models.base import BASE_FILE, base_sha256, load_base
from samnet.models.network import SegmentationNetwork
from samnet.models.transfer import Transfer, transfer_weights
from samnet.training.checkpoint import FINAL


@dataclass(frozen=True)
class Source:
    """The model a training starts from: the folder of one fold, and the sha256 of its final weights."""

    folder: str
    sha256: str


def choose_source(folder: Path | None, asked: dict[str, Any]) -> Source | None:
    """The model to start from.

    folder: what the user names, of a configuration with a single fold or of a fold. asked: the record of a run that is
    gone on with, which holds what it was begun with; or empty.

    Raises:
        UserError: there is no finished model, or several folds to choose from.
    """
    if folder is None:
        recorded = asked.get("start_from")
        return from_json(Source, recorded, "run.json: start_from") if recorded else None
    folds = find_fold_folders(folder, None, "final")
    if len(folds) > 1:
        raise UserError(
            f"--from {folder}: has {', '.join(fold.name for fold in folds)}; name the folder of one"
        )
    return Source(str(folds[0].absolute()), file_sha256(folds[0] / FINAL))


def start_from(network: SegmentationNetwork, source: Source, base_file: Path | None) -> Transfer:
    """Take over what fits of a model's weights.

    base_file: the weights the network has been built with.

    Raises:
        UserError: the model has changed since the run was begun, builds on other weights, or has nothing that fits.
    """
    file = Path(source.folder) / FINAL
    if not file.is_file() or file_sha256(file) != source.sha256:
        raise UserError(
            f"--from {source.folder}: has changed, or is gone, since this run was begun with it"
        )
    base_note = Path(source.folder) / BASE_FILE
    if base_file is not None and base_note.is_file():
        base = load_base(base_note)
        if base.sha256 != base_sha256(base_file):
            raise UserError(
                f"--from {source.folder}: is an adapter of {base}, but this training starts from {base_file}; name "
                "the other file with --set initial_weights=FILE"
            )
    transfer = transfer_weights(network, load_trained(file))
    if not transfer.loaded:
        raise UserError(
            f"--from {source.folder}: none of its weights fits this network\n{transfer.report()}"
        )
    return transfer
