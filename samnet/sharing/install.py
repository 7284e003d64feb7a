"""Unpacking a model somebody else has made: nothing in the archive is trusted.

Names, kinds and declared sizes are checked before a byte is written; while it is written, the real size is watched and
the hash is taken; and only a complete, readable model gets its place among the results.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import struct
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open

from samnet.core.errors import SamnetError, UserError
from samnet.core.files import TEMPORARY_PREFIX, atomic_path
from samnet.core.paths import dataset_number, results_folder
from samnet.core.records import from_json
from samnet.dataset.description import DESCRIPTION_FILE, DatasetDescription
from samnet.dataset.label_scheme import LabelScheme
from samnet.models.base import load_base
from samnet.models.model_folder import BASE_FILE, FINAL_WEIGHTS, FOLD_FOLDER, PLAN_FILE
from samnet.plan.plan import Plan
from samnet.sharing.export import (
    MANIFEST_FILE,
    SCHEMA_VERSION,
    Manifest,
    Member,
)

MAX_FILES = 100
MAX_TEXT_BYTES = 16 * 2**20
MAX_WEIGHTS_BYTES = 8 * 2**30  # a fully trained ViT-H is 2.6 GB
MAX_TOTAL_BYTES = 40 * 2**30
MAX_EXPANSION = 100  # unpacked bytes for each byte of the archive
_CHUNK = 2**20
_FOLDER_NAME = re.compile(r"\w(?:[\w .+-]{0,98}[\w+-])?")
# Besides BadZipFile, zipfile lets such errors through where a few bytes of an archive are changed.
_ZIP = (zipfile.BadZipFile, zlib.error, struct.error, EOFError)
_DAMAGED = (*_ZIP, RuntimeError, ValueError, ArithmeticError, LookupError)


def install_model(
    file: Path, *, name: str | None = None, force: bool = False
) -> tuple[Path, Manifest]:
    """Unpack an archive of `export_model` into the results folder; returns the model's folder and what it holds.

    name: of the model's folder instead of its configuration's, or `DATASET/NAME`. force: replace what is there.

    Raises:
        UserError: the archive is damaged or unsafe, or a model of this name is there.
    """
    with _open(file) as archive:
        manifest = _read_manifest(archive, file)
        _check_entries(archive, manifest, file)
        target = results_folder() / _target(manifest, name, file)
        if target.exists() and not force:
            raise UserError(
                f"{target} is there already; --name NAME installs {file.name} beside it, --force replaces it"
            )
        _require_space(results_folder(), sum(member.size for member in manifest.files.values()))
        with atomic_path(target) as temporary:
            for entry in archive.infolist():
                if entry.filename in manifest.files:
                    _unpack(
                        archive,
                        entry,
                        manifest.files[entry.filename],
                        temporary / entry.filename,
                        file,
                    )
            _check_content(temporary, manifest, file)
            replaced = _move_away(target)
        if replaced is not None:
            shutil.rmtree(replaced)
    return target, manifest


@contextmanager
def _open(file: Path) -> Iterator[zipfile.ZipFile]:
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except _DAMAGED as error:
        raise _damaged(file, error) from None
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise _damaged(file, error) from None  # the directory points to before the beginning


def _damaged(file: Path, error: Exception) -> UserError:
    return UserError(f"{file}: no archive of a model, or damaged ({error}); get it again")


def _refuse(file: Path, reason: str) -> UserError:
    return UserError(
        f"{file}: {reason}; nothing was installed. Get the model again from a source you trust"
    )


def _read_manifest(archive: zipfile.ZipFile, file: Path) -> Manifest:
    entries = [entry for entry in archive.infolist() if entry.filename == MANIFEST_FILE]
    if len(entries) != 1:
        raise UserError(
            f"{file}: has no {MANIFEST_FILE}, so it was not made by samnet_export_model"
        )
    _check_entry(entries[0], file)
    content = json.loads(b"".join(_chunks(archive, entries[0], MAX_TEXT_BYTES, file)))
    if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
        found = content.get("schema_version") if isinstance(content, dict) else content
        raise UserError(
            f"{file}: has the version {found!r}, this samnet reads version {SCHEMA_VERSION}; update samnet, or export "
            "the model again"
        )
    return from_json(Manifest, content, f"{file}: {MANIFEST_FILE}")


def _check_entries(archive: zipfile.ZipFile, manifest: Manifest, file: Path) -> None:
    """Refuse whatever is not exactly what samnet puts into an archive, before anything is written."""
    entries = [entry for entry in archive.infolist() if entry.filename != MANIFEST_FILE]
    if len(entries) > MAX_FILES:
        raise _refuse(file, f"holds {len(entries)} files, expected at most {MAX_FILES}")
    for entry in entries:
        _check_entry(entry, file)
        if manifest.files.get(entry.filename, Member(-1, "")).size != entry.file_size:
            raise _refuse(
                file,
                f"{entry.filename!r} is not of the size that {MANIFEST_FILE} says, or not named there",
            )
    names = [entry.filename for entry in entries]
    if sorted(names) != sorted(manifest.files):
        raise _refuse(file, f"does not hold each of the files in {MANIFEST_FILE} once")
    expected = {
        f"{fold}/{name}" for fold in manifest.folds for name in (PLAN_FILE, FINAL_WEIGHTS)
    } | {DESCRIPTION_FILE}
    if not manifest.folds or not expected <= set(names):
        raise _refuse(file, f"lacks {min(expected - set(names), default='every fold')}")
    total = sum(entry.file_size for entry in entries)
    if total > min(MAX_TOTAL_BYTES, MAX_EXPANSION * file.stat().st_size):
        raise _refuse(file, f"{file.stat().st_size} bytes would become {total}")


def _check_entry(entry: zipfile.ZipInfo, file: Path) -> None:
    """Refuse a name, a kind or a size that no file of ours has."""
    *folders, name = entry.filename.split("/")
    at_top = not folders and name in (MANIFEST_FILE, DESCRIPTION_FILE)
    in_fold = (
        len(folders) == 1
        and FOLD_FOLDER.fullmatch(folders[0])
        and name in (PLAN_FILE, FINAL_WEIGHTS, BASE_FILE)
    )
    if not (at_top or in_fold) or entry.orig_filename != entry.filename:
        raise _refuse(file, f"holds {entry.orig_filename!r}, which is no file of a model")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise _refuse(file, f"{entry.filename!r} is a link or another special file")
    if entry.flag_bits & 1:
        raise _refuse(file, f"{entry.filename!r} is encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _refuse(file, f"{entry.filename!r} is compressed in an unusual way")
    limit = MAX_WEIGHTS_BYTES if name == FINAL_WEIGHTS else MAX_TEXT_BYTES
    if entry.file_size > limit:
        raise _refuse(
            file, f"{entry.filename!r} has {entry.file_size} bytes, expected at most {limit}"
        )


def _target(manifest: Manifest, name: str | None, file: Path) -> Path:
    """Where the model goes, below the results folder."""
    dataset, configuration = manifest.dataset_name, manifest.configuration
    if name is not None:
        dataset, configuration = name.split("/", 1) if "/" in name else (dataset, name)
    for part in (dataset, configuration):
        if not _FOLDER_NAME.fullmatch(part):
            source = f"--name {name}" if name is not None else f"{file}: {MANIFEST_FILE}"
            raise UserError(
                f"{source}: {part!r} cannot name a folder; give --name NAME or DATASET/NAME (letters, digits, _.+-)"
            )
    dataset_number(dataset)
    return Path(dataset, configuration)


def _unpack(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, member: Member, target: Path, file: Path
) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with target.open("xb") as handle:
        for chunk in _chunks(archive, entry, member.size, file):
            digest.update(chunk)
            handle.write(chunk)
        handle.flush()
        os.fsync(handle.fileno())
    if digest.hexdigest() != member.sha256:
        raise _refuse(
            file, f"{entry.filename!r} is not what was exported: its sha256 is {digest.hexdigest()}"
        )


def _chunks(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int, file: Path
) -> Iterator[bytes]:
    """The content of an entry; it ends with an error as soon as there is more than `limit` bytes."""
    read = 0
    with archive.open(entry) as source:
        while chunk := source.read(_CHUNK):
            read += len(chunk)
            if read > limit:
                raise _refuse(file, f"{entry.filename!r} unpacks to more than {limit} bytes")
            yield chunk


def _check_content(folder: Path, manifest: Manifest, file: Path) -> None:
    """Read everything once, as prediction will.

    Raises:
        UserError: something cannot be read, or contradicts the manifest.
    """
    described = DatasetDescription.load(folder / DESCRIPTION_FILE)
    for fold in manifest.folds:
        plan = Plan.load(folder / fold / PLAN_FILE)
        names = (plan.dataset_name, *plan.configurations)
        same_labels = _same_labels(plan.label_scheme, described.label_scheme)
        if names != (manifest.dataset_name, manifest.configuration) or not same_labels:
            raise _refuse(
                file, f"the plan of {fold} is of {', '.join(names)}, not what {MANIFEST_FILE} says"
            )
        initial = plan.configuration(manifest.configuration).initial_weights
        if initial != Path(initial).name or "\\" in initial:
            raise _refuse(file, f"the plan of {fold} names the file {initial!r} on this machine")
        has_base = (folder / fold / BASE_FILE).is_file()
        if (load_base(folder / fold / BASE_FILE) if has_base else None) != manifest.base:
            raise _refuse(file, f"{BASE_FILE} of {fold} is not what {MANIFEST_FILE} says")
        try:
            with safe_open(folder / fold / FINAL_WEIGHTS, "pt") as weights:
                weights.keys()
        except SafetensorError as error:
            raise _refuse(
                file, f"{fold}/{FINAL_WEIGHTS} cannot be read as safetensors ({error})"
            ) from None


def _same_labels(one: LabelScheme, other: LabelScheme) -> bool:
    return (one.labels, one.regions) == (other.labels, other.regions)


def _move_away(target: Path) -> Path | None:
    """Give a model that is replaced another name; it is deleted when the new one has its place."""
    if not target.exists():
        return None
    old = target.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:8]}-replaced-{target.name}")
    os.replace(target, old)
    return old


def _require_space(folder: Path, needed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise SamnetError(
            f"{folder}: {free / 2**30:.1f} GiB are free, the model needs {needed / 2**30:.1f} GiB"
        )
