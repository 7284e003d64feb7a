"""`samnet.verify`: check a raw data set."""

from __future__ import annotations

from dataclasses import dataclass

from samnet.api.session import Folder, api_call, chosen_processes
from samnet.core.progress_listener import Progress
from samnet.dataset.faults import Fault, Report
from samnet.dataset.integrity import inspect_dataset_by_name
from samnet.dataset.repair import map_masks


@dataclass(frozen=True)
class Verification:
    """What was found in a raw data set.

    Attributes:
        dataset: Name of the data set.
        num_cases: Number of its training cases.
        faults: Findings that have to be fixed before planning.
        remarks: Findings that may be intended.
        duplicates: Groups of cases whose images have the same content.
        fixes: One sentence for each file that was corrected.
    """

    dataset: str
    num_cases: int
    faults: tuple[Fault, ...] = ()
    remarks: tuple[Fault, ...] = ()
    duplicates: tuple[tuple[str, ...], ...] = ()
    fixes: tuple[str, ...] = ()

    @property
    def is_usable(self) -> bool:
        """Whether the data set has no faults."""
        return not self.faults

    def raise_if_faulty(self) -> None:
        """Raise an error that lists all faults, if there are any.

        Raises:
            UserError: The data set has faults.
        """
        self._report().raise_if_faulty()

    def _report(self) -> Report:
        return Report(self.dataset, self.num_cases, self.faults, self.remarks, self.duplicates)

    def __str__(self) -> str:
        """Return what `samnet_verify_dataset` prints."""
        return str(self._report())

    def __repr__(self) -> str:
        return (
            f"Verification({self.dataset!r}, {self.num_cases} cases, {len(self.faults)} faults, "
            f"{len(self.remarks)} remarks)"
        )


def verify(
    dataset: int | str,
    *,
    raw: Folder | None = None,
    fix: bool = False,
    processes: int | None = None,
    progress: Progress | bool | None = None,
) -> Verification:
    """Check a raw data set and return all findings, as `samnet_verify_dataset` does.

    Args:
        dataset: Id or name of the data set, such as `8` or `"Dataset008_Liver"`.
        raw: The folder that holds it; by default the environment variable `samnet_raw`, else
            `nnUNet_raw`, else `samnet_data/raw`.
        fix: Whether to map masks of 0 and 255 to 0 and 1, where there is one class. The unchanged
            files are kept in `labelsTr_before_fix`.
        processes: Number of worker processes; 0 to do all in this process, None for one a core, at
            most 8.
        progress: Called with the number of items done, their number or None, and what is done; what
            it raises stops the work and comes out of this call. True for a line on standard error.

    Returns:
        The findings. Faults are returned, not raised.

    Raises:
        UserError: There is no such data set.

    Examples:
        >>> found = samnet.verify(8, raw="data/raw")
        >>> for fault in found.faults:
        ...     print(fault.case, fault.value, fault.remedy)
    """
    workers = chosen_processes(processes)
    with api_call(progress, raw=raw):
        report = inspect_dataset_by_name(dataset, workers)
        fixes = tuple(map_masks(report)) if fix else ()
        if fixes:
            report = inspect_dataset_by_name(dataset, workers)
    return Verification(
        report.dataset_name,
        report.num_cases,
        report.faults,
        report.remarks,
        report.duplicates,
        fixes,
    )
