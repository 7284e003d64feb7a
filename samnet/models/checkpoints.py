"""Reads weights with SAM's names from a file into an encoder of another input size and a head."""

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
from samnet.core.files import require_readable
from samnet.core.read_failures import raise_failure_of_machine
from samnet.models.heads.head import Head

log = logging.getLogger(__name__)
_SAM_PARTS = ("prompt_encoder.", "mask_decoder.")
_HEAD_PARTS = (*_SAM_PARTS, "upsampling.")  # the last is in samnet's weights, not in SAM's


def load_checkpoint(file: Path) -> dict[str, Tensor]:
    """Read all tensors of a `.pth` or `.safetensors` file; no code in a pickle is ever run.

    The tensors may lie under `model` or `state_dict`, and their names may begin with the `module.`
    of parallel training, as in fine-tuned files.

    Args:
        file: The file to read.

    Returns:
        The tensors by SAM's names.

    Raises:
        UserError: The file cannot be read, or holds something other than tensors by name.
    """
    require_readable(file)
    if file.suffix == ".safetensors":
        return _read_safetensors(file)
    content = _read_pickle(file)
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    tensors = {}
    if isinstance(content, dict):
        tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{file}: holds no weights by name")
    return {key.removeprefix("module."): value for key, value in tensors.items()}


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except Exception as error:
        raise_failure_of_machine(file, error)
        raise _unreadable(file, error) from None


def _read_pickle(file: Path) -> object:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL (\S+)", str(error))
        what = "is damaged, or no file of weights"
        if code:
            what = f"holds more than weights ({code[1]})"
        raise UserError(
            f"{file}: {what}; samnet runs no code from a file. Get the weights alone, as "
            "safetensors or a state_dict"
        ) from None
    except Exception as error:
        raise_failure_of_machine(file, error)
        raise _unreadable(file, error) from None


def _unreadable(file: Path, error: Exception) -> UserError:
    return UserError(f"{file}: cannot be read as weights ({type(error).__name__}: {error})")


def load_sam_weights(
    encoder: nn.Module, head: Head, weights: dict[str, Tensor], where: str
) -> None:
    """Fill an encoder and, if it has SAM's parts, a head from weights with SAM's names.

    Position tables are resized to the encoder's input. What SAM's decoder lacks of a head, such as
    the tokens of other classes, keeps its random values. The encoder takes the tensors themselves,
    without a copy; it may have been built on torch's `meta` device.

    Args:
        encoder: The encoder to fill.
        head: The head to fill.
        weights: The tensors by SAM's names.
        where: What to call the weights in messages, such as the name of their file.

    Raises:
        UserError: Encoder weights are missing, unknown or have another shape: the file is of
            another backbone.
    """
    own = encoder.state_dict()
    found = {
        key.removeprefix("image_encoder."): value
        for key, value in weights.items()
        if key.startswith("image_encoder.")
    }
    _check_names(set(found), set(own), where)
    resized = {}
    for key, value in own.items():
        resized[key] = resize_position_table(key, found[key], value.shape).to(value.dtype)
        if resized[key].shape != value.shape:
            raise UserError(
                f"{where}: image_encoder.{key} has shape {tuple(resized[key].shape)}, expected "
                f"{tuple(value.shape)}; the file is of another backbone"
            )
    encoder.load_state_dict(resized, assign=True)
    _load_head(head, weights, where)


def _check_names(found: set[str], expected: set[str], where: str) -> None:
    """Raise a UserError if weights of the encoder are missing or unknown."""
    missing, unknown = sorted(expected - found), sorted(found - expected)
    if missing:
        raise UserError(
            f"{where}: lacks {len(missing)} of the encoder's weights, such as "
            f"image_encoder.{missing[0]}"
        )
    if unknown:
        raise UserError(
            f"{where}: has {len(unknown)} weights more than the encoder, such as "
            f"image_encoder.{unknown[0]}; the file is of another backbone, or of one that was "
            "changed"
        )


def _load_head(head: Head, weights: dict[str, Tensor], where: str) -> None:
    """Copy the weights that fit a head, and warn of those that SAM's parts lack."""
    fitting, absent = {}, []
    for key, value in head.state_dict().items():
        stays_random = any(part in key for part in head.randomly_initialised)
        is_for_output = any(part in key for part in head.one_for_each_output)
        if stays_random or not key.startswith(_HEAD_PARTS):
            continue
        if key in weights and weights[key].shape == value.shape:
            fitting[key] = weights[key]
        elif key.startswith(_SAM_PARTS) and not is_for_output:
            absent.append(key)
    if absent:
        log.warning(
            "%s: lacks %d weights of the decoder, which start from random values, such as %s",
            where,
            len(absent),
            min(absent),
        )
    head.load_state_dict(fitting, strict=False)


def resize_position_table(key: str, table: Tensor, shape: torch.Size) -> Tensor:
    """Resize a table of positions to another input size; return any other tensor unchanged.

    Args:
        key: Name of the weight within the encoder. `pos_embed` is resized bilinearly, a `rel_pos`
            table linearly.
        table: `pos_embed` `(1, G, G, D)`, a `rel_pos` table `(2 G - 1, D)`, or another weight.
        shape: The shape that the encoder needs.

    Returns:
        The table, of the requested shape if it is one of positions.
    """
    if table.shape == shape:
        return table
    table = table.float()  # not every interpolation exists in half precision
    if key == "pos_embed" and table.ndim == 4:
        grid = functional.interpolate(table.permute(0, 3, 1, 2), size=shape[1:3], mode="bilinear")
        return grid.permute(0, 2, 3, 1).contiguous()
    if "rel_pos" in key and table.ndim == 2:
        return functional.interpolate(table.T[None], size=shape[0], mode="linear")[0].T.contiguous()
    return table
