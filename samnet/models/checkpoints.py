"""How weights with SAM's names come from a file into an encoder of another input size, and into a head."""

from __future__ import annotations

import logging
import pickle
import re
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from samnet.core.errors import UserError
from samnet.models.heads.head import Head

log = logging.getLogger(__name__)
_SAM_PARTS = ("prompt_encoder.", "mask_decoder.")
_PARTS_OF_HEADS = (*_SAM_PARTS, "upsampling.")  # the last is in samnet's own weights, not in SAM's


def load_checkpoint(file: Path) -> dict[str, Tensor]:
    """All tensors of a `.pth` (never unpickling code) or `.safetensors` file, by SAM's names.

    They may lie under `model` or `state_dict`, and carry the `module.` of parallel training, as in fine-tuned files.

    Raises:
        UserError: the file cannot be read, or holds something else than tensors by name.
    """
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL (\S+)", str(error))
        what = (
            f"holds more than weights ({code[1]})" if code else "is damaged, or no file of weights"
        )
        raise UserError(
            f"{file}: {what}; samnet runs no code from a file. Get the weights alone, as safetensors or a state_dict"
        ) from None
    except Exception as error:
        raise UserError(
            f"{file}: cannot be read as weights ({type(error).__name__}: {error})"
        ) from None
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not any(
        isinstance(value, Tensor) for value in content.values()
    ):
        raise UserError(f"{file}: holds no weights by name")
    return {
        key.removeprefix("module."): value
        for key, value in content.items()
        if isinstance(value, Tensor)
    }


def load_sam_weights(
    encoder: nn.Module, head: Head, weights: dict[str, Tensor], where: str
) -> None:
    """Fill an encoder and, where it has SAM's parts, a head from weights with SAM's names.

    Position tables are resized to the encoder's input. What a head has of its own, mask tokens above all, starts anew.
    The encoder takes the tensors themselves, without a copy; it may have been built on torch's `meta` device.

    Raises:
        UserError: encoder weights are missing, unknown or have another shape: the file is of another backbone.
    """
    own = encoder.state_dict()
    found = {
        key.removeprefix("image_encoder."): value
        for key, value in weights.items()
        if key.startswith("image_encoder.")
    }
    missing, unknown = sorted(set(own) - set(found)), sorted(set(found) - set(own))
    if missing:
        raise UserError(
            f"{where}: lacks {len(missing)} of the encoder's weights, such as image_encoder.{missing[0]}"
        )
    if unknown:
        raise UserError(
            f"{where}: has {len(unknown)} weights more than the encoder, such as image_encoder.{unknown[0]}; the file "
            "is of another backbone, or of one that was changed"
        )
    resized = {
        key: resize_position_table(key, found[key], own[key].shape).to(own[key].dtype)
        for key in own
    }
    wrong = [key for key in own if resized[key].shape != own[key].shape]
    if wrong:
        raise UserError(
            f"{where}: image_encoder.{wrong[0]} has shape {tuple(resized[wrong[0]].shape)}, expected "
            f"{tuple(own[wrong[0]].shape)}; the file is of another backbone"
        )
    encoder.load_state_dict(resized, assign=True)
    _load_head(head, weights, where)


def _load_head(head: Head, weights: dict[str, Tensor], where: str) -> None:
    wanted = {
        key: value
        for key, value in head.state_dict().items()
        if key.startswith(_PARTS_OF_HEADS) and not any(part in key for part in head.starts_anew)
    }
    fitting = {
        key: weights[key]
        for key in wanted
        if key in weights and weights[key].shape == wanted[key].shape
    }
    absent = [key for key in sorted(set(wanted) - set(fitting)) if key.startswith(_SAM_PARTS)]
    if absent:
        log.warning(
            "%s: lacks %d weights of the decoder, which start anew, such as %s",
            where,
            len(absent),
            absent[0],
        )
    head.load_state_dict(fitting, strict=False)


def resize_position_table(key: str, table: Tensor, shape: torch.Size) -> Tensor:
    """Positions for another input size: `pos_embed` `(1, G, G, D)` bilinearly, `rel_pos` `(2 G - 1, D)` linearly."""
    if table.shape == shape:
        return table
    table = table.float()  # not every interpolation exists in half precision
    if key == "pos_embed" and table.ndim == 4:
        grid = functional.interpolate(table.permute(0, 3, 1, 2), size=shape[1:3], mode="bilinear")
        return grid.permute(0, 2, 3, 1).contiguous()
    if "rel_pos" in key and table.ndim == 2:
        return functional.interpolate(table.T[None], size=shape[0], mode="linear")[0].T.contiguous()
    return table
