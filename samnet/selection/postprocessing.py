"""Which postprocessing makes the predictions of held-out cases better, beyond noise.

For each class or region some rules are tried: holes are filled, the largest component alone is
kept, and components are left out that are smaller than nearly all of the references. In volumes,
gaps between slices are closed, components on a single slice are left out, and each voxel follows
most of three slices. A rule is taken where it raises the mean Dice of the held-out cases by more
than chance would let the best of all tried rules do (`samnet.selection.chance`). All that are taken
are tested together: the 95 % interval of the difference (paired bootstrap over cases) has to lie
above 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
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
    axis_of_slices,
    size_of_voxel,
)
from samnet.selection.chance import MOST_CHANCE, chances_of_best
from samnet.selection.comparison import compare_dice, known_in_both

SMALLEST_PERCENTILE = 5  # of the components of the references: smaller ones are seldom real
LONGEST_GAP = 2  # slices on which a structure is missed between two that show it
FEWEST_SLICES = 2  # of a component: what is on one slice alone is seldom real
# Of each group one rule is taken: for components, and between slices.
_EITHER_OR = (
    ("largest_component", "smallest_size", "fewest_slices"),
    ("closed_gap", "smooth_slices"),
)
Files = tuple[Path, Path]  # of a prediction and its reference


@dataclass(frozen=True)
class TriedRules:
    """Rules for one class or region, and what they change.

    Attributes:
        structure: Name of the class or region.
        rules: The rules.
        difference: What they add to the mean Dice of the held-out cases, with its 95 % interval.
        chance: How likely chance is to let the best of all tried rules look as good.
    """

    structure: str
    rules: StructureRules
    difference: PairedDifference
    chance: float

    @property
    def is_better(self) -> bool:
        """Whether the Dice is higher by more than what chance explains."""
        return self.difference.mean > 0 and self.chance <= MOST_CHANCE


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
    slicing_axis: int = 0,
) -> PostprocessingChoice:
    """Try rules on the predictions of held-out cases.

    Args:
        files: Name of a case -> its prediction and its reference.
        label_scheme: The classes or regions.
        processes: Number of worker processes; 0 for none.
        patients: Name of a case -> its patient.
        slicing_axis: The canonical axis across which the slices lie that the network sees.

    Returns:
        What was tried and what is taken.

    Raises:
        SamnetError: A file cannot be read.
    """
    references = _read_references(files, label_scheme, processes, slicing_axis)
    candidates: list[tuple[str, StructureRules]] = []
    for name in label_scheme.class_names:
        candidates += [(name, rules) for rules in _rules_for(name, references)]
    postprocess = partial(Postprocessing, size_unit=references.unit, slicing_axis=slicing_axis)
    variants = [postprocess({name: rules}) for name, rules in candidates]
    dice = _score(files, label_scheme, [NO_POSTPROCESSING, *variants], processes)
    of_cases = [patients[case] for case in sorted(files)]
    pairs = [known_in_both(changed, dice[0]) for changed in dice[1:]]
    chances = chances_of_best(np.stack([one - other for one, other in pairs]), of_cases)
    tried = []
    for (name, rules), changed, chance in zip(candidates, dice[1:], chances, strict=True):
        difference = compare_dice(changed, dice[0], of_cases)
        tried.append(TriedRules(name, rules, difference, float(chance)))
    chosen = postprocess(_combine(tried))
    if not chosen:
        return PostprocessingChoice(NO_POSTPROCESSING, tuple(tried))
    before, after = _score(files, label_scheme, [NO_POSTPROCESSING, chosen], processes)
    difference = compare_dice(after, before, of_cases)
    if difference.low <= 0:
        return PostprocessingChoice(NO_POSTPROCESSING, tuple(tried))
    return PostprocessingChoice(chosen, tuple(tried), difference)


def _combine(tried: Sequence[TriedRules]) -> dict[str, StructureRules]:
    """Join the better rules of each structure.

    Of those for components the best one is taken, and of those between slices.
    """
    combined: dict[str, StructureRules] = {}
    for entry in sorted(tried, key=lambda entry: -entry.difference.mean):
        if not entry.is_better:
            continue
        so_far = combined.get(entry.structure, StructureRules())
        if not any(_have_one_of(group, so_far, entry.rules) for group in _EITHER_OR):
            combined[entry.structure] = _joined(so_far, entry.rules)
    # Named in the order of the classes, not by what they add.
    order = dict.fromkeys(entry.structure for entry in tried)
    return {name: combined[name] for name in order if name in combined}


def _have_one_of(keys: Sequence[str], first: StructureRules, second: StructureRules) -> bool:
    """Tell whether two sets of rules both have a rule of a group."""
    has_first = any(getattr(first, key) for key in keys)
    return has_first and any(getattr(second, key) for key in keys)


def _joined(first: StructureRules, second: StructureRules) -> StructureRules:
    """Return the rules of both, which have none in common."""
    return replace(first, **{key: value for key, value in vars(second).items() if value})


@dataclass(frozen=True)
class _References:
    """What is known of the references of all cases.

    Attributes:
        smallest_sizes: Name of a structure -> the smallest usual size of its components. Empty
            where cases have different units.
        unit: The unit of sizes.
        have_slices: Whether one of them is a volume of several slices.
    """

    smallest_sizes: dict[str, float]
    unit: str
    have_slices: bool


def _rules_for(name: str, references: _References) -> list[StructureRules]:
    """Return the rules that are tried for a structure."""
    rules = [StructureRules(fill_holes=True), StructureRules(largest_component=True)]
    if references.smallest_sizes.get(name):
        rules.append(StructureRules(smallest_size=references.smallest_sizes[name]))
    if references.have_slices:
        rules.append(StructureRules(closed_gap=LONGEST_GAP))
        rules.append(StructureRules(smooth_slices=True))
        rules.append(StructureRules(fewest_slices=FEWEST_SLICES))
    return rules


def _read_references(
    files: Mapping[str, Files], label_scheme: LabelScheme, processes: int, slicing_axis: int
) -> _References:
    """Read what rules depend on."""
    arguments = {name: (pair[1], label_scheme, slicing_axis) for name, pair in files.items()}
    outcome = run_jobs(_read_reference, arguments, processes, "components")
    outcome.raise_if_failed("reading references")
    found = outcome.results.values()
    have_slices = any(has_slices for _, _, has_slices in found)
    units = {unit for unit, _, _ in found}
    if len(units) != 1:
        return _References({}, NO_POSTPROCESSING.size_unit, have_slices)
    smallest = {}
    for name in label_scheme.class_names:
        sizes = np.concatenate([by_name[name] for _, by_name, _ in found])
        if sizes.size:
            smallest[name] = _rounded_down(
                np.percentile(sizes, SMALLEST_PERCENTILE, method="lower")
            )
    return _References(smallest, units.pop(), have_slices)


def _rounded_down(size: float) -> float:
    """Return a size of two digits, which can be read, and is not larger."""
    step = 10.0 ** (math.floor(math.log10(size)) - 1)
    return round(math.floor(size / step + 1e-9) * step, 12)


def _read_reference(
    file: Path, label_scheme: LabelScheme, slicing_axis: int
) -> tuple[str, dict[str, np.ndarray], bool]:
    """Return the unit of sizes, those of each structure's components, and if there are slices."""
    image = read_labels(file)
    voxel_size, unit = size_of_voxel(image.grid)
    sizes = {}
    for name, values in zip(label_scheme.class_names, label_scheme.label_sets, strict=True):
        sizes[name] = voxel_size * component_sizes(
            *label_components(mask_of(image.array[0], values))
        )
    return unit, sizes, axis_of_slices(image.grid, slicing_axis) is not None


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
