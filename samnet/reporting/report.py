"""The page of a report: everything that it shows, put into one file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from samnet.core.files import write_text
from samnet.dataset.images import is_2d_image
from samnet.evaluation.overlays.colours import ERROR_STYLES, class_colour
from samnet.evaluation.overlays.error_maps import CONFUSED
from samnet.reporting.case_table import build_table, has_expectations
from samnet.reporting.curves import draw_curves
from samnet.reporting.data_facts import DataFacts, describe_data
from samnet.reporting.numbers import show_names
from samnet.reporting.origin import describe_origin
from samnet.reporting.plan_words import PlannedValue, important_values, other_values
from samnet.reporting.score_facts import describe_first_glance, describe_scores
from samnet.reporting.source import Source
from samnet.reporting.stacks import Stack, Stacks, make_stacks
from samnet.training.steps_done import steps_done

REPORT_FILE = "report.html"
DEFAULT_VIEWERS = 8
_MOST_NAMES = 20


@dataclass(frozen=True)
class ReportOptions:
    """What a report holds.

    Attributes:
        viewers: The number of cases whose slices it shows.
        command: The words of the command that makes it.
    """

    viewers: int = DEFAULT_VIEWERS
    command: Sequence[str] = ()


def write_report(source: Source, file: Path, options: ReportOptions) -> list[str]:
    """Write a report as one HTML file, whole or not at all.

    Args:
        source: What it is about.
        file: The file.
        options: What it holds.

    Returns:
        The notes on the page: what is missing or could not be read.
    """
    stacks = make_stacks(source.cases, source.description, options.viewers)
    notes = [*source.notes, *_notes_about_slices(source, stacks)]
    plan = source.plan
    is_2d = _is_2d(source)
    page = (
        _environment()
        .get_template("report.html")
        .render(
            source=source,
            first_glance=describe_first_glance(source),
            notes=notes,
            data=_describe_data(source),
            important=_important_values(source, is_2d),
            others=[] if plan is None else other_values(plan),
            curves=draw_curves(source.runs, is_2d=is_2d),
            scores=describe_scores(source),
            table=build_table(source, [stack.identifier for stack in stacks.stacks]),
            stacks=stacks.stacks,
            has_expectations=has_expectations(source),
            has_volumes=any(len(stack.content["slices"]) > 1 for stack in stacks.stacks),
            viewer_settings=_to_script(_viewer_settings(source)),
            origin=describe_origin(source, options.command),
            style=_read("style.css"),
            script=_read("report.js"),
            content_of=_content_of,
        )
    )
    write_text(file, page)
    return notes


def _important_values(source: Source, is_2d: bool) -> list[PlannedValue]:
    if source.plan is None:
        return []
    steps = [steps_done(run) for run in source.runs]
    known = [done for done in steps if done is not None]
    return important_values(source.plan, is_2d=is_2d, steps_done=known)


def _is_2d(source: Source) -> bool:
    """Tell whether the data are 2D images; without their statistics, by the file ending."""
    if source.fingerprint is not None:
        return source.fingerprint.is_2d
    # A TIFF may be a volume.
    return source.plan is not None and is_2d_image(source.plan.file_ending, num_slices=2)


def _notes_about_slices(source: Source, stacks: Stacks) -> list[str]:
    notes = []
    without_image = [case.identifier for case in source.cases if case.image is None]
    # Where none has an image, the source says why.
    if 0 < len(without_image) < len(source.cases):
        notes.append(
            f"No image was found of {show_names(without_image, _MOST_NAMES)}: no slices are shown."
        )
    for name, reason in stacks.failed.items():
        notes.append(f"The slices of {name} are not shown: {reason.rstrip('.')}.")
    if stacks.left_out:
        names = show_names(stacks.left_out, _MOST_NAMES)
        notes.append(f"The slices of {names} are not shown: the page would be too large.")
    return notes


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("samnet.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _describe_data(source: Source) -> DataFacts | None:
    if source.fingerprint is None:
        return None
    patient_key = None if source.plan is None else source.plan.patient_key
    return describe_data(source.fingerprint, source.volume_unit, patient_key)


def _read(name: str) -> Markup:
    """Return the text of a part of the page that is written into it unchanged."""
    folder = resources.files("samnet.reporting") / "templates"
    return Markup((folder / name).read_text(encoding="utf-8"))


def _content_of(stack: Stack) -> Markup:
    return _to_script(stack.content)


def _to_script(content: Any) -> Markup:
    """Return JSON that may stand within a script element, whatever names it holds."""
    text = json.dumps(_without_nan(content), ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028"))


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_without_nan(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content


def _viewer_settings(source: Source) -> dict[str, Any]:
    """Return what the page's script needs for all stacks: classes, errors and their colours."""
    scheme = source.description.label_scheme
    classes = []
    names_and_values = zip(scheme.class_names, scheme.label_sets, strict=True)
    for number, (name, values) in enumerate(names_and_values, 1):
        classes.append({"name": name, "values": values, "colour": _code(class_colour(number))})
    errors = [
        {
            "value": value,
            "name": style.name,
            "colour": _code(style.colour),
            "opacity": style.opacity,
            "between_classes": value == CONFUSED,
        }
        for value, style in ERROR_STYLES.items()
    ]
    return {"classes": classes, "errors": errors}


def _code(colour: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour)
