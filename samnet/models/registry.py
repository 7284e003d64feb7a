"""The released weights samnet knows: name, address, hash, licence and pixel statistics of each file.

Files and hashes are those of the segment-anything repository. Imports no torch: the command line reads it for `--help`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from samnet.core.errors import UserError
from samnet.plan.backbones import Backbone

SAM_ADDRESS = "https://dl.fbaipublicfiles.com/segment_anything/"
# SAM's pixel statistics (0 to 255) as in its released model; images here go from 0 to 1.
PIXEL_MEAN = (123.675 / 255, 116.28 / 255, 103.53 / 255)
PIXEL_STD = (58.395 / 255, 57.12 / 255, 57.375 / 255)


@dataclass(frozen=True)
class Checkpoint:
    """A released file.

    size: in bytes, None where nobody here could read it. folder_url: address of the folder it lies in.
    pixel_mean, pixel_std: what its images were normalised with, of values from 0 to 1, red first.
    """

    file_name: str
    sha256: str
    size: int | None = None
    folder_url: str = SAM_ADDRESS
    licence: str = "Apache-2.0"
    pixel_mean: tuple[float, float, float] = PIXEL_MEAN
    pixel_std: tuple[float, float, float] = PIXEL_STD

    @property
    def url(self) -> str:
        return self.folder_url + self.file_name


# By the name of the backbone the weights are of.
CHECKPOINTS = {
    "vit_b": Checkpoint(
        "sam_vit_b_01ec64.pth",
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        375_042_383,
    ),
    "vit_l": Checkpoint(
        "sam_vit_l_0b3195.pth", "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622"
    ),
    "vit_h": Checkpoint(
        "sam_vit_h_4b8939.pth",
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        2_564_550_879,
    ),
}


@dataclass(frozen=True)
class PackagedWeights:
    """Weights that come with samnet, see docs/small_backbone.md: a file in `samnet/weights`."""

    file_name: str
    sha256: str

    @property
    def path(self) -> Path:
        return PACKAGED_FOLDER / self.file_name


PACKAGED_FOLDER = Path(__file__).resolve().parents[1] / "weights"
# The name says the version: a model that was trained on one is of no use with another.
PACKAGED = {
    "small": PackagedWeights(
        "small_v1.safetensors", "cc6e527818e01f725c9f17467245fa491a85aabc3097b1cc5863cf852a64319c"
    )
}


def checkpoints_folder() -> Path:
    """`samnet_checkpoints`, else a folder in the user's cache."""
    return Path(
        os.environ.get("samnet_checkpoints") or Path.home() / ".cache" / "samnet" / "checkpoints"
    )


def find_checkpoint(backbone: Backbone) -> Path:
    """The file with a backbone's released weights: one of samnet's own, or as it is downloaded or converted.

    Raises:
        UserError: it is not there; the message says which file, from where, and to which folder.
    """
    if backbone.name in PACKAGED and PACKAGED[backbone.name].path.is_file():
        return PACKAGED[backbone.name].path
    if backbone.name in PACKAGED:
        raise UserError(
            f"{PACKAGED[backbone.name].path}: no such file. {how_to_get(backbone.name)}"
        )
    checkpoint = CHECKPOINTS[backbone.name]
    file = checkpoints_folder() / checkpoint.file_name
    for candidate in (file, file.with_suffix(".safetensors")):
        if candidate.is_file():
            return candidate
    raise UserError(
        f"the weights of {backbone.name} are not on this machine. {how_to_get(backbone.name)}; "
        "or train with --backbone small"
    )


def how_to_get(name: str) -> str:
    """What a user does to have the released weights of a backbone here, with a network or without."""
    if name in PACKAGED:
        return "It is part of samnet: install samnet again"
    checkpoint = CHECKPOINTS[name]
    return (
        f"Run samnet_download_checkpoint {name}; or, without a network, download {checkpoint.url} elsewhere "
        f"(sha256 {checkpoint.sha256}) and put it into {checkpoints_folder()}, or set samnet_checkpoints to the folder "
        f"that holds {checkpoint.file_name}"
    )


def find_released(sha256: str) -> str | None:
    """The backbone whose released file has this hash."""
    hashes = {name: file.sha256 for name, file in CHECKPOINTS.items()}
    hashes |= {name: file.sha256 for name, file in PACKAGED.items()}
    return next((name for name, known in hashes.items() if known == sha256), None)
