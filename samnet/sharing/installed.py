"""The models and base weights that are on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError
from samnet.core.tables import align_columns
from samnet.models.base import Base, advice, load_base, locate, needs_base
from samnet.models.model_folder import FINAL, ModelFolder, RunFolder, list_models
from samnet.models.registry import CHECKPOINTS, PACKAGED, checkpoints_folder, how_to_get
from samnet.sharing.model_scores import read_scores

_WEIGHTS_ENDINGS = (".pth", ".pt", ".safetensors")
_READY, _MISSING, _UNNEEDED, _UNKNOWN = "here", "missing", "not needed", "unknown"


@dataclass(frozen=True)
class InstalledModel:
    """A model below the results folder.

    Attributes:
        dataset: `DatasetXXX_Name`.
        configuration: The name of its folder.
        folder: Its folder.
        folds: The finished folds, such as `0` or `all`.
        unfinished_folds: The others.
        dice: Mean Dice of its held-out cases; None where none are scored.
        num_cases: Number of held-out cases that are scored; None likewise.
        date: When its newest weights were written, as `YYYY-MM-DD`; None without a finished fold.
        size: Bytes of its finished weights, without the base.
        base: The file of base weights that it needs; None for none, or where it is not recorded.
        base_state: `here`, `missing`, `not needed` or `unknown`.
        how_to_get_base: What to do where it is missing; else empty.
        fault: What is wrong with its plan; else empty.
    """

    dataset: str
    configuration: str
    folder: str
    folds: tuple[str, ...]
    unfinished_folds: tuple[str, ...]
    dice: float | None
    num_cases: int | None
    date: str | None
    size: int
    base: str | None
    base_state: str
    how_to_get_base: str = ""
    fault: str = ""


@dataclass(frozen=True)
class BaseWeights:
    """A file of base weights, or one that could be downloaded.

    Attributes:
        name: The name of the backbone; None for a file that is none of the released ones.
        file: Its path, also where it is not there.
        is_here: Whether it is there.
        size: Its size in bytes; None where it is not there and not known.
        how_to_get: What to do where it is missing; else empty.
    """

    name: str | None
    file: str
    is_here: bool
    size: int | None
    how_to_get: str = ""


def find_installed() -> list[InstalledModel]:
    """Read what there is below the results folder.

    Returns:
        The models, in the order of their paths.
    """
    return [_describe(model) for model in list_models()]


def find_base_weights() -> list[BaseWeights]:
    """List the base weights that samnet knows, and the other files in the checkpoints folder.

    Returns:
        Those that come with samnet, those that can be downloaded, then the others.
    """
    found = []
    for name, packaged in PACKAGED.items():
        found.append(_weights(name, [packaged.path], None))
    folder = checkpoints_folder()
    for name, checkpoint in CHECKPOINTS.items():
        file = folder / checkpoint.file_name
        converted = file.with_suffix(".safetensors")
        found.append(_weights(name, [file, converted], checkpoint.size))
    known = {weights.file for weights in found}
    others = sorted(folder.iterdir()) if folder.is_dir() else []
    for file in others:
        if file.suffix in _WEIGHTS_ENDINGS and file.is_file() and str(file) not in known:
            found.append(BaseWeights(None, str(file), True, file.stat().st_size))
    return found


def format_models(models: Sequence[InstalledModel]) -> str:
    """Return a table for the terminal, and a line for each thing to do.

    Args:
        models: The models.
    """
    rows = [("model", "folds", "Dice", "cases", "date", "MiB", "base weights")]
    for model in models:
        folds = ", ".join(model.folds) or "none"
        if model.unfinished_folds:
            folds += f" ({', '.join(model.unfinished_folds)} unfinished)"
        base = f"{model.base} {model.base_state}" if model.base else model.base_state
        rows.append(
            (
                f"{model.dataset}/{model.configuration}",
                folds,
                "-" if model.dice is None else f"{model.dice:.4f}",
                "-" if model.num_cases is None else str(model.num_cases),
                model.date or "-",
                f"{model.size / 2**20:.1f}",
                "damaged" if model.fault else base,
            )
        )
    lines = [align_columns(rows)]
    lines += [model.fault for model in models if model.fault]
    lines += dict.fromkeys(model.how_to_get_base for model in models if model.how_to_get_base)
    return "\n".join(lines)


def format_base_weights(weights: Sequence[BaseWeights]) -> str:
    """Return a table for the terminal.

    Args:
        weights: The files.
    """
    rows = [("base weights", "MiB", "file")]
    for entry in weights:
        size = "-" if entry.size is None else f"{entry.size / 2**20:,.0f}"
        command = f"samnet_download_checkpoint {entry.name}"
        rows.append((entry.name or "other", size, entry.file if entry.is_here else command))
    return align_columns(rows)


def _describe(model: ModelFolder) -> InstalledModel:
    runs = model.runs()
    finished = [run for run in runs if run.is_finished]
    files = [run.checkpoint(FINAL).stat() for run in finished]
    newest = max((file.st_mtime for file in files), default=None)
    scores = read_scores(finished) if finished else None
    common: dict[str, Any] = {
        "dataset": model.path.parent.name,
        "configuration": model.path.name,
        "folder": str(model.path),
        "folds": _names(finished),
        "unfinished_folds": _names([run for run in runs if not run.is_finished]),
        "dice": None if scores is None else scores.foreground.mean,
        "num_cases": None if scores is None else scores.num_cases,
        "date": None if newest is None else f"{datetime.fromtimestamp(newest):%Y-%m-%d}",
        "size": sum(file.st_size for file in files),
    }
    try:
        base, state, advised = _base_of((finished or runs)[0])
    except UserError as error:
        return InstalledModel(**common, base=None, base_state=_UNKNOWN, fault=str(error))
    name = None if base is None else base.file_name
    return InstalledModel(**common, base=name, base_state=state, how_to_get_base=advised)


def _names(runs: Sequence[RunFolder]) -> tuple[str, ...]:
    return tuple(run.name.removeprefix("fold_") for run in runs)


def _base_of(run: RunFolder) -> tuple[Base | None, str, str]:
    """Return the base of a run, whether it is here, and how to get it."""
    if not needs_base(run.configuration):
        return None, _UNNEEDED, ""
    if not run.base_file.is_file():
        return None, _UNKNOWN, ""
    base = load_base(run.base_file)
    wanted = Path(run.configuration.initial_weights)
    file, _ = locate(base, preferred=wanted if wanted.is_absolute() else None)
    return (base, _READY, "") if file else (base, _MISSING, advice(base))


def _weights(name: str, places: Sequence[Path], size: int | None) -> BaseWeights:
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        return BaseWeights(name, str(places[0]), False, size, how_to_get(name))
    return BaseWeights(name, str(file), True, file.stat().st_size)
