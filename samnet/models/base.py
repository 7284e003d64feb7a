"""The weights an adapter was trained on: recorded with the run, found again, and checked.

An adapter on other weights than its own predicts nonsense without any error, and files of one shape are many: SAM's,
MedSAM's, those of other fine-tunings. So every run notes the name and hash of its base in `base.json`: one file for all
checkpoints of the run, written before the first of them, that a person can read and that lies in an archive as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from samnet.core.errors import UserError
from samnet.core.files import read_json, write_json
from samnet.core.hashing import file_sha256, is_sha256, remembered_sha256
from samnet.core.records import from_json, to_json
from samnet.models.registry import (
    CHECKPOINTS,
    PACKAGED,
    PACKAGED_FOLDER,
    checkpoints_folder,
    find_checkpoint,
    find_released,
    how_to_get,
)
from samnet.plan.backbones import BACKBONES
from samnet.plan.configuration import Configuration

log = logging.getLogger(__name__)
BASE_FILE = "base.json"


@dataclass(frozen=True)
class Base:
    """A file of weights of a backbone's shape.

    file_name: without folder. sha256: of the file's content.
    """

    backbone: str
    file_name: str
    sha256: str

    def __str__(self) -> str:
        released = find_released(self.sha256)
        origin = f"the released {released}" if released else "none of the released files"
        return f"{self.file_name} ({origin}, sha256 {self.sha256})"


def base_sha256(file: Path) -> str:
    """The sha256 of a file of weights, remembered beside it.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        # Nothing is written into the installed package, whose files are small.
        return file_sha256(file) if file.parent == PACKAGED_FOLDER else remembered_sha256(file)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None


def needs_base(configuration: Configuration) -> bool:
    """Whether a trained model of this configuration is complete only together with the weights it started from."""
    everything_trained = (
        configuration.encoder_tuning == "full" and configuration.head != "mask_decoder_lora"
    )
    return configuration.initial_weights != "random" and not everything_trained


def find_base_file(configuration: Configuration) -> Path | None:
    """The file a training starts from; None where it starts from random weights.

    `initial_weights` is `pretrained` (the backbone's released file), or another file of the same shape: a path, or the
    name of a file in the checkpoints folder.

    Raises:
        UserError: it is not on this machine.
    """
    wanted = configuration.initial_weights
    if wanted == "random":
        return None
    if wanted == "pretrained":
        return find_checkpoint(BACKBONES[configuration.backbone])
    file = next((place for place in _places(wanted) if place.is_file()), None)
    if file is None:
        tried = " or ".join(str(place) for place in _places(wanted))
        raise UserError(
            f"initial_weights is {wanted!r}, and there is no {tried}; put the file there or give its path"
        )
    return file


def record_base(configuration: Configuration, folder: Path, file: Path | None) -> None:
    """Note in a run's folder which file it starts from: None for random weights, which leave no note."""
    if file is None:
        (folder / BASE_FILE).unlink(missing_ok=True)
        return
    base = Base(configuration.backbone, file.name, base_sha256(file))
    if (
        configuration.initial_weights == "pretrained"
        and find_released(base.sha256) != base.backbone
    ):
        log.warning("%s is not the released file: its sha256 is %s", file, base.sha256)
    save_base(base, folder)


def find_model_base(configuration: Configuration, folder: Path) -> Path | None:
    """The file a trained model in `folder` needs beside its own weights, checked; None where it needs none.

    Raises:
        UserError: the file is not on this machine, or only others are; the message names the right one.
    """
    if not needs_base(configuration):
        return None
    if not (folder / BASE_FILE).is_file():
        log.warning(
            "%s has no %s: whether the weights here are those it was trained on is unknown",
            folder,
            BASE_FILE,
        )
        return find_base_file(configuration)
    return _find_recorded(load_base(folder / BASE_FILE), configuration, folder)


def save_base(base: Base, folder: Path) -> None:
    write_json(folder / BASE_FILE, to_json(base))


def load_base(file: Path) -> Base:
    """Read a `base.json`.

    Raises:
        UserError: it is missing or damaged, or what it names is no plain file name or no hash.
    """
    base = from_json(Base, read_json(file), str(file))
    if (
        not is_sha256(base.sha256)
        or base.file_name != Path(base.file_name).name
        or "\\" in base.file_name
    ):
        raise UserError(
            f"{file}: expected the name of a file and its sha256, found {base.file_name!r}, {base.sha256!r}"
        )
    return base


def locate(base: Base, *, preferred: Path | None = None) -> tuple[Path | None, list[Path]]:
    """The file with the content of `base` on this machine, if there is one; and the files that are in its place.

    preferred: where to look first.
    """
    others = []
    for file in _candidates(base, preferred):
        if base_sha256(file) == base.sha256:
            return file, []
        others.append(file)
    return None, others


def _candidates(base: Base, preferred: Path | None) -> Iterator[Path]:
    names = [base.file_name]
    if base.backbone in CHECKPOINTS:
        names.append(CHECKPOINTS[base.backbone].file_name)
    places = [preferred] if preferred else []
    places += [checkpoints_folder() / name for name in names]
    if base.backbone in PACKAGED:
        places.append(PACKAGED[base.backbone].path)
    return (place for place in dict.fromkeys(places) if place.is_file())


def _find_recorded(base: Base, configuration: Configuration, folder: Path) -> Path:
    wanted = configuration.initial_weights
    preferred = (
        []
        if wanted in ("pretrained", "random")
        else [place for place in _places(wanted) if place.is_file()]
    )
    file, others = locate(base, preferred=preferred[0] if preferred else None)
    if file is not None:
        return file
    found = "".join(
        f"; {other} has another content ({Base(base.backbone, other.name, base_sha256(other))})"
        for other in others
    )
    raise UserError(
        f"{folder} was trained on {base}, which is not on this machine{found}. {advice(base)}"
    )


def advice(base: Base) -> str:
    """How a user gets the file here."""
    released = find_released(base.sha256)
    if released:
        return how_to_get(released)
    return f"Get it from whoever trained the model, and put it into {checkpoints_folder()} as {base.file_name}"


def _places(wanted: str) -> list[Path]:
    given = Path(wanted).expanduser()
    return [given] if given.is_absolute() else [given, checkpoints_folder() / given]
