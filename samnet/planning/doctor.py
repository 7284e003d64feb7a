"""Remarks on what is odd about a data set.

None of it stops a training run, but much of it can spoil one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from samnet.core.locks import lock_folder
from samnet.core.machine import Machine
from samnet.core.slicing import is_anisotropic
from samnet.core.units import show_length
from samnet.dataset.cases import RawDataset
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.dataset.faults import Fault, Report
from samnet.dataset.integrity import inspect_dataset_by_name
from samnet.dataset.splits import find_patient_key, make_splits, patient_of, read_splits
from samnet.fingerprint.extract import extract_fingerprint
from samnet.fingerprint.records import Fingerprint
from samnet.plan.backbones import PATCH
from samnet.plan.configuration import Configuration
from samnet.planning.memory import Meter
from samnet.planning.overview import FIRST
from samnet.planning.planned_dataset import PLANNING, PlannedDataset
from samnet.planning.planner import plan_one_configuration
from samnet.planning.rules.facts import AXIS_NAMES, CT_NAMES

TINY_PIXELS = PATCH // 2
MIXED_SPACING = 2.0
MIXED_INTENSITIES = 20.0
HIGHEST_MINIMUM_OF_CT = -200.0


def examine_dataset(
    identifier: str | int,
    processes: int,
    machine: Machine,
    meter_of: Callable[[Path], Meter] | None = None,
) -> Report:
    """Check a raw data set, and add remarks on what is odd in the data as a whole.

    Remarks that need measurements are added where there are no faults. The fingerprint is kept for
    planning. These remarks use the first configuration of the data set's plan; where there is none,
    this configuration is planned for the machine, and not kept.

    Args:
        identifier: Id or name of the data set.
        processes: Number of worker processes; 0 for none.
        machine: The machine to plan for where there is no plan.
        meter_of: Returns the meter that keeps its measurements in a file. Without it everything
            wanted is taken to fit.

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
            plan = PlannedDataset(dataset.folder).plan
            if plan.data_key != fingerprint.data_key:
                value = "the raw files have changed since it was made"
                remarks.append(Fault("old plan", str(path), value, "run samnet_plan again"))
            configuration = plan.configuration(FIRST)
        else:
            configuration = _plan_first(dataset.folder, fingerprint, machine, meter_of)
        remarks += find_oddities(dataset.folder.raw, fingerprint, configuration)
    return replace(report, remarks=tuple(remarks))


def _plan_first(
    folder: DatasetFolder,
    fingerprint: Fingerprint,
    machine: Machine,
    meter_of: Callable[[Path], Meter] | None,
) -> Configuration:
    with lock_folder(folder.preprocessed, PLANNING):  # where the measurements are kept
        measure = None if meter_of is None else meter_of(folder.step_memory_file)
        return plan_one_configuration(FIRST, fingerprint, machine, measure)


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
    num_cases = len(fingerprint.cases)
    file = str(folder / "dataset.json")
    for name in fingerprint.label_scheme.class_names:
        holders = []
        for case, entry in fingerprint.cases.items():
            if entry.classes[name].voxels > 0:
                holders.append(case)
        if not holders:
            value = f"class {name!r} occurs in none of the {num_cases} cases: it cannot be learned"
            yield Fault("class never occurs", file, value, "label it, or remove the class")
        elif len(holders) == 1 and num_cases > 2:
            value = (
                f"class {name!r} occurs in the case {holders[0]} only: it is trained on or "
                "validated, never both"
            )
            yield Fault("class occurs once", file, value, "add cases that show it")


def _tiny_classes(
    folder: Path, fingerprint: Fingerprint, configuration: Configuration
) -> Iterator[Fault]:
    """Find classes whose small objects cover few pixels of the planned input.

    An object is small at the 10th percentile, which the planner uses, too: a class is as hard as
    its small objects.
    """
    enlargement = configuration.zoom / configuration.in_plane_spacing
    unit = fingerprint.unit
    for name in fingerprint.label_scheme.class_names:
        small = fingerprint.diameter(name, configuration.slicing_axis, 10)
        if small is None or small * enlargement >= TINY_PIXELS:
            continue
        value = (
            f"class {name!r} is tiny: its small objects are {show_length(small, 1)} {unit} wide, "
            f"{small * enlargement:.1f} pixels of the planned input of "
            f"{configuration.input_size}, and SAM's tokens are {PATCH} x {PATCH} pixels"
        )
        remedy = "plan a larger input with --set input_size=..., or crop the images around it"
        yield Fault("tiny class", str(folder / "dataset.json"), value, remedy)


