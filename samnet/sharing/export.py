"""A trained model as one zip file that can be handed on.

It holds a manifest, `dataset.json`, the card of the model, and `scores.json`, `confidence.json` and
`postprocessing.json` where they are there; for each fold the plan, the final weights as
safetensors, `base.json` and the ranges of the training data. It never holds a pickle, and never the
weights of the base, only their hash. For an adapter that is a few megabytes.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samnet import __version__
from samnet.confidence.calibration import Calibration
from samnet.core.errors import UserError
from samnet.core.files import atomic_path
from samnet.core.hashing import file_sha256
from samnet.core.locks import lock_folder
from samnet.core.records import to_json
from samnet.dataset.description import DESCRIPTION_FILE
from samnet.fingerprint.training_data import TrainingData, merge_training_data
from samnet.models.base import Base, base_sha256, find_model_base, load_base, needs_base
from samnet.models.model_folder import (
    BASE_FILE,
    CALIBRATION_FILE,
    FINAL,
    FINAL_WEIGHTS,
    PLAN_FILE,
    TRAINING_DATA_FILE,
    ModelFolder,
    RunFolder,
)
from samnet.plan.plan import Plan
from samnet.postprocessing.model_rules import load_current_rules
from samnet.postprocessing.rules import POSTPROCESSING_FILE, Postprocessing
from samnet.sharing.model_card import CARD_FILE, CardFacts, check_licence, write_card
from samnet.sharing.model_scores import SCORES_FILE, fold_name, read_scores
from samnet.training.steps_done import steps_done

SCHEMA_VERSION = 1
MANIFEST_FILE = "manifest.json"
_FIXED_TIME = (1980, 1, 1, 0, 0, 0)  # the same model gives the same file
_PLAIN_FILE = 0o100644 << 16


@dataclass(frozen=True)
class Member:
    """A file of an archive.

    Attributes:
        size: Its size in bytes.
        sha256: The sha256 of its content, in hexadecimal.
    """

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What an archive says of itself.

    Attributes:
        schema_version: Version of the archive's form.
        samnet_version: The samnet that wrote it.
        dataset_name: `DatasetXXX_Name`.
        configuration: The name of the configuration.
        base: The weights that are needed in addition, or None.
        files: Every other file in it, by name.
    """

    schema_version: int
    samnet_version: str
    dataset_name: str
    configuration: str
    base: Base | None
    files: dict[str, Member]

    @property
    def folds(self) -> list[str]:
        """The folders of the folds."""
        return sorted({name.split("/")[0] for name in self.files if "/" in name})


def export_model(
    model: ModelFolder,
    output: Path,
    folds: Sequence[str] | None = None,
    licence: str | None = None,
) -> Manifest:
    """Write the finished folds of a model into a zip file.

    Args:
        model: The folder of a configuration, or of a single fold.
        output: The file to write, which ends in `.zip`.
        folds: Such as `["0", "all"]`; None as at prediction.
        licence: The licence that the card states; None for none.

    Returns:
        What the archive holds.

    Raises:
        UserError: A fold is missing or unfinished, the folds do not belong together, the base is
            unknown, or `confidence.json` or `postprocessing.json` is damaged.
    """
    if output.suffix != ".zip":
        raise UserError(f"-o {output}: the archive has to end in .zip")
    runs = model.select_runs(folds)
    facts = _collect_facts(runs, licence)
    plan = facts.plan
    contents: dict[str, bytes | Path] = {
        DESCRIPTION_FILE: _as_bytes(plan.description.as_json()),
        CARD_FILE: write_card(facts).encode(),
    }
    if facts.scores is not None:
        contents[SCORES_FILE] = _as_bytes(to_json(facts.scores))
    rules = _current_rules(runs)
    if rules:
        contents[POSTPROCESSING_FILE] = _as_bytes(to_json(rules))
    if facts.calibration is not None:
        contents[CALIBRATION_FILE] = _as_bytes(to_json(facts.calibration))
    for run in runs:
        contents |= _contents_of_fold(run, facts.base)
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        samnet_version=__version__,
        dataset_name=plan.dataset_name,
        configuration=plan.single_name,
        base=facts.base,
        files={name: _measure(content) for name, content in contents.items()},
    )
    with (
        lock_folder(output.parent, f"exporting {output.name}"),
        atomic_path(output) as temporary,
        zipfile.ZipFile(temporary, "w") as archive,
    ):
        for name, content in {MANIFEST_FILE: _as_bytes(to_json(manifest)), **contents}.items():
            _add(archive, name, content)
    return manifest


def collect_facts(
    model: ModelFolder, folds: Sequence[str] | None = None, licence: str | None = None
) -> CardFacts:
    """Collect what the card of a model says.

    Args:
        model: As for `export_model`.
        folds: As for `export_model`.
        licence: As for `export_model`.

    Returns:
        The facts.

    Raises:
        UserError: As for `export_model`.
    """
    return _collect_facts(model.select_runs(folds), licence)


