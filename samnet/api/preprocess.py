"""`samnet.preprocess`: prepare the cases of a planned data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from samnet.api.session import Folder, api_call, chosen_processes
from samnet.core.progress_listener import Progress
from samnet.dataset.cases import RawDataset
from samnet.preprocessing.prepare_planned import prepare_planned_dataset
from samnet.training.kept_measurements import KeptMeasurements


@dataclass(frozen=True)
class Preprocessed:
    """A data set whose cases are prepared.

    Attributes:
        dataset: Name of the data set.
        folder: The folder of its plan, its folds and its prepared cases.
        num_cases: Number of its training cases.
        num_unlabelled: Number of its cases without labels, in `imagesUn`.
    """

    dataset: str
    folder: Path
    num_cases: int
    num_unlabelled: int

    def __repr__(self) -> str:
        return f"Preprocessed({self.dataset!r}, {self.num_cases} cases in {str(self.folder)!r})"


def preprocess(
    dataset: int | str,
    *,
    raw: Folder | None = None,
    preprocessed: Folder | None = None,
    num_parts: int = 1,
    part: int = 0,
    processes: int | None = None,
    progress: Progress | bool | None = None,
) -> Preprocessed:
    """Prepare the training cases of a planned data set, as `samnet_preprocess` does.

    What is prepared already stays, so a call that was stopped is simply made again.

    Args:
        dataset: Id or name of the data set.
        raw: As for `samnet.plan`.
        preprocessed: As for `samnet.plan`.
        num_parts: Number of parts into which several jobs divide the cases.
        part: The part to prepare, from 0.
        processes: Number of worker processes; 0 to do all in this process, None for one a core, at
            most 8.
        progress: As for `samnet.verify`.

    Returns:
        Where the prepared cases are.

    Raises:
        UserError: There is no such data set, or it is not planned yet.
        SamnetError: Cases could not be prepared; each is named with its reason, the others are
            done.

    Examples:
        >>> samnet.preprocess(8, raw="data/raw", preprocessed="data/preprocessed")
        Preprocessed('Dataset008_Liver', 131 cases in 'data/preprocessed/Dataset008_Liver')
    """
    with api_call(progress, raw, preprocessed):
        loaded = RawDataset.load(dataset)
        measure = KeptMeasurements(loaded.folder.step_memory_file)
        prepare_planned_dataset(loaded, chosen_processes(processes), measure, num_parts, part)
    return Preprocessed(
        loaded.name, loaded.folder.preprocessed, len(loaded.cases), len(loaded.unlabelled_cases)
    )
