"""Averages the probabilities that several predictions have saved in folders."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from samnet.core.errors import UserError
from samnet.core.files import write_json
from samnet.core.locks import lock_folder
from samnet.core.progress import ProgressBar
from samnet.core.worker_pool import Outcome, describe_error
from samnet.dataset.cases import find_label_files
from samnet.dataset.description import DESCRIPTION_FILE, DatasetDescription
from samnet.dataset.images import Image, label_endings, read_labels, write_labels
from samnet.dataset.label_scheme import LabelScheme
from samnet.inference.ensemble import labels_of
from samnet.inference.outputs import Piece, outputs_for
from samnet.inference.plausibility import describe_labels
from samnet.inference.probabilities import SLAB_BYTES
from samnet.inference.probability_files import (
    PROBABILITIES_ENDING,
    ProbabilityReader,
    create_probabilities,
    open_probabilities,
    probability_file,
)
from samnet.inference.reconstruction import cut
from samnet.inference.warning_file import record_warnings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Source:
    """A folder of predictions.

    It has the label maps and probabilities by the names of their cases, and the weight of all of
    them.
    """

    folder: Path
    label_maps: dict[str, Path]
    weight: float


def ensemble_folders(
    folders: Sequence[Path],
    output: Path,
    *,
    weights: Sequence[float] | None = None,
    save_probabilities: bool = False,
    slab_bytes: int = SLAB_BYTES,
) -> None:
    """Write the label maps that the mean of saved probabilities gives.

    Files are read from their beginning to their end, all at the same time, so the probabilities of
    all classes never exist at once. Label maps get the format and the grid of those in the first
    folder.

    Args:
        folders: Folders that `predict_cases` has written with probabilities.
        output: The folder for the label maps.
        weights: The weight of each folder, above 0; None for equal ones.
        save_probabilities: Whether to write the mean probabilities too.
        slab_bytes: What an output takes in the slices that are averaged at a time.

    Raises:
        UserError: Folders, weights, cases or labels do not fit each other.
        SamnetError: Cases failed; each is named with its reason, the others are written.
    """
    _check_folders(folders, output)
    shares = _normalized(weights, len(folders))
    description = _common_description(folders)
    cases = _common_cases(folders)
    sources = []
    for folder, weight in zip(folders, shares, strict=True):
        sources.append(_Source(folder, find_label_files(folder, label_endings()), weight))
    outcome = Outcome()
    with (
        lock_folder(output, "averaging probabilities"),
        ProgressBar(total=len(cases), desc="averaging", unit="case") as bar,
    ):
        for case in cases:
            bar.set_postfix_str(case)
            try:
                mean = _MeanOfCase(case, sources, description.label_scheme, slab_bytes)
                outcome.results[case] = mean.write(output, save_probabilities)
            except Exception as error:
                log.debug("case %s failed", case, exc_info=error)
                outcome.failures[case] = describe_error(error)
            bar.update()
        if outcome.results:
            write_json(output / DESCRIPTION_FILE, description.as_json())
    outcome.raise_if_failed("averaging")
    log.info("label maps: %s", output)


class _MeanOfCase:
    """The label map and the mean probabilities of a case."""

    def __init__(
        self, case: str, sources: Sequence[_Source], scheme: LabelScheme, slab_bytes: int
    ) -> None:
        self._case, self._sources, self._scheme = case, sources, scheme
        self._slab_bytes = slab_bytes

    def write(self, output: Path, save_probabilities: bool) -> Path:
        """Write the label map, and the probabilities where they are requested; return its file."""
        reference = self._common_grid()
        shape = (self._scheme.num_outputs, *reference.grid.shape)
        with ExitStack() as stack:
            readers = []
            for source in self._sources:
                file = probability_file(source.folder, self._case)
                readers.append(stack.enter_context(open_probabilities(file)))
                _check_shape(readers[-1], shape)
            add: Callable[[np.ndarray], object] = _ignore
            if save_probabilities:
                target = probability_file(output, self._case)
                add = stack.enter_context(create_probabilities(target, shape))
            labels = self._labels(readers, shape, add)
        file = output / self._sources[0].label_maps[self._case].name
        record_warnings(output, self._case, describe_labels(labels, self._scheme, None))
        write_labels(labels, reference, file)
        return file

    def _common_grid(self) -> Image:
        """Return the label map of the first folder, on whose grid all others lie."""
        images: list[Image] = []
        for source in self._sources:
            file = source.label_maps.get(self._case)
            if file is None:
                raise UserError(
                    f"{source.folder}: no label map of the case, whose grid is needed; predict it "
                    "with samnet_predict --save-probabilities, without --dicom-seg"
                )
            image = read_labels(file)
            difference = image.grid.difference(images[0].grid) if images else None
            if difference is not None:
                first = self._sources[0].label_maps[self._case]
                raise UserError(
                    f"{file}: {difference.describe(str(first))}; predict both from the same image"
                )
            images.append(image if not images else images[0])
        return images[0]

    def _labels(
        self,
        readers: Sequence[ProbabilityReader],
        shape: tuple[int, int, int, int],
        add: Callable[[np.ndarray], object],
    ) -> np.ndarray:
        outputs = outputs_for(self._scheme)
        pieces = self._pieces(readers, shape, add)
        device = torch.device("cpu")
        labels = outputs.label_map(pieces, shape[1:], shape[0], device, 1.0)
        return labels.astype(outputs.label_type(shape[0]))

    def _pieces(
        self,
        readers: Sequence[ProbabilityReader],
        shape: tuple[int, int, int, int],
        add: Callable[[np.ndarray], object],
    ) -> Iterator[Piece]:
        """Yield the mean of one output after the other, slab by slab."""
        num_outputs, depth, height, width = shape
        slabs = cut(slice(0, depth), self._slab_bytes // (4 * height * width))
        for output in range(num_outputs):
            for slab in slabs:
                mean: np.ndarray = np.zeros((slab.stop - slab.start, height, width), np.float32)
                for reader, source in zip(readers, self._sources, strict=True):
                    mean += source.weight * reader.next_slices(len(mean))
                add(mean)
                place = (slab, slice(0, height), slice(0, width))
                yield output, place, torch.from_numpy(mean)
        for reader in readers:
            reader.check_end()


def _ignore(slab: np.ndarray) -> None:
    """Do nothing with the mean probabilities of some slices."""


def _check_shape(reader: ProbabilityReader, expected: tuple[int, int, int, int]) -> None:
    if reader.shape != expected:
        raise UserError(
            f"{reader.file}: has the shape {reader.shape}; expected {expected} (outputs, z, y, x) "
            "by dataset.json and the label map next to it. Predict the case again"
        )


def _check_folders(folders: Sequence[Path], output: Path) -> None:
    if len(folders) < 2:
        raise UserError("name at least two folders with saved probabilities with -i")
    resolved = [folder.resolve() for folder in folders]
    for number, folder in enumerate(folders):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
        if resolved[number] in resolved[:number]:
            raise UserError(f"{folder}: is named twice; name each folder once, or use --weights")
        if resolved[number] == output.resolve():
            raise UserError(
                f"{output}: its label maps would be replaced; choose another folder with -o"
            )
    if output.exists() and not output.is_dir():
        raise UserError(f"{output}: the output has to be a folder")


def _normalized(weights: Sequence[float] | None, count: int) -> list[float]:
    """Return weights whose sum is 1."""
    if weights is None:
        return [1 / count] * count
    if len(weights) != count:
        raise UserError(f"--weights has {len(weights)} numbers for {count} folders; give each one")
    if not all(0 < weight < float("inf") for weight in weights):
        raise UserError(f"--weights {list(weights)}: each has to be a number above 0")
    total = sum(weights)
    return [weight / total for weight in weights]


def _common_description(folders: Sequence[Path]) -> DatasetDescription:
    """Return what the labels mean, which has to be the same in all folders."""
    files = [folder / DESCRIPTION_FILE for folder in folders]
    descriptions = [DatasetDescription.load(file) for file in files]
    expected = labels_of(descriptions[0].label_scheme)
    for file, description in zip(files, descriptions, strict=True):
        found = labels_of(description.label_scheme)
        if found != expected:
            raise UserError(
                f"{file}: has the labels {found}, {files[0]} has {expected}: their probabilities "
                "cannot be averaged; name predictions of the same labels"
            )
    return descriptions[0]


def _common_cases(folders: Sequence[Path]) -> list[str]:
    """Return the cases, all of which have to be in all folders."""
    names = []
    for folder in folders:
        files = folder.glob(f"*{PROBABILITIES_ENDING}")
        names.append({file.stem for file in files if not file.name.startswith(".")})
    union = set().union(*names)
    if not union:
        raise UserError(
            f"{folders[0]}: holds no probabilities; predict with samnet_predict "
            "--save-probabilities"
        )
    missing = []
    for folder, there in zip(folders, names, strict=True):
        missing += [str(probability_file(folder, case)) for case in sorted(union - there)]
    if missing:
        listing = "\n".join(f"  {file}" for file in missing)
        raise UserError(
            "every case needs its probabilities in every folder; predict those that are missing "
            f"with samnet_predict --save-probabilities, or remove those of the others:\n{listing}"
        )
    return sorted(union)
