"""The released weights that samnet knows: name, address, hash, licence and pixel statistics.

Files and hashes are those of the segment-anything repository. This module does not import torch,
because the command line imports it for `--help`.
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
    """A released file of pre-trained weights.

    Attributes:
        file_name: Name of the file, both on the server and in the checkpoints folder.
        sha256: Its hash, in hexadecimal.
        size: Its size in bytes; None where the size is not known.
        folder_url: Address of the folder that it lies in, with a slash at the end.
        licence: Licence of the weights.
        pixel_mean: Mean of `(red, green, blue)`, of pixel values from 0 to 1, by which the images
            of its pre-training were normalised.
        pixel_std: Standard deviation of `(red, green, blue)`, of pixel values from 0 to 1.
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
        """Address of the file."""
        return self.folder_url + self.file_name


# Keyed by the name of the backbone.
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
    """Weights that are installed with samnet, in `samnet/weights`; see docs/small_backbone.md.

    Attributes:
        file_name: Name of the file.
        sha256: Its hash, in hexadecimal.
    """

    file_name: str
    sha256: str

    @property
    def path(self) -> Path:
        """Path of the installed file."""
        return PACKAGED_FOLDER / self.file_name


PACKAGED_FOLDER = Path(__file__).resolve().parents[1] / "weights"
# The file name contains the version, because a model works only with the version that it was
# trained on.
PACKAGED = {
    "small": PackagedWeights(
        "small_v1.safetensors", "cc6e527818e01f725c9f17467245fa491a85aabc3097b1cc5863cf852a64319c"
    )
}


def checkpoints_folder() -> Path:
    """Return the folder of downloaded weights: `samnet_checkpoints`, or one in the user's cache."""
    return Path(
        os.environ.get("samnet_checkpoints") or Path.home() / ".cache" / "samnet" / "checkpoints"
    )


def find_checkpoint(backbone: Backbone) -> Path:
    """Find the file with a backbone's released weights.

    Args:
        backbone: The backbone, with released weights.

    Returns:
        The file that is installed with samnet, the downloaded `.pth` file, or the `.safetensors`
        file that it was converted to.

    Raises:
        UserError: The file is missing. The message names it, its address and its folder.
    """
    if backbone.name in PACKAGED:
        packaged = PACKAGED[backbone.name].path
        if packaged.is_file():
            return packaged
        raise UserError(f"{packaged}: no such file. {how_to_get(backbone.name)}")
    checkpoint = CHECKPOINTS[backbone.name]
    downloaded = checkpoints_folder() / checkpoint.file_name
    for candidate in (downloaded, downloaded.with_suffix(".safetensors")):
        if candidate.is_file():
            return candidate
    raise UserError(
        f"the weights of {backbone.name} are not on this machine. {how_to_get(backbone.name)}; "
        "or train with --backbone small"
    )


def how_to_get(name: str) -> str:
    """Tell the user how to get the released weights of a backbone, with a network or without.

    Args:
        name: Name of the backbone.

    Returns:
        A sentence for an error message, without a full stop at its end.
    """
    if name in PACKAGED:
        return "It is part of samnet: install samnet again"
    checkpoint = CHECKPOINTS[name]
    return (
        f"Run samnet_download_checkpoint {name}; or, without a network, download {checkpoint.url} "
        f"elsewhere (sha256 {checkpoint.sha256}) and put it into {checkpoints_folder()}, or set "
        f"samnet_checkpoints to the folder that holds {checkpoint.file_name}"
    )


def find_released(sha256: str) -> str | None:
    """Return the name of the backbone whose released file has a hash.

    Args:
        sha256: The hash, in hexadecimal.

    Returns:
        The name, or None where no released file has this hash.
    """
    hashes = {name: file.sha256 for name, file in CHECKPOINTS.items()}
    hashes |= {name: file.sha256 for name, file in PACKAGED.items()}
    for name, known in hashes.items():
        if known == sha256:
            return name
    return None
