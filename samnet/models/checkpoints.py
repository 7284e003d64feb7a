"""SAM's released weights: where they lie, and how they come into an encoder of another input size.

The files and their hashes are those of the segment-anything repository (Apache-2.0).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from samnet.core.errors import UserError
from samnet.planning.backbones import Backbone


@dataclass(frozen=True)
class Checkpoint:
    """A released file: its name, address and hash."""

    file_name: str
    sha256: str

    @property
    def url(self) -> str:
        return f"https://dl.fbaipublicfiles.com/segment_anything/{self.file_name}"


CHECKPOINTS = {
    "vit_b": Checkpoint("sam_vit_b_01ec64.pth", "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"),
    "vit_l": Checkpoint("sam_vit_l_0b3195.pth", "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622"),
    "vit_h": Checkpoint("sam_vit_h_4b8939.pth", "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e"),
}


def checkpoints_folder() -> Path:
    """`samnet_checkpoints`, else a folder in the user's cache."""
    return Path(os.environ.get("samnet_checkpoints") or Path.home() / ".cache" / "samnet" / "checkpoints")


def find_checkpoint(backbone: Backbone) -> Path:
    """The file with a backbone's released weights.

    Raises:
        UserError: it is not there; the message says which file, from where, and to which folder.
    """
    checkpoint = CHECKPOINTS[backbone.name]
    file = checkpoints_folder() / checkpoint.file_name
    if not file.is_file():
        raise UserError(
            f"the weights of {backbone.name} are not on this machine. Download {checkpoint.url} "
            f"(sha256 {checkpoint.sha256}) to {file.parent}, or set samnet_checkpoints to the folder that holds "
            f"{file.name}; or train with --backbone small"
        )
    return file


def load_checkpoint(file: Path) -> dict[str, Tensor]:
    """All tensors of a `.pth` (never unpickling code) or `.safetensors` file.

    Raises:
        UserError: the file cannot be read, or holds something else than tensors by name.
    """
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{file}: cannot be read as weights ({type(error).__name__}: {error})") from None
    for key in ("model", "state_dict"):  # some fine-tuned checkpoints wrap their weights
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{file}: holds no weights by name")
    return content


def load_sam_weights(encoder: nn.Module, head: nn.Module, weights: dict[str, Tensor], where: str) -> None:
    """Fill an encoder and, where it has SAM's parts, a head from weights with SAM's names.

    Position tables are resized to the encoder's input. Mask tokens and what depends on their number start anew.

    Raises:
        UserError: encoder weights are missing or have another shape: the file is of another backbone.
    """
    own = encoder.state_dict()
    found = {
        key.removeprefix("image_encoder."): value for key, value in weights.items() if key.startswith("image_encoder.")
    }
    missing = sorted(set(own) - set(found))
    if missing:
        raise UserError(f"{where}: lacks {len(missing)} of the encoder's weights, such as image_encoder.{missing[0]}")
    resized = {key: resize_position_table(key, found[key], own[key].shape) for key in own}
    wrong = [key for key in own if resized[key].shape != own[key].shape]
    if wrong:
        raise UserError(
            f"{where}: image_encoder.{wrong[0]} has shape {tuple(resized[wrong[0]].shape)}, expected "
            f"{tuple(own[wrong[0]].shape)}; the file is of another backbone"
        )
    encoder.load_state_dict(resized)
    head_state = head.state_dict()
    fitting = {
        key: value for key, value in weights.items() if key in head_state and _is_reusable(key, value, head_state)
    }
    head.load_state_dict(head_state | fitting)


_DEPENDS_ON_CLASSES = ("mask_tokens", "output_hypernetworks_mlps", "iou_prediction_head")


def _is_reusable(key: str, value: Tensor, head_state: dict[str, Tensor]) -> bool:
    return value.shape == head_state[key].shape and not any(part in key for part in _DEPENDS_ON_CLASSES)


def resize_position_table(key: str, table: Tensor, shape: torch.Size) -> Tensor:
    """Positions for another input size: `pos_embed` `(1, G, G, D)` bilinearly, `rel_pos` `(2 G - 1, D)` linearly."""
    if table.shape == shape:
        return table
    if key == "pos_embed" and table.ndim == 4:
        grid = functional.interpolate(table.permute(0, 3, 1, 2), size=shape[1:3], mode="bilinear")
        return grid.permute(0, 2, 3, 1)
    if "rel_pos" in key and table.ndim == 2:
        return functional.interpolate(table.T[None], size=shape[0], mode="linear")[0].T
    return table
