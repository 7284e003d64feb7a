"""Figures of several cases in one folder, a sheet of all of them, and a record of what is there."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError
from samnet.core.figures import save_figure
from samnet.core.files import read_json, remove_partial_files, write_json
from samnet.core.progress import ProgressBar
from samnet.core.worker_pool import Outcome, describe_error
from samnet.dataset.description import DatasetDescription
from samnet.evaluation.overlays.case_figure import draw_case, legend_of_panel, main_panel
from samnet.evaluation.overlays.choice import ChosenCase
from samnet.evaluation.overlays.panels import Panel
from samnet.evaluation.overlays.sheets import DPI, LegendEntry, Row, draw_sheet
from samnet.evaluation.overlays.shown_case import CaseFiles, ShownCase

INDEX_FILE = "index.png"
RECORD_FILE = "figures.json"
_MOST_IN_INDEX = 24
_IN_A_ROW = 4
_CELL = 320  # height and width of a panel of the index, in screen pixels

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaseToDraw:
    """A case to draw.

    Attributes:
        chosen: Its name and its place among the cases.
        files: Its files.
    """

    chosen: ChosenCase
    files: CaseFiles


def draw_cases(
    cases: Sequence[CaseToDraw],
    description: DatasetDescription,
    output: Path,
    max_seconds: float | None = None,
) -> Outcome:
    """Draw cases as `01_CASE.png` and so on, `index.png` with all of them, and `figures.json`.

    The figures that an earlier call has drawn there are removed. A case that cannot be drawn does
    not stop the others.

    Args:
        cases: The cases in the order in which they are numbered.
        description: The data set, which declares channels and labels.
        output: The folder for the figures.
        max_seconds: About how long to draw. The first case is drawn in any case; those for which no
            time is left are not, and a line in the log says so. None for no limit.

    Returns:
        The file of each case that is drawn, and why others are not.
    """
    remove_figures(output)
    remove_partial_files(output)
    outcome, records = Outcome(), []
    panels: list[Panel] = []
    legend: dict[str, LegendEntry] = {}
    began, longest = time.monotonic(), 0.0
    with ProgressBar(cases, desc="drawing", unit="case") as bar:
        for number, case in enumerate(bar, 1):
            started = time.monotonic()
            has_time = max_seconds is None or started - began + longest <= max_seconds
            if number > 1 and not has_time:
                log.info("%s: %d of %d cases drawn in the time", output, number - 1, len(cases))
                break
            name = case.chosen.identifier
            file = output / f"{number:02d}_{name}.png"
            try:
                panel, entries = _draw(case, description, file)
            except Exception as error:
                log.debug("case %s not drawn", name, exc_info=error)
                outcome.failures[name] = describe_error(error)
                continue
            outcome.results[name] = file
            panels.append(panel)
            legend.update({entry.name: entry for entry in entries})
            records.append(_record(case.chosen, file))
            longest = max(longest, time.monotonic() - started)
    if records:
        write_json(output / RECORD_FILE, {"index": INDEX_FILE, "cases": records})
        _draw_index(panels, list(legend.values()), output / INDEX_FILE)
    return outcome


def _draw(
    case: CaseToDraw, description: DatasetDescription, file: Path
) -> tuple[Panel, list[LegendEntry]]:
    """Draw a case, and return its panel of the index, and the legend of that."""
    shown = ShownCase(case.files, description)
    save_figure(draw_case(shown, case.chosen.heading), file, DPI)
    plane = shown.volume.plane(shown.volume.main_axis(), shown.place, shown.enlarged)
    caption = f"{case.chosen.identifier}\n{_describe(case.chosen)}"
    return replace(main_panel(shown, plane), caption=caption), legend_of_panel(shown)


def _describe(chosen: ChosenCase) -> str:
    dice = "" if math.isnan(chosen.mean_dice) else f"mean Dice {chosen.mean_dice:.3f}"
    return ", ".join(text for text in (dice, chosen.heading) if text)


def _record(chosen: ChosenCase, file: Path) -> dict[str, Any]:
    dice = None if math.isnan(chosen.mean_dice) else chosen.mean_dice
    return {
        "case": chosen.identifier,
        "file": file.name,
        "heading": chosen.heading,
        "mean_dice": dice,
    }


def _draw_index(panels: Sequence[Panel], legend: Sequence[LegendEntry], file: Path) -> None:
    title = ["All drawn cases, each at the place that its own figure shows"]
    shown = panels[:_MOST_IN_INDEX]
    rows = []
    for start in range(0, len(shown), _IN_A_ROW):
        part = tuple(shown[start : start + _IN_A_ROW])
        rows.append(Row("", part, cell=_CELL))
    save_figure(draw_sheet(title, rows, legend), file, DPI)


def remove_figures(folder: Path) -> None:
    """Remove the figures of `draw_cases` in a folder, as far as its record names them.

    Args:
        folder: The folder; it need not exist.
    """
    record = folder / RECORD_FILE
    if not record.is_file():
        return
    try:
        content = read_json(record)
        names = [str(case["file"]) for case in content["cases"]]
    except (UserError, KeyError, TypeError):
        return  # not a record of ours: nothing is removed
    for name in [*names, INDEX_FILE, RECORD_FILE]:
        file = folder / name
        if file.parent == folder:
            file.unlink(missing_ok=True)
