"""Which postprocessing makes the predictions of held-out cases better, beyond noise.

For each class or region three rules are tried: holes are filled, the largest component alone is
kept, and components are left out that are smaller than nearly all of the references. A rule is
taken where it raises the mean Dice of the held-out cases, and the 95 % interval of the difference
(paired bootstrap over cases) lies above 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from samnet.core.components import component_sizes, label_components
from samnet.core.worker_pool import run_jobs
from samnet.dataset.images import read_labels
from samnet.dataset.label_scheme import LabelScheme, mask_of
from samnet.evaluation.intervals import PairedDifference
from samnet.evaluation.metrics import dice_per_class
from samnet.postprocessing.rules import (
    NO_POSTPROCESSING,
    Postprocessing,
    StructureRules,
    size_of_voxel,
)
from samnet.selection.comparison import compare_dice

SMALLEST_PERCENTILE = 5  # of the components of the references: smaller ones are seldom real
Files = tuple[Path, Path]  # of a prediction and its reference


@dataclass(frozen=True)
class TriedRules:
    """Rules for one class or region, and what they change.

    Attributes:
        structure: Name of the class or region.
        rules: The rules.
        difference: What they add to the mean Dice of the held-out cases, with its 95 % interval.
    """

    structure: str
    rules: StructureRules
    difference: PairedDifference

    @property
    def is_better(self) -> bool:
        """Whether the interval of the difference lies above 0."""
        return self.difference.low > 0


@dataclass(frozen=True)
class PostprocessingChoice:
    """What was tried, and what is taken.

    Attributes:
        postprocessing: The rules that are taken; none where nothing is better beyond noise.
        tried: Everything that was tried on its own.
        difference: What all taken rules together add to the mean Dice; None where there are none.
    """

    postprocessing: Postprocessing
    tried: tuple[TriedRules, ...] = ()
    difference: PairedDifference | None = None

    def __str__(self) -> str:
        if not self.postprocessing or self.difference is None:
            return "postprocessing: none, as no rule is better beyond noise"
        lines = [
            f"postprocessing, which adds {self.difference.mean:+.4f} to the Dice (95 % interval "
            f"{self.difference.low:+.4f} to {self.difference.high:+.4f}):"
        ]
        return "\n".join([*lines, *(f"  {line}" for line in self.postprocessing.describe())])


def choose_postprocessing(
    files: Mapping[str, Files],
    label_scheme: LabelScheme,
    processes: int,
    patients: Mapping[str, str],
) -> PostprocessingChoice:
    """Try rules on the predictions of held-out cases.

    Args:
        files: Name of a case -> its prediction and its reference.
        label_scheme: The classes or regions.
        processes: Number of worker processes; 0 for none.
        patients: Name of a case -> its patient.

    Returns:
        What was tried and what is taken.

    Raises:
        SamnetError: A file cannot be read.
    """
    smallest, unit = _smallest_sizes(files, label_scheme, processes)
    candidates: list[tuple[str, StructureRules]] = []
    for name in label_scheme.class_names:
        candidates.append((name, StructureRules(fill_holes=True)))
        candidates.append((name, StructureRules(largest_component=True)))
        if smallest.get(name):
            candidates.append((name, StructureRules(smallest_size=smallest[name])))
    variants = [Postprocessing({name: rules}, unit) for name, rules in candidates]
    dice = _score(files, label_scheme, [NO_POSTPROCESSING, *variants], processes)
    of_cases = [patients[case] for case in sorted(files)]
    tried = []
    for (name, rules), changed in zip(candidates, dice[1:], strict=True):
        tried.append(TriedRules(name, rules, compare_dice(changed, dice[0], of_cases)))
    chosen = Postprocessing(_combine(tried), unit)
    if not chosen:
        return PostprocessingChoice(chosen, tuple(tried))
    before, after = _score(files, label_scheme, [NO_POSTPROCESSING, chosen], processes)
    difference = compare_dice(after, before, of_cases)
    if difference.low <= 0:
        return PostprocessingChoice(NO_POSTPROCESSING, tuple(tried))
    return PostprocessingChoice(chosen, tuple(tried), difference)


def _combine(tried: Sequence[TriedRules]) -> dict[str, StructureRules]:
    """Join the better rules of each structure; of the two for components, take the better one."""
    combined: dict[str, StructureRules] = {}
    for entry in sorted(tried, key=lambda entry: -entry.difference.mean):
        if not entry.is_better:
            continue
        so_far = combined.get(entry.structure, StructureRules())
        if entry.rules.fill_holes:
            combined[entry.structure] = replace(so_far, fill_holes=True)
        elif not (so_far.largest_component or so_far.smallest_size):
            combined[entry.structure] = replace(entry.rules, fill_holes=so_far.fill_holes)
    # Named in the order of the classes, not by what they add.
    order = dict.fromkeys(entry.structure for entry in tried)
    return {name: combined[name] for name in order if name in combined}


def _smallest_sizes(
    files: Mapping[str, Files], label_scheme: LabelScheme, processes: int
) -> tuple[dict[str, float], str]:
    """Return the smallest usual size of each structure's components, and the unit of sizes.

    There are no sizes where cases have different units.
    """
    arguments = {name: (pair[1], label_scheme) for name, pair in files.items()}
    outcome = run_jobs(_reference_sizes, arguments, processes, "components")
    outcome.raise_if_failed("reading references")
    units = {unit for unit, _ in outcome.results.values()}
    if len(units) != 1:
        return {}, NO_POSTPROCESSING.size_unit
    smallest = {}
    for name in label_scheme.class_names:
        sizes = np.concatenate([by_name[name] for _, by_name in outcome.results.values()])
        if sizes.size:
            smallest[name] = _rounded_down(
                np.percentile(sizes, SMALLEST_PERCENTILE, method="lower")
            )
    return smallest, units.pop()


def _rounded_down(size: float) -> float:
    """Return a size of two digits, which can be read, and is not larger."""
    step = 10.0 ** (math.floor(math.log10(size)) - 1)
    return round(math.floor(size / step + 1e-9) * step, 12)


def _reference_sizes(file: Path, label_scheme: LabelScheme) -> tuple[str, dict[str, np.ndarray]]:
    """Return the unit of sizes, and the sizes of the components of each structure."""
    image = read_labels(file)
    voxel_size, unit = size_of_voxel(image.grid)
    sizes = {}
    for name, values in zip(label_scheme.class_names, label_scheme.label_sets, strict=True):
        sizes[name] = voxel_size * component_sizes(
            *label_components(mask_of(image.array[0], values))
        )
    return unit, sizes


def _score(
    files: Mapping[str, Files],
    label_scheme: LabelScheme,
    variants: Sequence[Postprocessing],
    processes: int,
) -> np.ndarray:
    """Return the Dice `(V, N, K)` of V variants, of N cases by name, and of K structures."""
    arguments = {name: (*pair, label_scheme, tuple(variants)) for name, pair in files.items()}
    outcome = run_jobs(_score_case, arguments, processes, "postprocessing")
    outcome.raise_if_failed("postprocessing")
    return np.stack([outcome.results[name] for name in sorted(files)], axis=1)


def _score_case(
    prediction_file: Path,
    reference_file: Path,
    label_scheme: LabelScheme,
    variants: Sequence[Postprocessing],
) -> np.ndarray:
    """Return the Dice `(V, K)` of V variants and K structures of a case."""
    prediction, reference = read_labels(prediction_file), read_labels(reference_file)
    labels, truth = prediction.array[0], reference.array[0]
    unchanged = dice_per_class(labels, truth, label_scheme)
    rows = []
    for variant in variants:
        changed = variant.apply(labels, reference.grid, label_scheme)
        is_same = changed is labels
        rows.append(unchanged if is_same else dice_per_class(changed, truth, label_scheme))
    return np.stack(rows)
