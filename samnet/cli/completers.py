"""What values of options complete to: data sets, configurations, folds, files, devices.

The metavar of an option says what its values are. Nothing heavy is imported, as a user waits.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError
from samnet.core.files import read_json
from samnet.core.paths import (
    dataset_number,
    find_dataset_name,
    known_dataset_names,
    preprocessed_folder,
    results_folder,
)

Completer = Callable[..., Iterable[str]]

_PLAN_FILE = "samnetPlans.json"  # DatasetFolder's, whose module imports numpy
_SPLITS_FILE = "splits_final.json"
_FOLD_PREFIX = "fold_"
_DEVICES = {"cpu": "this machine's processor", "cuda": "an NVIDIA GPU", "mps": "an Apple GPU"}
_PREPARING = ("samnet_plan", "samnet_train", "samnet_submit", "samnet_serve")


def find_completer(action: argparse.Action) -> Completer | None:
    """Choose what completes the values of an option.

    Args:
        action: The option.

    Returns:
        The completer; None where the option's choices, or nothing, can be offered.
    """
    if action.choices is not None or action.nargs == 0:
        return None
    if action.dest == "backbone":
        return _backbones
    if action.metavar == "ID" and action.type is not None:
        return None  # the number of a data set that is not there yet
    return _BY_METAVAR.get(str(action.metavar))


def _files(prefix: str, **_: object) -> list[str]:
    return _entries(prefix, only_folders=False)


def _folders(prefix: str, **_: object) -> list[str]:
    return _entries(prefix, only_folders=True)


def _entries(prefix: str, *, only_folders: bool) -> list[str]:
    """List the files and folders whose path begins as typed; those with a dot only after a dot."""
    typed_folder, name = os.path.split(prefix)
    folder = Path(typed_folder).expanduser()
    found = []
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return []
    for entry in entries:
        is_hidden = entry.name.startswith(".") and not name.startswith(".")
        if is_hidden or not entry.name.startswith(name):
            continue
        path = os.path.join(typed_folder, entry.name)
        if entry.is_dir():
            found.append(f"{path}/")
        elif not only_folders:
            found.append(path)
    return found


def _datasets(prefix: str, **_: object) -> Mapping[str, str]:
    """Offer the names of data sets, or their numbers where a number is being typed."""
    try:
        names = known_dataset_names()
    except UserError:
        return {}
    if prefix.isdecimal():
        return {str(dataset_number(name)): name for name in names}
    return {name: f"data set {dataset_number(name)}" for name in names}


def _configurations(
    parser: argparse.ArgumentParser, parsed_args: argparse.Namespace, **_: object
) -> list[str]:
    """Offer the trained configurations, and for what precedes a training those that can be."""
    name = _chosen_dataset(parsed_args)
    found = {run.parent.name for run in _runs(name)}
    if parser.prog.startswith(_PREPARING):
        found |= _named_configurations()
        if name is not None:
            plan = _read(preprocessed_folder() / name / _PLAN_FILE)
            found |= set(plan["configurations"]) if plan else set()
    return sorted(found)


def _folds(
    parser: argparse.ArgumentParser, parsed_args: argparse.Namespace, **_: object
) -> list[str]:
    """Offer the trained folds, and for training runs those that can be trained."""
    name = _chosen_dataset(parsed_args)
    if not parser.prog.startswith(_PREPARING):
        return sorted({run.name.removeprefix(_FOLD_PREFIX) for run in _runs(name)})
    splits = None if name is None else _read(preprocessed_folder() / name / _SPLITS_FILE)
    return [*map(str, range(len(splits or []))), "all", "cv"]


def _runs(dataset_name: str | None) -> list[Path]:
    pattern = f"{dataset_name or 'Dataset*'}/*/{_FOLD_PREFIX}*"
    try:
        return list(results_folder().glob(pattern))
    except (UserError, OSError):
        return []


def _chosen_dataset(parsed_args: argparse.Namespace) -> str | None:
    """Return the name of the data set that was typed before."""
    for key in ("dataset", "flagged_dataset"):
        identifier = getattr(parsed_args, key, None)
        if isinstance(identifier, list):
            identifier = identifier[0] if identifier else None
        if identifier is None:
            continue
        try:
            return find_dataset_name(identifier)
        except UserError:
            return None
    return None


def _read(file: Path) -> Any:
    try:
        return read_json(file)
    except (UserError, OSError):
        return None


def _named_configurations() -> set[str]:
    try:
        files = resources.files("samnet.plans").iterdir()
    except ModuleNotFoundError:  # a checkout that is not installed
        return set()
    return {file.name.removesuffix(".json") for file in files if file.name.endswith(".json")}


def _backbones(**_: object) -> list[str]:
    from samnet.plan.backbones import BACKBONES

    return list(BACKBONES)


def _plan_keys(prefix: str, **_: object) -> list[str]:
    if "=" in prefix:
        return []
    from samnet.plan.configuration import PLAN_KEYS

    return [f"{key}=" for key in PLAN_KEYS]


def _devices(**_: object) -> Mapping[str, str]:
    return _DEVICES


_BY_METAVAR: dict[str, Completer] = {
    "ID": _datasets,
    "CONFIG": _configurations,
    "FOLD": _folds,
    "KEY=VALUE": _plan_keys,
    "DEVICE": _devices,
    "FOLDER": _folders,
    **dict.fromkeys(("FILE", "IN", "OUT", "CSV", "JSON"), _files),
}
