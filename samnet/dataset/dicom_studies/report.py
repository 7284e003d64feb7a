"""What a conversion of DICOM studies found: on the screen, and as a file outside the data set.

The file names the original files, so it may say who the patients are.
"""

from __future__ import annotations

from typing import Any

from samnet.dataset.dicom_studies.combinations import Combination
from samnet.dataset.dicom_studies.convert_studies import StudyContents, StudyConversion
from samnet.dataset.dicom_studies.structure_names import show_names

_SHOWN = 5


def describe_contents(contents: StudyContents) -> str:
    """Return a text for people on what lies in a folder of studies.

    Args:
        contents: What lies in it.
    """
    found = contents.found
    patients = {case.patient for case in found.cases}
    lines = [
        f"{len(found.cases)} cases of {len(patients)} patients, with {len(contents.names)} "
        "names of structures",
        show_names(contents.names),
    ]
    unlabelled = contents.unlabelled
    if unlabelled:
        lines.append(f"without labels: {_first(unlabelled)}")
    if contents.left_out:
        left_out = [f"{entry.path} ({entry.reason})" for entry in contents.left_out]
        lines.append(f"left out: {_first(left_out)}")
    lines += [f"left out: {note}" for note in found.notes[:_SHOWN]]
    if len(found.notes) > _SHOWN:
        lines.append(f"left out: ... and {len(found.notes) - _SHOWN} more")
    return "\n".join(lines)


def describe_conversion(conversion: StudyConversion) -> str:
    """Return a text for people that says what will be written.

    Args:
        conversion: The plan.
    """
    regions = " (regions)" if conversion.labelling.class_order else ""
    labels = ", ".join(
        f"{_show_label(label)} {name}" for name, label in conversion.labelling.labels.items()
    )
    lines = [
        f"channels: {', '.join(conversion.channel_names)}",
        f"labels{regions}: {labels}",
    ]
    lines += [f"left out: {fault}" for fault in conversion.faults[:_SHOWN]]
    doubts = list(conversion.doubts)
    for name, measured in conversion.cases.items():
        doubts += [f"{name}: {doubt}" for doubt in measured.doubts]
    lines += [f"warning: {doubt}" for doubt in doubts[:_SHOWN]]
    if len(doubts) > _SHOWN:
        lines.append(f"warning: ... and {len(doubts) - _SHOWN} more, in the report")
    return "\n".join(lines)


def _show_label(label: int | tuple[int, ...]) -> str:
    return str(label) if isinstance(label, int) else "+".join(map(str, label))


def _first(texts: list[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return f"{len(texts)}: {'; '.join(texts[:_SHOWN])}{more}"


def report_of(
    contents: StudyContents, conversion: StudyConversion | None, faults: list[str]
) -> dict[str, Any]:
    """Return the report as what a JSON file holds.

    Args:
        contents: What lies in the folder.
        conversion: The plan; None where there is none.
        faults: Why there is none, or what is left out.

    Returns:
        Cases with their series, label files, voxels and doubts; names; faults; what is left out.
    """
    cases: dict[str, Any] = {}
    if conversion is not None:
        for name, measured in conversion.cases.items():
            case = measured.case
            cases[name] = {
                "channels": [series.name for series in case.channels],
                "labels": [str(file.source.file) for file in case.labels],
                "voxels": _voxels(measured.counts),
                "doubts": measured.doubts,
            }
    structures = {
        entry.name: {
            "cases": entry.num_cases,
            "label": "" if conversion is None else conversion.table.labels[entry.name],
            "similar": list(entry.similar),
        }
        for entry in contents.names
    }
    return {
        "folder": str(contents.folder),
        "cases": cases,
        "structures": structures,
        "faults": faults,
        "doubts": [] if conversion is None else conversion.doubts,
        "without_labels": contents.unlabelled,
        "left_out": [
            *(f"{entry.path}: {entry.reason}" for entry in contents.left_out),
            *contents.found.notes,
        ],
    }


def _voxels(counts: dict[Combination, int]) -> dict[str, int]:
    return {" and ".join(sorted(entry)): count for entry, count in counts.items()}