def _collect_facts(runs: Sequence[RunFolder], licence: str | None) -> CardFacts:
    base = _common_base(runs)
    plan = runs[0].plan
    calibration_file = ModelFolder(runs[0].path.parent).calibration_file
    calibration = None
    if calibration_file.is_file():
        calibration = Calibration.load(calibration_file, plan.label_scheme.class_names)
    files = [run.training_data_file for run in runs if run.training_data_file.is_file()]
    found = [TrainingData.load(file) for file in files]
    parts = [part for part in found if len(part.channels) == len(plan.channel_names)]
    steps = [_steps_of(run) for run in runs]
    return CardFacts(
        plan=plan,
        folds=tuple(fold_name(run) for run in runs),
        base=base,
        training_data=merge_training_data(parts) if parts else None,
        scores=read_scores(runs),
        calibration=calibration,
        postprocessing=tuple(_current_rules(runs).describe()),
        licence=check_licence(licence),
        steps=tuple(done for done in steps if done is not None),
    )


def _steps_of(run: RunFolder) -> int | None:
    """Return the steps that a run has done; of an installed model those that its exporter stated.

    None where they are not known.
    """
    done = steps_done(run)
    if done is None and run.training_data_file.is_file():
        done = TrainingData.load(run.training_data_file).steps
    return done


def _current_rules(runs: Sequence[RunFolder]) -> Postprocessing:
    folder = runs[0].path.parent
    return load_current_rules(folder, [ModelFolder(folder)], runs[0].plan.label_scheme)


def _contents_of_fold(run: RunFolder, base: Base | None) -> dict[str, bytes | Path]:
    name = fold_name(run)
    contents: dict[str, bytes | Path] = {
        f"{name}/{PLAN_FILE}": _as_bytes(to_json(_portable(run.plan))),
        f"{name}/{FINAL_WEIGHTS}": run.checkpoint(FINAL),
    }
    if run.training_data_file.is_file():
        training_data = replace(TrainingData.load(run.training_data_file), steps=_steps_of(run))
        contents[f"{name}/{TRAINING_DATA_FILE}"] = _as_bytes(to_json(training_data))
    if base is not None:
        contents[f"{name}/{BASE_FILE}"] = _as_bytes(to_json(base))
    return contents


def _common_base(runs: Sequence[RunFolder]) -> Base | None:
    """Return the weights that all folds need in addition to their adapters; None for none."""
    first, first_base = runs[0], _base_of(runs[0])
    for run in runs[1:]:
        base = _base_of(run)
        if base != first_base:
            raise UserError(
                f"{run} was trained on {base}, {first} on {first_base}; choose one with -f"
            )
        if _title(run.plan) != _title(first.plan):
            raise UserError(
                f"{run} is {_title(run.plan)}, but {first} is {_title(first.plan)}; choose one "
                "with -f"
            )
    return first_base


def _title(plan: Plan) -> str:
    return f"{plan.dataset_name}, {plan.single_name}"


def _base_of(run: RunFolder) -> Base | None:
    configuration = run.configuration
    if not needs_base(configuration):
        return None
    if run.base_file.is_file():
        return load_base(run.base_file)
    file = find_model_base(configuration, run)  # warns that nothing was recorded
    return Base(configuration.backbone, file.name, base_sha256(file)) if file else None


def _portable(plan: Plan) -> Plan:
    """Return the plan without folders of this machine: only the file name of initial weights."""
    name = plan.single_name
    planned = plan.configurations[name]
    decision = planned.decisions["initial_weights"]
    file_name = Path(decision.value).name
    if file_name == decision.value:
        return plan
    decisions = planned.decisions | {"initial_weights": replace(decision, value=file_name)}
    return replace(plan, configurations={name: replace(planned, decisions=decisions)})


def _as_bytes(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _measure(content: bytes | Path) -> Member:
    if isinstance(content, Path):
        return Member(content.stat().st_size, file_sha256(content))
    return Member(len(content), hashlib.sha256(content).hexdigest())


def _add(archive: zipfile.ZipFile, name: str, content: bytes | Path) -> None:
    """Compress text; store weights, in which compression finds nothing."""
    entry = zipfile.ZipInfo(name, _FIXED_TIME)
    entry.external_attr = _PLAIN_FILE
    if isinstance(content, bytes):
        entry.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(entry, content)
        return
    # zipfile needs the size to know whether the file needs its form for large files.
    entry.file_size = content.stat().st_size
    with content.open("rb") as source, archive.open(entry, "w") as target:
        while chunk := source.read(2**20):
            target.write(chunk)
