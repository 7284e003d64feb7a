"""The weights an adapter was trained on: recorded with the run, found again, and checked.

An adapter on other weights than its own predicts nonsense without any error, and many files have
the same shape: SAM's, MedSAM's, those of other fine-tunings. So every run records the name and hash
of its base in `base.json`. It is one file for all checkpoints of the run, written before the first
of them. A person can read it, and it lies unchanged in an archive.
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
from samnet.models.model_folder import RunFolder
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


@dataclass(frozen=True)
class Base:
    """A file of weights of a backbone's shape.

    Attributes:
        backbone: The name of the backbone.
        file_name: The name of the file, without its folder.
        sha256: The sha256 of its content, in hexadecimal.
    """

    backbone: str
    file_name: str
    sha256: str

    def __str__(self) -> str:
        released = find_released(self.sha256)
        origin = f"the released {released}" if released else "none of the released files"
        return f"{self.file_name} ({origin}, sha256 {self.sha256})"


def comes_with_samnet(base: Base) -> bool:
    """Tell whether a file of weights is one that is installed with samnet.

    Args:
        base: The file.
    """
    return find_released(base.sha256) in PACKAGED


def base_sha256(file: Path) -> str:
    """Return the sha256 of a file of weights, which is remembered in a note next to it.

    Args:
        file: The file.

    Returns:
        The hash in hexadecimal.

    Raises:
        UserError: The file cannot be read.
    """
    try:
        # Nothing is written into the installed package, whose files are small.
        return file_sha256(file) if file.parent == PACKAGED_FOLDER else remembered_sha256(file)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None


def needs_base(configuration: Configuration) -> bool:
    """Tell whether a trained model is complete only with the weights it started from.

    Args:
        configuration: The configuration of the model.

    Returns:
        False where it started from random weights, or everything was trained.
    """
    if configuration.initial_weights == "random":
        return False
    has_frozen_decoder = configuration.head == "mask_decoder_lora"
    return configuration.encoder_tuning != "full" or has_frozen_decoder


def find_base_file(configuration: Configuration) -> Path | None:
    """Find the file a training run starts from.

    `initial_weights` is `pretrained` (the backbone's released file), `random`, or another file of
    the same shape: a path, or the name of a file in the checkpoints folder.

    Args:
        configuration: The configuration to train.

    Returns:
        The file; None for random weights.

    Raises:
        UserError: It is not on this machine.
    """
    wanted = configuration.initial_weights
    if wanted == "random":
        return None
    if wanted == "pretrained":
        return find_checkpoint(BACKBONES[configuration.backbone])
    file = _first_file(_places(wanted))
    if file is None:
        tried = " or ".join(str(place) for place in _places(wanted))
        raise UserError(
            f"initial_weights is {wanted!r}, and there is no {tried}; put the file there or give "
            "its path"
        )
    return file


def record_base(configuration: Configuration, run: RunFolder, file: Path | None) -> None:
    """Record which file a run starts from.

    Args:
        configuration: The configuration to train.
        run: The folder of the run.
        file: The file; None for random weights, which leave no record.
    """
    if file is None:
        run.base_file.unlink(missing_ok=True)
        return
    base = Base(configuration.backbone, file.name, base_sha256(file))
    is_released = find_released(base.sha256) == base.backbone
    if configuration.initial_weights == "pretrained" and not is_released:
        log.warning("%s is not the released file: its sha256 is %s", file, base.sha256)
    save_base(base, run)


def find_model_base(configuration: Configuration, run: RunFolder) -> Path | None:
    """Find the file that a trained model needs in addition to its own weights, and check it.

    Args:
        configuration: The configuration of the model.
        run: The folder of its run.

    Returns:
        The file; None where the model needs none.

    Raises:
        UserError: The file is not on this machine, or only others are; the message names the right
            one.
    """
    if not needs_base(configuration):
        return None
    if not run.base_file.is_file():
        log.warning(
            "%s has no %s: whether the weights here are those it was trained on is unknown",
            run,
            run.base_file.name,
        )
        return find_base_file(configuration)
    return _find_recorded(load_base(run.base_file), configuration, run)


def save_base(base: Base, run: RunFolder) -> None:
    """Write the record of a base.

    Args:
        base: The file of weights.
        run: The folder of the run that starts from it.
    """
    write_json(run.base_file, to_json(base))


def load_base(file: Path) -> Base:
    """Read a `base.json`.

    Args:
        file: The file.

    Returns:
        Its content.

    Raises:
        UserError: It is missing or damaged, or holds no plain file name or no hash.
    """
    base = from_json(Base, read_json(file), str(file))
    is_plain_name = base.file_name == Path(base.file_name).name and "\\" not in base.file_name
    if not is_sha256(base.sha256) or not is_plain_name:
        raise UserError(
            f"{file}: expected the name of a file and its sha256, found {base.file_name!r}, "
            f"{base.sha256!r}"
        )
    return base


def locate(base: Base, *, preferred: Path | None = None) -> tuple[Path | None, list[Path]]:
    """Look for the file of a base on this machine.

    Args:
        base: The file of weights.
        preferred: Where to look first.

    Returns:
        The file with the right content, or None; and the files with another content that were found
        in its place.
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


def _find_recorded(base: Base, configuration: Configuration, run: RunFolder) -> Path:
    wanted = configuration.initial_weights
    preferred = None
    if wanted not in ("pretrained", "random"):
        preferred = _first_file(_places(wanted))
    file, others = locate(base, preferred=preferred)
    if file is not None:
        return file
    found = ""
    for other in others:
        content = Base(base.backbone, other.name, base_sha256(other))
        found += f"; {other} has another content ({content})"
    raise UserError(
        f"{run} was trained on {base}, which is not on this machine{found}. {advice(base)}"
    )


def advice(base: Base) -> str:
    """Say how a user gets a file of weights onto this machine.

    Args:
        base: The file.

    Returns:
        A sentence.
    """
    released = find_released(base.sha256)
    if released:
        return how_to_get(released)
    return (
        f"Get it from whoever trained the model, and put it into {checkpoints_folder()} as "
        f"{base.file_name}"
    )


def _places(wanted: str) -> list[Path]:
    given = Path(wanted).expanduser()
    return [given] if given.is_absolute() else [given, checkpoints_folder() / given]


def _first_file(places: list[Path]) -> Path | None:
    return next((place for place in places if place.is_file()), None)
