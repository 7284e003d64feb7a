"""A trained model as one zip file that can be handed on.

It holds a manifest, `dataset.json`, and for each fold the plan, the final weights as safetensors and `base.json`; never
a pickle, and never the base's weights, only their hash. Of an adapter that is a few megabytes.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samnet import __version__
from samnet.core.errors import UserError
from samnet.core.files import atomic_path
from samnet.core.hashing import file_sha256
from samnet.core.locks import lock_folder
from samnet.core.records import to_json
from samnet.dataset.description import DESCRIPTION_FILE
from samnet.inference.load import FINAL_WEIGHTS
from samnet.inference.predictor import PLAN_FILE, find_fold_folders
from samnet.models.base import BASE_FILE, Base, base_sha256, find_model_base, load_base, needs_base
from samnet.plan.plan import Plan

SCHEMA_VERSION = 1
MANIFEST_FILE = "manifest.json"
FOLD_FOLDER = re.compile(r"fold_(?:0|[1-9][0-9]{0,3}|all)")
_FIXED_TIME = (1980, 1, 1, 0, 0, 0)  # the same model makes the same file
_PLAIN_FILE = 0o100644 << 16


@dataclass(frozen=True)
class Member:
    """A file of an archive: size in bytes and sha256 of its content."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What an archive says of itself.

    base: the weights that are needed beside it, or None. files: every other file in it, by name.
    """

    schema_version: int
    samnet_version: str
    dataset_name: str
    configuration: str
    base: Base | None
    files: dict[str, Member]

    @property
    def folds(self) -> list[str]:
        return sorted({name.split("/")[0] for name in self.files if "/" in name})


def export_model(folder: Path, output: Path, folds: Sequence[str] | None = None) -> Manifest:
    """Write the finished folds of a model into a zip file.

    folder: of a configuration, or of a single fold. folds: such as `["0", "all"]`; None as at prediction.

    Raises:
        UserError: a fold is missing or unfinished, the folds do not belong together, or the base is unknown.
    """
    if output.suffix != ".zip":
        raise UserError(f"-o {output}: the archive has to end in .zip")
    fold_folders = find_fold_folders(Path(folder), folds, "final")
    plans = [Plan.load(fold / PLAN_FILE) for fold in fold_folders]
    base = _common_base(fold_folders, plans)
    contents: dict[str, bytes | Path] = {
        DESCRIPTION_FILE: _as_bytes(plans[0].description.as_json())
    }
    for fold, plan in zip(fold_folders, plans, strict=True):
        name = fold.name if FOLD_FOLDER.fullmatch(fold.name) else "fold_all"
        contents[f"{name}/{PLAN_FILE}"] = _as_bytes(to_json(_portable(plan)))
        contents[f"{name}/{FINAL_WEIGHTS}"] = fold / FINAL_WEIGHTS
        if base is not None:
            contents[f"{name}/{BASE_FILE}"] = _as_bytes(to_json(base))
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        samnet_version=__version__,
        dataset_name=plans[0].dataset_name,
        configuration=_configuration_name(plans[0]),
        base=base,
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


def _common_base(folders: Sequence[Path], plans: Sequence[Plan]) -> Base | None:
    """The weights that all folds need beside their own; None where they need none."""
    bases = [_base_of(folder, plan) for folder, plan in zip(folders, plans, strict=True)]
    for folder, plan, base in zip(folders, plans, bases, strict=True):
        if base != bases[0]:
            raise UserError(
                f"{folder} was trained on {base}, {folders[0]} on {bases[0]}; choose one with -f"
            )
        if plan.dataset_name != plans[0].dataset_name or _configuration_name(
            plan
        ) != _configuration_name(plans[0]):
            raise UserError(
                f"{folder} is {plan.dataset_name}, {_configuration_name(plan)}, but {folders[0]} is "
                f"{plans[0].dataset_name}, {_configuration_name(plans[0])}; choose one with -f"
            )
    return bases[0]


def _base_of(folder: Path, plan: Plan) -> Base | None:
    configuration = plan.configuration(_configuration_name(plan))
    if not needs_base(configuration):
        return None
    if (folder / BASE_FILE).is_file():
        return load_base(folder / BASE_FILE)
    file = find_model_base(configuration, folder)  # warns that nothing was recorded
    return Base(configuration.backbone, file.name, base_sha256(file)) if file else None


def _configuration_name(plan: Plan) -> str:
    return next(iter(plan.configurations))


def _portable(plan: Plan) -> Plan:
    """The plan without the folders of this machine: other initial weights by the name of their file."""
    name = _configuration_name(plan)
    planned = plan.configurations[name]
    decision = planned.decisions["initial_weights"]
    if Path(decision.value).name == decision.value:
        return plan
    decisions = planned.decisions | {
        "initial_weights": replace(decision, value=Path(decision.value).name)
    }
    return replace(plan, configurations={name: replace(planned, decisions=decisions)})


def _as_bytes(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _measure(content: bytes | Path) -> Member:
    if isinstance(content, Path):
        return Member(content.stat().st_size, file_sha256(content))
    return Member(len(content), hashlib.sha256(content).hexdigest())


def _add(archive: zipfile.ZipFile, name: str, content: bytes | Path) -> None:
    """Text is compressed; weights, in which compression finds nothing, are stored."""
    entry = zipfile.ZipInfo(name, _FIXED_TIME)
    entry.external_attr = _PLAIN_FILE
    if isinstance(content, bytes):
        entry.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(entry, content)
        return
    entry.file_size = (
        content.stat().st_size
    )  # so that zipfile knows whether it needs its form for large files
    with content.open("rb") as source, archive.open(entry, "w") as target:
        while chunk := source.read(2**20):
            target.write(chunk)
