"""What SAMed's code (arXiv 2304.13785) cannot do with a model, or does otherwise than samnet."""

from __future__ import annotations

from samnet.core.errors import UserError
from samnet.core.geometry import PATIENT
from samnet.dataset.label_scheme import LabelScheme
from samnet.plan.configuration import Configuration, IntensityWindow
from samnet.preprocessing.slice_frame import SCALE

_SAMEDS_WINDOW = (-125.0, 275.0)
_SAMEDS_INPUT = 512


def refuse_beyond_samed(configuration: Configuration, scheme: LabelScheme, where: str) -> None:
    """Refuse a model whose logits SAMed's code cannot compute.

    Args:
        configuration: The configuration of the model.
        scheme: Its classes or regions.
        where: What to call the model in messages.

    Raises:
        UserError: The model has regions, stacks of slices, SAM's pixel statistics or another layout
            of channels.
    """
    if scheme.regions is not None:
        raise UserError(
            f"{where}: was trained on regions; SAMed's code would take them for classes"
        )
    if configuration.depth > 1:
        raise UserError(
            f"{where}: was trained on stacks of {configuration.depth} slices; SAMed's code has no "
            "adapters over slices. Train with --set depth=1"
        )
    if configuration.pixel_statistics != "none":
        raise UserError(
            f"{where}: was trained with SAM's pixel mean and standard deviation; SAMed's code "
            "replaces them by 0 and 1, and would predict something else. Train with --set "
            "pixel_statistics=none"
        )
    layout = configuration.channel_layout
    if layout != "repeat":
        raise UserError(
            f"{where}: was trained with the channel_layout {layout!r}; SAMed's code repeats a "
            "single channel of a single slice. Train with --set channel_layout=repeat"
        )


def differences_of_samed(configuration: Configuration) -> list[str]:
    """Say what SAMed's code does otherwise with the images of a model than its training did.

    Args:
        configuration: The configuration of the model.

    Returns:
        A sentence for each difference; none where SAMed's own scripts do the same.
    """
    [window] = configuration.intensity
    found = [
        _about_intensities(window),
        _about_frame(configuration),
        _about_axes(configuration),
    ]
    if configuration.background_outside:
        found.append(
            "predictions are set to background outside the field of view; SAMed's code takes what "
            "the network predicts there"
        )
    if configuration.input_size != _SAMEDS_INPUT:
        found.append(f"give SAMed's scripts --img_size {configuration.input_size}")
    return [sentence for sentence in found if sentence]


def _about_intensities(window: IntensityWindow) -> str:
    if window.scheme == "fixed":
        if (window.lower, window.upper) == _SAMEDS_WINDOW:
            return ""
        return (
            f"intensities from {window.lower:g} to {window.upper:g} became 0 to 1; SAMed's code "
            "prepares CT from -125 to 275 HU. Prepare images with these limits"
        )
    limits = "its lowest and highest value"
    each = "slice"
    if window.scheme == "percentiles":
        limits = f"the percentiles {window.lower:g} and {window.upper:g} of its non-zero voxels"
        each = "image"
    return (
        f"each {each} was scaled by {limits}; SAMed's code has fixed limits. Scale each {each} "
        "to 0 to 1 beforehand"
    )


def _about_frame(configuration: Configuration) -> str:
    if configuration.frame != SCALE:
        return ""
    millimetres = configuration.in_plane_spacing / configuration.zoom
    return (
        f"all slices were shown at one scale, {millimetres:.3g} mm a pixel; SAMed's code stretches "
        "each slice to the input. Pad or crop slices to squares of "
        f"{millimetres * configuration.input_size:.4g} mm"
    )


def _about_axes(configuration: Configuration) -> str:
    if len(configuration.views) > 1:
        return "slices across several axes were averaged; SAMed's code predicts those of one axis"
    if configuration.orientation == PATIENT:
        return (
            "slices were turned to the patient's axes: rows to the front, columns to the right; "
            "SAMed's code takes them as they lie in a file"
        )
    return ""
