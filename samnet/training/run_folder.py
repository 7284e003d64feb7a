"""The folder of a run: what was asked for, whether it is finished, and what another sitting may change."""

from __future__ import annotations

import platform
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch

from samnet import __version__
from samnet.core.errors import UserError
from samnet.core.files import read_json, remove_partial_files, write_json
from samnet.core.paths import results_folder
from samnet.inference.predictor import PLAN_FILE
from samnet.plan.plan import Plan
from samnet.training.checkpoint import BEST, FINAL, LAST, find_state, read_progress

RUN_FILE = "run.json"
VALIDATION = "validation"
# What another sitting may change. On everything else the weights of the network rest, or what it has seen so far.
MAY_CHANGE = (
    "mirror_axes",
    "batch_size",
    "precision",
    "gradient_checkpointing",
    "steps",
    "steps_per_epoch",
    "patience",
    "learning_rate",
    "warmup_steps",
    "weight_decay",
    "decay_power",
    "decay_share",
    "schedule",
    "loss",
    "gradient_clip",
    "cross_entropy_weight",
    "dice_weight",
    "foreground_share",
    "augmentation",
    "tile_overlap",
    "mirror_at_prediction",
)


def run_folder(dataset_name: str, configuration: str, fold: str) -> Path:
    """Where a training's results are."""
    return results_folder() / dataset_name / configuration / f"fold_{fold}"


def read_asked(folder: Path) -> dict[str, Any]:
    """The record of what was asked for when the run in a folder last began; empty where there is none."""
    file = folder / RUN_FILE
    return read_json(file)["asked"] if file.is_file() else {}


def last_sitting(folder: Path) -> dict[str, Any]:
    """What is recorded of the last sitting of an unfinished or prolonged run; empty where none has saved its state."""
    if not (folder / LAST).is_file() or not (folder / RUN_FILE).is_file():
        return {}
    return next(iter(read_json(folder / RUN_FILE).get("sittings", [])[-1:]), {})


def note_in_sitting(folder: Path, key: str, entry: Any) -> None:
    """Add an entry to a list in the record of the sitting that is going on; without a record, nothing."""
    file = folder / RUN_FILE
    if not file.is_file():
        return
    record = read_json(file)
    record["sittings"][-1].setdefault(key, []).append(entry)
    write_json(file, record)


def is_finished(folder: Path, record: dict[str, Any], *, resume: bool) -> bool:
    """Whether nothing is left to train of the run that is asked for. resume: whether the folder's may be another.

    Raises:
        UserError: another run is in the folder.
    """
    finished = (folder / FINAL).is_file()
    if not finished and not (folder / LAST).is_file():
        return False
    asked = read_asked(folder)
    if asked == record:
        return finished
    if not resume:
        kind = "a finished" if finished else "an unfinished"
        how_to_resume = (
            "with more --steps, --epochs or --max-time prolongs it"
            if finished
            else "goes on with it"
        )
        raise UserError(
            f"{folder} holds {kind} training with other settings; --continue {how_to_resume}, --restart replaces it"
        )
    _check_continuation(folder, asked, record)
    return finished and not _has_more_to_do(folder, record)


def _check_continuation(folder: Path, asked: dict[str, Any], record: dict[str, Any]) -> None:
    """What a half-trained network rests on stays as it is."""
    for key in ("training_cases", "seed", "data_key", "start_from"):
        if asked.get(key) != record[key]:
            raise UserError(f"--continue: {folder} began with another {key}; --restart begins anew")
    for key, after in record["configuration"].items():
        before = asked["configuration"].get(key)
        if before != after and key not in MAY_CHANGE:
            raise UserError(
                f"--continue: {folder} began with {key} {before!r}, not {after!r}; --restart begins anew"
            )


def _has_more_to_do(folder: Path, record: dict[str, Any]) -> bool:
    """Whether a finished training was asked for more steps or time than it had."""
    state = find_state(folder)
    if state is None:
        return False
    progress, limit = read_progress(state), record["max_seconds"]
    in_time = limit is None or progress.seconds < limit
    return in_time and progress.step < record["configuration"]["steps"]


def start_folder(
    folder: Path,
    plan: Plan,
    record: dict[str, Any],
    device: torch.device,
    *,
    restart: bool,
    embeddings: dict[str, Any] | None = None,
) -> None:
    """Make the run's folder, or open it for another sitting; what a longer training makes untrue is deleted."""
    shutil.rmtree(folder / VALIDATION, ignore_errors=True)
    (folder / FINAL).unlink(missing_ok=True)
    if restart and folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    remove_partial_files(folder)
    sittings: list[dict[str, Any]] = []
    if (folder / LAST).is_file():
        sittings = read_json(folder / RUN_FILE).get("sittings", [])
    else:
        (folder / BEST).unlink(missing_ok=True)
    sittings.append(
        {
            "command": sys.argv,
            "started": time.strftime("%Y-%m-%d %H:%M:%S"),
            "device": str(device),
            "samnet": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
            "embeddings": embeddings,
        }
    )
    plan.save(folder / PLAN_FILE)
    write_json(folder / RUN_FILE, {"asked": record, "sittings": sittings})
