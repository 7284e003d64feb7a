"""What is odd about a data set, in plain words: nothing that stops a run, much that can spoil one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from samnet.core.machine import Machine
from samnet.dataset.cases import RawDataset
from samnet.dataset.faults import Fault, Report
from samnet.dataset.integrity import inspect_dataset_by_name
from samnet.dataset.splits import find_patient_key, make_splits, patient_of, read_splits
from samnet.fingerprint.extract import extract_fingerprint
from samnet.fingerprint.records import Fingerprint
from samnet.plan.backbones import PATCH
from samnet.plan.configuration import Configuration
from samnet.plan.plan import Plan
from samnet.planning.explain import FIRST
from samnet.planning.memory import Meter
from samnet.planning.planner import make_plan
from samnet.planning.rules.facts import AXIS_NAMES, CT_NAMES
from samnet.planning.rules.slicing import ANISOTROPIC

TINY_PIXELS = PATCH // 2
MIXED_SPACING = 2.0
MIXED_INTENSITIES = 20.0
HIGHEST_MINIMUM_OF_CT = -200.0


def examine_dataset(
    identifier: str | int, processes: int, machine: Machine, measure: Meter | None = None
) -> Report:
    """Check a raw data set, and add remarks on what is odd in the data as a whole.

    Remarks that need measurements are made where there are no faults; the fingerprint is kept for
    planning. They go by the plan that is there, else by one made for the machine and not kept.

    Args:
        identifier: Id or name of the data set.
        processes: Number of worker processes; 0 for none.
        machine: The machine to plan for where there is no plan.
        measure: As for `make_plan`.

    Returns:
        The report of `inspect_dataset_by_name`, with the remarks.

    Raises:
        UserError: There is no such data set, or its plan or splits cannot be read.
    """
    report = inspect_dataset_by_name(identifier, processes)
    if not report.num_cases:  # dataset.json or imagesTr cannot be used
        return report
    dataset = RawDataset.load(report.dataset_name)
    remarks = [*report.remarks, *_leaks(dataset, report.duplicates)]
    if not report.faults:
        fingerprint = extract_fingerprint(dataset, processes)
        path = dataset.folder.plan_file
        if path.is_file():
            plan = Plan.load(path)
        else:
            plan = make_plan(fingerprint, machine, measure=measure)
        if plan.data_key != fingerprint.data_key:
            value = "the raw files have changed since it was made"
            remarks.append(Fault("old plan", str(path), value, "run samnet_plan again"))
        configuration = plan.configuration(FIRST)
        remarks += find_oddities(dataset.folder.raw, fingerprint, configuration)
    return replace(report, remarks=tuple(remarks))


def find_oddities(
    folder: Path, fingerprint: Fingerprint, configuration: Configuration
) -> list[Fault]:
    """Find what is odd about classes, spacings and intensities.

    Args:
        folder: The raw data set.
        fingerprint: Its statistics.
        configuration: A planned configuration; it says how large the network sees a structure.

    Returns:
        The remarks.
    """
    remarks = [
        *_rare_classes(folder, fingerprint),
        *_tiny_classes(folder, fingerprint, configuration),
    ]
    if not fingerprint.is_2d:
        remarks += _mixed_spacings(folder, fingerprint)
        remarks += _mixed_slicing(folder, fingerprint, configuration)
    for channel in range(len(fingerprint.channel_names)):
        remarks += _unlike_hounsfield(folder, fingerprint, channel)
        remarks += _clipped_cases(folder, fingerprint, configuration, channel)
        remarks += _mixed_intensities(folder, fingerprint, configuration, channel)
    return remarks


def _rare_classes(folder: Path, fingerprint: Fingerprint) -> Iterator[Fault]:
    for name in fingerprint.label_scheme.class_names:
        holders = [
            case for case, entry in fingerprint.cases.items() if entry.classes[name].voxels > 0
        ]
        if not holders:
            value = f"class {name!r} occurs in none of the {len(fingerprint.cases)} cases: it cannot be learned"
            yield Fault(
                "class never occurs",
                str(folder / "dataset.json"),
                value,
                "label it, or remove the class",
            )
        elif len(holders) == 1 and len(fingerprint.cases) > 2:
            value = f"class {name!r} occurs in the case {holders[0]} only: it is trained on or validated, never both"
            yield Fault(
                "class occurs once", str(folder / "dataset.json"), value, "add cases that show it"
            )


def _tiny_classes(
    folder: Path, fingerprint: Fingerprint, configuration: Configuration
) -> Iterator[Fault]:
    """The 10th percentile, as the planner takes it: a class is as hard as its small objects."""
    enlarged = configuration.zoom / configuration.in_plane_spacing
    unit = "pixels" if fingerprint.is_2d else "mm"
    for name in fingerprint.label_scheme.class_names:
        small = fingerprint.diameter(name, configuration.slicing_axis, 10)
        if small is not None and small * enlarged < TINY_PIXELS:
            value = (
                f"class {name!r} is tiny: its small objects are {small:.1f} {unit} wide, "
                f"{small * enlarged:.1f} pixels "
                f"of the planned input of {configuration.input_size}, of which SAM takes {PATCH} x "
                f"{PATCH} for a token"
            )
            remedy = "plan a larger input with --set input_size=..., or crop the images around it"
            yield Fault("tiny class", str(folder / "dataset.json"), value, remedy)


def _mixed_spacings(folder: Path, fingerprint: Fingerprint) -> Iterator[Fault]:
    median = np.array(fingerprint.median_spacing)
    ratios = {name: np.array(case.spacing) / median for name, case in fingerprint.cases.items()}
    odd = [
        name for name, ratio in ratios.items() if max(ratio.max(), 1 / ratio.min()) > MIXED_SPACING
    ]
    if odd:
        value = (
            f"spacings are mixed: {_count(odd, fingerprint)} over {MIXED_SPACING:g} times off the "
            "median "
            f"{_times(median)} mm (z, y, x), such as {odd[0]} with "
            f"{_times(fingerprint.cases[odd[0]].spacing)} mm"
        )
        remedy = "check the headers; if they are right, have such cases in every fold"
        yield Fault("mixed spacings", str(folder / "imagesTr"), value, remedy)


def _mixed_slicing(
    folder: Path, fingerprint: Fingerprint, configuration: Configuration
) -> Iterator[Fault]:
    planned = configuration.slicing_axis
    coarse = {name: int(np.argmax(case.spacing)) for name, case in fingerprint.cases.items()}
    odd = [
        name
        for name, axis in coarse.items()
        if axis != planned
        and max(fingerprint.cases[name].spacing)
        > ANISOTROPIC * min(fingerprint.cases[name].spacing)
    ]
    if odd:
        value = (
            f"{_count(odd, fingerprint)} taken in another direction: {odd[0]} is coarsest along "
            f"{AXIS_NAMES[coarse[odd[0]]]}, slices are planned across {AXIS_NAMES[planned]}"
        )
        remedy = "make a data set of their own of them, or expect less of them"
        yield Fault("mixed directions", str(folder / "imagesTr"), value, remedy)


def _unlike_hounsfield(folder: Path, fingerprint: Fingerprint, channel: int) -> Iterator[Fault]:
    name = fingerprint.channel_names[channel]
    lowest = min(case.channels[channel].minimum for case in fingerprint.cases.values())
    if name.strip().lower() in CT_NAMES and lowest > HIGHEST_MINIMUM_OF_CT:
        value = (
            f"channel {name!r} is no CT by its values: the lowest is {lowest:g}, air has -1000 HU"
        )
        remedy = "convert the images to Hounsfield units, or call the channel otherwise"
        yield Fault("no Hounsfield units", str(folder / "dataset.json"), value, remedy)


def _clipped_cases(
    folder: Path, fingerprint: Fingerprint, configuration: Configuration, channel: int
) -> Iterator[Fault]:
    """Cases most of whose labelled voxels the planned window makes black or white."""
    window = configuration.intensity[channel]
    if window.scheme != "fixed":
        return
    for name, case in fingerprint.cases.items():
        inside = case.channels[channel].foreground
        if inside is not None and not window.lower <= inside[len(inside) // 2] <= window.upper:
            value = (
                f"case {name} has other intensities: the median of its labelled voxels is "
                f"{inside[len(inside) // 2]:g}, outside the planned window {window.lower:g} to "
                f"{window.upper:g}"
            )
            yield Fault(
                "intensities", str(folder / "imagesTr"), value, "check its scale and offset", name
            )


def _mixed_intensities(
    folder: Path, fingerprint: Fingerprint, configuration: Configuration, channel: int
) -> Iterator[Fault]:
    """Cases on a scale of their own, such as 0 to 1 among 0 to 4000."""
    ranges = {
        name: float(np.ptp(case.channels[channel].nonzero))
        for name, case in fingerprint.cases.items()
    }
    typical = float(np.median(list(ranges.values())))
    odd = [
        name
        for name, width in ranges.items()
        if typical > 0 and not typical / MIXED_INTENSITIES <= width <= typical * MIXED_INTENSITIES
    ]
    if odd:
        low, *_, high = fingerprint.cases[odd[0]].channels[channel].nonzero
        value = (
            f"{_count(odd, fingerprint)} on another scale: {fingerprint.channel_names[channel]} "
            f"goes from {low:g} to "
            f"{high:g} in {odd[0]}, a range of {high - low:g}, while {typical:g} is typical"
        )
        remedy = "check how they were exported"
        if configuration.intensity[channel].scheme != "fixed":
            remedy += "; if that is right it does no harm, as every image is scaled by itself"
        yield Fault("mixed intensities", str(folder / "imagesTr"), value, remedy)


def _leaks(dataset: RawDataset, duplicates: Sequence[tuple[str, ...]]) -> Iterator[Fault]:
    """Find patients, and images of the same content, on both sides of a fold.

    The scores of such a fold would be too good.
    """
    identifiers = [case.identifier for case in dataset.cases]
    key = dataset.description.patient_key or find_patient_key(identifiers)
    path = dataset.folder.splits_file
    folds = read_splits(path, identifiers) if path.is_file() else make_splits(identifiers, key)
    twins = {name: group[0] for group in duplicates for name in group}
    groupings: dict[str, Callable[[str], str]] = {
        "patient": lambda name: patient_of(name, key),
        "image": lambda name: twins.get(name, name),
    }
    for number, fold in enumerate(folds):
        if set(fold["train"]) == set(fold["val"]):
            value = (
                f"fold {number} validates on the cases it trains on: its scores say nothing of new "
                "patients"
            )
            yield Fault("nothing held out", str(path), value, "add cases of other patients")
            continue
        for what, group_of in groupings.items():
            value = _describe_leak(number, fold, what, group_of)
            if value:
                remedy = "hold them together, or delete the file"
                yield Fault("leak between folds", str(path), value, remedy)


def _describe_leak(
    number: int, fold: dict[str, list[str]], what: str, group_of: Callable[[str], str]
) -> str:
    """Say which validation cases share a group with training cases; empty where none does."""
    trained = {group_of(name): name for name in sorted(fold["train"])}
    shared = [name for name in fold["val"] if group_of(name) in trained]
    if not shared:
        return ""
    return (
        f"fold {number} validates on {len(shared)} cases whose {what} it trains on, such as "
        f"{shared[0]}, which has the {what} of {trained[group_of(shared[0])]}"
    )


def _count(names: Sequence[str], fingerprint: Fingerprint) -> str:
    verb = "is" if len(names) == 1 else "are"
    return f"{len(names)} of {len(fingerprint.cases)} cases {verb}"


def _times(spacing: Sequence[float] | np.ndarray) -> str:
    return " x ".join(f"{length:.3g}" for length in spacing)
