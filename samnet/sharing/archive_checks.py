"""Checks of the files in an archive of a model, before any of them is unpacked.

The archive comes from somebody else. Whatever is not exactly what samnet puts into an archive is
refused.
"""

from __future__ import annotations

import stat
import zipfile
from dataclasses import dataclass

from samnet.dataset.description import DESCRIPTION_FILE
from samnet.models.model_folder import (
    BASE_FILE,
    CALIBRATION_FILE,
    FINAL_WEIGHTS,
    FOLD_FOLDER,
    PLAN_FILE,
    TRAINING_DATA_FILE,
)
from samnet.postprocessing.rules import POSTPROCESSING_FILE
from samnet.sharing.export import MANIFEST_FILE, Manifest
from samnet.sharing.model_card import CARD_FILE
from samnet.sharing.model_scores import SCORES_FILE

_FILES_OF_MODEL = (
    MANIFEST_FILE,
    DESCRIPTION_FILE,
    CARD_FILE,
    SCORES_FILE,
    CALIBRATION_FILE,
    POSTPROCESSING_FILE,
)


@dataclass(frozen=True)
class ArchiveLimits:
    """How large an archive and its files may be.

    Attributes:
        files: Number of files in addition to the manifest.
        text_bytes: Size of a text file, unpacked.
        weights_bytes: Size of the weights of a fold. Those of a fully trained ViT-H have 2.6 GB.
        total_bytes: Size of all files together, unpacked.
        expansion: Unpacked bytes for each byte of the archive.
    """

    files: int = 100
    text_bytes: int = 16 * 2**20
    weights_bytes: int = 8 * 2**30
    total_bytes: int = 40 * 2**30
    expansion: int = 100


DEFAULT_LIMITS = ArchiveLimits()


class UnsafeArchive(Exception):
    """An archive holds what no model has. The text says what, without the name of the archive.

    `install_model` turns it into a `UserError` that names the archive.
    """


def check_entries(
    archive: zipfile.ZipFile, manifest: Manifest, archive_size: int, limits: ArchiveLimits
) -> None:
    """Refuse an archive that holds other files than its manifest, or too much.

    Args:
        archive: The archive.
        manifest: What it says it holds.
        archive_size: Its size in bytes.
        limits: How large it may be.

    Raises:
        UnsafeArchive: It is refused; the text says why.
    """
    entries = [entry for entry in archive.infolist() if entry.filename != MANIFEST_FILE]
    if len(entries) > limits.files:
        raise UnsafeArchive(f"holds {len(entries)} files, expected at most {limits.files}")
    for entry in entries:
        check_entry(entry, limits)
        declared = manifest.files.get(entry.filename)
        if declared is None or declared.size != entry.file_size:
            raise UnsafeArchive(
                f"{entry.filename!r} is not of the size that {MANIFEST_FILE} says, or not named "
                "there"
            )
    _check_completeness([entry.filename for entry in entries], manifest)
    total = sum(entry.file_size for entry in entries)
    if total > min(limits.total_bytes, limits.expansion * archive_size):
        raise UnsafeArchive(f"{archive_size} bytes would become {total}")


def _check_completeness(names: list[str], manifest: Manifest) -> None:
    if sorted(names) != sorted(manifest.files):
        raise UnsafeArchive(f"does not hold each of the files in {MANIFEST_FILE} once")
    required = {DESCRIPTION_FILE}
    for fold in manifest.folds:
        required |= {f"{fold}/{PLAN_FILE}", f"{fold}/{FINAL_WEIGHTS}"}
    missing = sorted(required - set(names))
    if not manifest.folds:
        missing.append("every fold")
    if missing:
        raise UnsafeArchive(f"lacks {missing[0]}")


def check_entry(entry: zipfile.ZipInfo, limits: ArchiveLimits) -> None:
    """Refuse a name, a kind or a size that no file of a model has.

    Args:
        entry: What the directory of the archive says of a file.
        limits: How large it may be.

    Raises:
        UnsafeArchive: It is refused; the text says why.
    """
    # zipfile cuts a name at its first NUL byte: the original name has to be the same.
    if not _is_file_of_model(entry.filename) or entry.orig_filename != entry.filename:
        raise UnsafeArchive(f"holds {entry.orig_filename!r}, which is no file of a model")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise UnsafeArchive(f"{entry.filename!r} is a link or another special file")
    if entry.flag_bits & 1:
        raise UnsafeArchive(f"{entry.filename!r} is encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnsafeArchive(f"{entry.filename!r} is compressed in an unusual way")
    is_weights = entry.filename.endswith(f"/{FINAL_WEIGHTS}")
    limit = limits.weights_bytes if is_weights else limits.text_bytes
    if entry.file_size > limit:
        raise UnsafeArchive(
            f"{entry.filename!r} has {entry.file_size} bytes, expected at most {limit}"
        )


def _is_file_of_model(name: str) -> bool:
    if name in _FILES_OF_MODEL:
        return True
    folder, _, file_name = name.rpartition("/")
    is_known = file_name in (PLAN_FILE, FINAL_WEIGHTS, BASE_FILE, TRAINING_DATA_FILE)
    return is_known and FOLD_FOLDER.fullmatch(folder) is not None
