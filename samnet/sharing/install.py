"""Installing an archive of a model that somebody else wrote: nothing in it is trusted.

Names, kinds and declared sizes are checked before a byte is written. While a file is written, its
real size is watched and its hash is computed. Only a complete, readable model is moved to its place
among the results.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import struct
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from safetensors import SafetensorError, safe_open

from samnet.confidence.calibration import Calibration
from samnet.core.errors import SamnetError, UserError
from samnet.core.files import TEMPORARY_PREFIX, atomic_path
from samnet.core.paths import dataset_number, results_folder
from samnet.core.records import from_json
from samnet.dataset.description import DatasetDescription
from samnet.dataset.label_scheme import LabelScheme
from samnet.inference.load import load_training_data
from samnet.models.base import load_base
from samnet.models.model_folder import (
    BASE_FILE,
    FINAL,
    FINAL_WEIGHTS,
    ModelFolder,
    RunFolder,
    replaced_model,
)
from samnet.postprocessing.rules import load_postprocessing
from samnet.sharing.archive_checks import (
    DEFAULT_LIMITS,
    ArchiveLimits,
    UnsafeArchive,
    check_entries,
    check_entry,
)
from samnet.sharing.export import MANIFEST_FILE, SCHEMA_VERSION, Manifest, Member
from samnet.sharing.model_scores import SCORES_FILE, load_scores

log = logging.getLogger(__name__)

_CHUNK = 2**20
_FOLDER_NAME = re.compile(r"\w(?:[\w .+-]{0,98}[\w+-])?")
# In addition to BadZipFile, zipfile lets these errors through where a few bytes of an archive are
# changed.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError)
_DAMAGED = (*_ZIP_ERRORS, RuntimeError, ValueError, ArithmeticError, LookupError)


def install_model(
    file: Path,
    *,
    name: str | None = None,
    force: bool = False,
    limits: ArchiveLimits = DEFAULT_LIMITS,
    origin: str | None = None,
) -> tuple[Path, Manifest]:
    """Unpack an archive of `export_model` into the results folder.

    Args:
        file: The archive.
        name: The name of the model's folder, or `DATASET/NAME`. None for the names in the manifest.
        force: Whether to replace a model of that name.
        limits: How large the archive may be.
        origin: What to call the archive in messages, such as its address; None for its path.

    Returns:
        The folder of the model, and what the archive says it holds.

    Raises:
        UserError: The archive is damaged or unsafe, or a model of that name is there already.
        SamnetError: The disk is too full.
    """
    shown = str(file) if origin is None else origin
    with _open(file, shown) as archive:
        manifest = _read_manifest(archive, shown, limits)
        check_entries(archive, manifest, file.stat().st_size, limits)
        target = results_folder() / _target(manifest, name, shown)
        _settle_replacement(target)  # of an installation that was killed
        if target.exists() and not force:
            raise UserError(
                f"{target} is there already; --name NAME installs {Path(shown).name} next to it, "
                "--force replaces it"
            )
        needed = sum(member.size for member in manifest.files.values())
        _require_space(results_folder(), needed)
        try:
            with atomic_path(target) as temporary:
                _unpack(archive, manifest, temporary)
                _check_content(ModelFolder(temporary), manifest)
                if target.exists():
                    os.replace(target, replaced_model(target))
        finally:
            _settle_replacement(target)
    return target, manifest


@contextmanager
def _open(file: Path, shown: str) -> Iterator[zipfile.ZipFile]:
    """Open an archive, and turn what fails while it is read into errors that name it."""
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except UnsafeArchive as error:
        raise UserError(
            f"{shown}: {error}; nothing was installed. Get the model again from a source you trust"
        ) from None
    except _DAMAGED as error:
        raise _damaged(shown, error) from None
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise _damaged(shown, error) from None  # the directory points to before the beginning


def _damaged(shown: str, error: Exception) -> UserError:
    return UserError(f"{shown}: no archive of a model, or damaged ({error}); get it again")


def _read_manifest(archive: zipfile.ZipFile, shown: str, limits: ArchiveLimits) -> Manifest:
    entries = [entry for entry in archive.infolist() if entry.filename == MANIFEST_FILE]
    if len(entries) != 1:
        raise UserError(
            f"{shown}: has no {MANIFEST_FILE}, so it was not written by samnet_export_model"
        )
    [entry] = entries
    check_entry(entry, limits)
    with archive.open(entry) as source:
        text = b"".join(_chunks(source, MANIFEST_FILE, limits.text_bytes))
    content = json.loads(text)
    version = content.get("schema_version") if isinstance(content, dict) else content
    if not isinstance(content, dict) or version != SCHEMA_VERSION:
        raise UserError(
            f"{shown}: has the version {version!r}, this samnet reads version {SCHEMA_VERSION}; "
            "update samnet, or export the model again"
        )
    return from_json(Manifest, content, f"{shown}: {MANIFEST_FILE}")


def _target(manifest: Manifest, name: str | None, shown: str) -> Path:
    """Return where the model goes, below the results folder."""
    dataset, configuration = manifest.dataset_name, manifest.configuration
    source = f"{shown}: {MANIFEST_FILE}"
    if name is not None:
        dataset, configuration = name.split("/", 1) if "/" in name else (dataset, name)
        source = f"--name {name}"
    for part in (dataset, configuration):
        if not _FOLDER_NAME.fullmatch(part):
            raise UserError(
                f"{source}: {part!r} cannot name a folder; give --name NAME or DATASET/NAME "
                "(letters, digits, _.+-)"
            )
    dataset_number(dataset)  # refuses another form
    return Path(dataset, configuration)


def _unpack(archive: zipfile.ZipFile, manifest: Manifest, folder: Path) -> None:
    for entry in archive.infolist():
        name = entry.filename
        if name in manifest.files:
            with archive.open(entry) as source:
                unpack_member(source, name, manifest.files[name], folder)


def unpack_member(source: IO[bytes], name: str, member: Member, folder: Path) -> None:
    """Write one file of an archive, and check that it is the one that was exported.

    Args:
        source: The unpacked content.
        name: Its name in the archive.
        member: What the manifest says of it.
        folder: The folder of the model, in which it gets the same name.

    Raises:
        UnsafeArchive: The content is longer than the manifest says, or has another hash.
    """
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with target.open("xb") as handle:
        for chunk in _chunks(source, name, member.size):
            digest.update(chunk)
            handle.write(chunk)
        handle.flush()
        os.fsync(handle.fileno())
    if digest.hexdigest() != member.sha256:
        raise UnsafeArchive(
            f"{name!r} is not what was exported: its sha256 is {digest.hexdigest()}"
        )


def _chunks(source: IO[bytes], name: str, limit: int) -> Iterator[bytes]:
    """Yield the content of a file in parts, and refuse more than `limit` bytes.

    zipfile stops at the size in the directory of the archive. This does not rely on it.
    """
    num_read = 0
    while chunk := source.read(_CHUNK):
        num_read += len(chunk)
        if num_read > limit:
            raise UnsafeArchive(f"{name!r} unpacks to more than {limit} bytes")
        yield chunk


def _check_content(model: ModelFolder, manifest: Manifest) -> None:
    """Read everything once, as a prediction will.

    Raises:
        UserError: Something cannot be read.
        UnsafeArchive: Something contradicts the manifest.
    """
    label_scheme = DatasetDescription.load(model.description_file).label_scheme
    load_postprocessing(model.path, label_scheme)  # refuses a damaged one
    if model.calibration_file.is_file():
        Calibration.load(model.calibration_file, label_scheme.class_names)
    if (model.path / SCORES_FILE).is_file():
        load_scores(model.path / SCORES_FILE, label_scheme.class_names)
    for fold in manifest.folds:
        _check_fold(RunFolder(model.path / fold), label_scheme, manifest)


def _check_fold(run: RunFolder, label_scheme: LabelScheme, manifest: Manifest) -> None:
    fold, plan = run.name, run.plan
    found = (plan.dataset_name, *plan.configurations)
    is_of_manifest = found == (manifest.dataset_name, manifest.configuration)
    if not is_of_manifest or not _have_same_labels(plan.label_scheme, label_scheme):
        raise UnsafeArchive(
            f"the plan of {fold} is of {', '.join(found)}, not what {MANIFEST_FILE} says"
        )
    initial_weights = run.configuration.initial_weights
    if initial_weights != Path(initial_weights).name or "\\" in initial_weights:
        raise UnsafeArchive(
            f"the plan of {fold} names the file {initial_weights!r} on this machine"
        )
    base = load_base(run.base_file) if run.base_file.is_file() else None
    if base != manifest.base:
        raise UnsafeArchive(f"{BASE_FILE} of {fold} is not what {MANIFEST_FILE} says")
    load_training_data([run])  # refuses a damaged one
    try:
        with safe_open(run.checkpoint(FINAL), "pt") as weights:
            weights.keys()
    except SafetensorError as error:
        raise UnsafeArchive(
            f"{fold}/{FINAL_WEIGHTS} cannot be read as safetensors ({error})"
        ) from None


def _have_same_labels(one: LabelScheme, other: LabelScheme) -> bool:
    return (one.labels, one.regions) == (other.labels, other.regions)


def _settle_replacement(target: Path) -> None:
    """Delete a replaced model if the new one has its place; otherwise put it back.

    The replaced model waits under a name that nothing cleans away. So it is still there if the
    process is killed before the new one has its place, and the next installation puts it back.
    """
    waiting = replaced_model(target)
    if not waiting.exists():
        return
    if not target.exists():
        log.warning("%s: is put back, as its replacement was not completed", target)
        os.replace(waiting, target)
        return
    # Renamed first: if the deletion is interrupted, half a model is never put back.
    leftover = target.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:8]}-{target.name}")
    os.replace(waiting, leftover)
    shutil.rmtree(leftover)


def _require_space(folder: Path, needed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise SamnetError(
            f"{folder}: {free / 2**30:.1f} GiB are free, the model needs {needed / 2**30:.1f} GiB"
        )