def _mixed_spacings(folder: Path, fingerprint: Fingerprint) -> Iterator[Fault]:
    median = np.array(fingerprint.median_spacing)
    odd = []
    for name, case in fingerprint.cases.items():
        ratio = np.array(case.spacing) / median
        if max(ratio.max(), 1 / ratio.min()) > MIXED_SPACING:
            odd.append(name)
    if not odd:
        return
    value = (
        f"spacings are mixed: {_count(odd, fingerprint)} over {MIXED_SPACING:g} times off the "
        f"median {_times(median)} {fingerprint.unit} (z, y, x), such as {odd[0]} with "
        f"{_times(fingerprint.cases[odd[0]].spacing)} {fingerprint.unit}"
    )
    remedy = "check the headers; if they are right, have such cases in every fold"
    yield Fault("mixed spacings", str(folder / "imagesTr"), value, remedy)


def _mixed_slicing(
    folder: Path, fingerprint: Fingerprint, configuration: Configuration
) -> Iterator[Fault]:
    planned = configuration.slicing_axis
    coarsest: dict[str, int] = {}  # of the cases whose slices lie across another axis
    for name, case in fingerprint.cases.items():
        axis = int(np.argmax(case.spacing))
        if axis != planned and is_anisotropic(case.spacing):
            coarsest[name] = axis
    if not coarsest:
        return
    first, axis = next(iter(coarsest.items()))
    value = (
        f"{_count(list(coarsest), fingerprint)} taken in another direction: {first} is coarsest "
        f"along {AXIS_NAMES[axis]}, slices are planned across {AXIS_NAMES[planned]}"
    )
    remedy = "move them to a data set of their own, or expect worse results for them"
    yield Fault("mixed directions", str(folder / "imagesTr"), value, remedy)


def _unlike_hounsfield(folder: Path, fingerprint: Fingerprint, channel: int) -> Iterator[Fault]:
    name = fingerprint.channel_names[channel]
    lowest = min(case.channels[channel].minimum for case in fingerprint.cases.values())
    if name.strip().lower() not in CT_NAMES or lowest <= HIGHEST_MINIMUM_OF_CT:
        return
    value = f"channel {name!r} has no values of CT: the lowest is {lowest:g}, but air has -1000 HU"
    remedy = "convert the images to Hounsfield units, or rename the channel"
    yield Fault("no Hounsfield units", str(folder / "dataset.json"), value, remedy)


def _clipped_cases(
    folder: Path, fingerprint: Fingerprint, configuration: Configuration, channel: int
) -> Iterator[Fault]:
    """Find cases in which the planned window makes most of the labelled voxels black or white."""
    window = configuration.intensity[channel]
    if window.scheme != "fixed":
        return
    for name, case in fingerprint.cases.items():
        percentiles = case.channels[channel].foreground
        if percentiles is None:
            continue
        median = percentiles[len(percentiles) // 2]
        if window.lower <= median <= window.upper:
            continue
        value = (
            f"case {name} has other intensities: the median of its labelled voxels is "
            f"{median:g}, outside the planned window {window.lower:g} to {window.upper:g}"
        )
        remedy = "check its scale and offset"
        yield Fault("intensities", str(folder / "imagesTr"), value, remedy, name)


def _mixed_intensities(
    folder: Path, fingerprint: Fingerprint, configuration: Configuration, channel: int
) -> Iterator[Fault]:
    """Find cases whose intensities have another scale, such as 0 to 1 where 0 to 4000 is usual."""
    ranges = {
        name: float(np.ptp(case.channels[channel].nonzero))
        for name, case in fingerprint.cases.items()
    }
    typical = float(np.median(list(ranges.values())))
    if typical <= 0:
        return
    narrowest, widest = typical / MIXED_INTENSITIES, typical * MIXED_INTENSITIES
    odd = [name for name, width in ranges.items() if not narrowest <= width <= widest]
    if not odd:
        return
    low, *_, high = fingerprint.cases[odd[0]].channels[channel].nonzero
    value = (
        f"{_count(odd, fingerprint)} on another scale: {fingerprint.channel_names[channel]} "
        f"goes from {low:g} to {high:g} in {odd[0]}, a range of {high - low:g}, while "
        f"{typical:g} is typical"
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
    first_twin: dict[str, str] = {}
    for group in duplicates:
        first_twin |= dict.fromkeys(group, group[0])
    groupings: dict[str, Callable[[str], str]] = {
        "patient": lambda name: patient_of(name, key),
        "image": lambda name: first_twin.get(name, name),
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
                remedy = "put them on the same side of the fold, or delete the file"
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
