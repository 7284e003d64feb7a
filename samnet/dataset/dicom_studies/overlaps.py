"""The labels of structures: what stands for a voxel that lies in several of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from samnet.core.errors import UserError
from samnet.dataset.dicom_studies.combinations import Combination
from samnet.dataset.label_scheme import Label

CHOICES = ("first", "last", "regions")


@dataclass(frozen=True)
class Labelling:
    """The labels of a data set.

    Attributes:
        labels: Name -> value, or values of a region, the background first.
        class_order: The label that is written for each region; empty without regions.
        values: The value of each combination of structures that occurs.
    """

    labels: dict[str, Label]
    class_order: tuple[int, ...]
    values: dict[Combination, int]


def label_structures(
    names: Sequence[str], counts: Mapping[Combination, int], overlap: str | None
) -> Labelling:
    """Decide the labels.

    Args:
        names: The names of the classes, in the order of their labels.
        counts: Number of voxels of each combination that occurs in any case.
        overlap: Of several structures at a voxel, `first` or `last` takes one in the order of the
            names; `regions` makes each structure a region. None where nothing overlaps.

    Returns:
        The labels.

    Raises:
        UserError: Two structures are the same voxels in all cases, and cannot be two regions.
    """
    if overlap == "regions" and any(len(combination) > 1 for combination in counts):
        return _label_regions(names, counts)
    numbers = {name: number for number, name in enumerate(names, 1)}
    choose = max if overlap == "last" else min
    values = {}
    for combination in counts:
        values[combination] = choose(numbers[name] for name in combination)
    return Labelling({"background": 0, **numbers}, (), values)


def _label_regions(names: Sequence[str], counts: Mapping[Combination, int]) -> Labelling:
    """Number the combinations, and make each structure the union of those that it is in.

    A region is written after those that contain it, so larger ones come first. Each combination
    needs a region that is the last of its own. Where there is none, such as for what two structures
    share that do not lie within each other, one is added.
    """
    _check_distinct(names, counts)
    combinations = sorted(counts, key=lambda entry: (len(entry), sorted(map(names.index, entry))))
    values = {combination: number for number, combination in enumerate(combinations, 1)}
    regions: dict[str, Combination] = {}
    for name in names:
        if any(name in entry for entry in combinations):
            regions[name] = frozenset([name])
    while True:
        regions = _from_outer_to_inner(regions, counts)
        written: dict[str, Combination] = {}
        lost = None
        for entry in combinations:
            if written.setdefault(_last(entry, regions), entry) != entry:
                lost = entry
                break
        if lost is None:
            break
        lost = min((lost, written[_last(lost, regions)]), key=lambda entry: -len(entry))
        regions[_name_of(lost, names, combinations)] = lost
    labels: dict[str, Label] = {"background": 0}
    class_order = []
    for name, needed in regions.items():
        inside = tuple(values[entry] for entry in combinations if needed <= entry)
        labels[name] = inside if len(inside) > 1 else inside[0]
        class_order.append(values[written[name]] if name in written else inside[0])
    return Labelling(labels, tuple(class_order), values)


def _name_of(
    combination: Combination, names: Sequence[str], combinations: Sequence[Combination]
) -> str:
    """Name what some structures share, without those that contain another of them."""
    inside = {}
    for name in names:
        if name in combination:
            inside[name] = {number for number, entry in enumerate(combinations) if name in entry}
    kept = []
    for name, own in inside.items():
        if not any(own > other for other in inside.values()):
            kept.append(name)
    return " and ".join(kept)


def _from_outer_to_inner(
    regions: Mapping[str, Combination], counts: Mapping[Combination, int]
) -> dict[str, Combination]:
    """Sort regions: those with more combinations first, then those with more voxels."""

    def size(entry: tuple[str, Combination]) -> tuple[int, int]:
        inside = [count for combination, count in counts.items() if entry[1] <= combination]
        return -len(inside), -sum(inside)

    return dict(sorted(regions.items(), key=size))


def _last(combination: Combination, regions: Mapping[str, Combination]) -> str:
    return [name for name, needed in regions.items() if needed <= combination][-1]


def _check_distinct(names: Sequence[str], counts: Mapping[Combination, int]) -> None:
    found: dict[Combination, str] = {}
    for name in names:
        inside = [number for number, entry in enumerate(counts) if name in entry]
        other = found.setdefault(frozenset(map(str, inside)), name)
        if inside and other != name:
            raise UserError(
                f"{other!r} and {name!r} are the same voxels in all cases; leave one out in the "
                "table of --structures"
            )
