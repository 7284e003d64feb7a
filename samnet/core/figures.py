"""Figures for people: made without a window, whatever the environment says, and never fatal."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from samnet.core.files import atomic_path
from samnet.core.worker_pool import describe_error

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

log = logging.getLogger(__name__)
_BACKEND_VARIABLE = "MPLBACKEND"
_reported: set[Path] = set()  # files whose figure could not be drawn


@contextlib.contextmanager
def drawing_may_fail(file: Path) -> Iterator[None]:
    """Log that a figure could not be drawn, in place of ending the work that it only illustrates.

    A figure that is drawn again and again is reported once.

    Args:
        file: The file of the figure.

    Yields:
        Nothing.
    """
    try:
        yield
    except Exception as error:
        log.debug("%s: not drawn", file, exc_info=error)
        if file not in _reported:
            _reported.add(file)
            log.warning(
                "%s: not drawn, everything else is unaffected (%s)", file, describe_error(error)
            )


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure that needs no display.

    Args:
        width: In inches.
        height: In inches.

    Returns:
        The figure.
    """
    _import_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def name_legend(legend: Legend, names: Sequence[str]) -> None:
    """Write names into a legend whose entries have placeholders.

    matplotlib leaves entries out whose name begins with an underscore, so names are set afterwards.

    Args:
        legend: The legend.
        names: One name for each entry.
    """
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)


def save_figure(figure: Figure, file: Path, dpi: int) -> None:
    """Write a figure, whole or not at all.

    All texts are shown literally: names of classes and cases may hold `$`, which matplotlib takes
    for the beginning of a formula.

    Args:
        figure: The figure.
        file: The file; its ending chooses the format.
        dpi: Resolution in dots per inch.
    """
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_usetex(False)
    with atomic_path(file) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(temporary, dpi=dpi)


def _import_matplotlib() -> None:
    """Import matplotlib without the backend that the environment names.

    A notebook names its own backend to the programs that it starts, and where that backend's
    package is missing, importing matplotlib fails. Afterwards matplotlib is told of the backend, as
    the program that samnet runs in may use it.
    """
    if "matplotlib" in sys.modules:
        return
    backend = os.environ.pop(_BACKEND_VARIABLE, None)
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ[_BACKEND_VARIABLE] = backend
    if backend:
        with contextlib.suppress(ValueError):  # there is no such backend
            matplotlib.rcParams["backend"] = backend
