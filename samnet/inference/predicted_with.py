"""The file next to label maps that says what predicted each of them. Its only owner.

`predicted_with.json` holds each predictor once, by a key of what it consists of, and the key of
each case: `{"predictors": {"1f0a6c2e": {...}}, "cases": {"case_1": "1f0a6c2e"}}`. So a prediction
that is resumed does not mix the label maps of two models without a word.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError
from samnet.core.files import read_json, write_json
from samnet.core.hashing import file_sha256
from samnet.core.locks import lock_folder
from samnet.inference.ensemble import EnsemblePredictor
from samnet.inference.predictor import Predictor

log = logging.getLogger(__name__)
PREDICTOR_FILE = "predicted_with.json"
_KEY_LENGTH = 12
_MOST_NAMED = 5  # cases


@dataclass(frozen=True)
class PredictorRecord:
    """What decides how a predictor labels an image.

    Attributes:
        content: Its networks with the sha256 of their weights, whether each averages over mirrored
            inputs, and its postprocessing, as JSON.
    """

    content: dict[str, Any]

    @classmethod
    def of(cls, predictor: Predictor | EnsemblePredictor) -> PredictorRecord:
        """Describe a predictor.

        Args:
            predictor: One that was loaded from the folders of models, whose checkpoints are read.
        """
        members = predictor.members if isinstance(predictor, EnsemblePredictor) else [predictor]
        networks = [
            {"run": run, "weights": file_sha256(checkpoint), "mirror": member.mirror}
            for member in members
            for run, checkpoint in member.checkpoints.items()
        ]
        return cls({"networks": networks, "postprocessing": predictor.postprocessing.describe()})

    @property
    def key(self) -> str:
        """The start of a hash of the content, wherever the folders of the models are."""
        text = json.dumps(self.content, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_KEY_LENGTH]


def read_predictors(folder: Path) -> dict[str, str]:
    """Read the key of the predictor of each case.

    Args:
        folder: The folder of the label maps.

    Returns:
        Name of a case -> key; empty where there is no file, or not one of this form.
    """
    return _read(folder)["cases"]


def cases_of_others(label_maps: Mapping[str, Path], record: PredictorRecord) -> list[str]:
    """Find label maps that are there and were made by another predictor, and warn of them.

    Those of which nothing is noted, as by older versions, are named in a warning too.

    Args:
        label_maps: Name of a case -> its label map, whether it exists or not; in one folder.
        record: The predictor that is to make them.

    Returns:
        The names of the cases that another predictor has made.
    """
    there = {name: file for name, file in label_maps.items() if file.is_file()}
    if not there:
        return []
    folder = next(iter(there.values())).parent
    noted = read_predictors(folder)
    others = [name for name in there if noted.get(name, record.key) != record.key]
    unknown = [name for name in there if name not in noted]
    if others:
        log.warning(
            "predicted again, because other weights or options have made the label maps (see %s): "
            "%s",
            folder / PREDICTOR_FILE,
            _name(others),
        )
    if unknown:
        log.warning(
            "kept, though %s does not say what has made the label maps: %s; without --continue all "
            "are predicted again",
            folder / PREDICTOR_FILE,
            _name(unknown),
        )
    return others


def warn_of_others(folder: Path, record: PredictorRecord) -> None:
    """Warn of label maps in a folder that another predictor has made.

    Args:
        folder: The folder of the label maps.
        record: What has predicted last.
    """
    noted = read_predictors(folder)
    names = [name for name, key in noted.items() if key != record.key]
    if not names:
        return
    files = tuple(entry.name for entry in folder.iterdir() if entry.is_file())
    there = [name for name in names if _has_file(name, files)]
    if there:
        log.warning(
            "%s also holds label maps that other weights or options have made (see %s): %s",
            folder,
            PREDICTOR_FILE,
            _name(there),
        )


def record_predictor(folder: Path, cases: Iterable[str], record: PredictorRecord) -> None:
    """Write which predictor has made the label maps of some cases.

    Several jobs may predict parts of the cases into one folder at the same time.

    Args:
        folder: The folder of the label maps.
        cases: The names of the cases.
        record: What predicted them.
    """
    with lock_folder(folder, "predictors of label maps"):
        content = _read(folder)
        content["cases"].update(dict.fromkeys(cases, record.key))
        content["predictors"][record.key] = record.content
        used = set(content["cases"].values())
        predictors = {key: found for key, found in content["predictors"].items() if key in used}
        cases_by_name = dict(sorted(content["cases"].items()))
        write_json(folder / PREDICTOR_FILE, {"predictors": predictors, "cases": cases_by_name})


def _read(folder: Path) -> dict[str, dict[str, Any]]:
    try:
        content = read_json(folder / PREDICTOR_FILE)
    except UserError:
        content = None
    found = content if isinstance(content, dict) else {}
    parts = {name: found.get(name) for name in ("predictors", "cases")}
    return {name: part if isinstance(part, dict) else {} for name, part in parts.items()}


def _has_file(case: str, files: Sequence[str]) -> bool:
    return any(file.startswith(f"{case}.") for file in files)


def _name(cases: Sequence[str]) -> str:
    more = f" and {len(cases) - _MOST_NAMED} more" if len(cases) > _MOST_NAMED else ""
    return ", ".join(cases[:_MOST_NAMED]) + more
