"""Findings about a data set: what is wrong or unusual, collected in one report per data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from samnet.core.errors import DatasetFaults

SHOWN_REMARKS_OF_A_KIND = 5


@dataclass(frozen=True)
class Fault:
    """One finding.

    Attributes:
        kind: A few words, the same for every finding of this kind.
        file: Path of the file.
        value: What was found there.
        remedy: What to do about it.
        case: Identifier of the case, or None where the finding is about the whole data set.
    """

    kind: str
    file: str
    value: str
    remedy: str
    case: str | None = None

    def __str__(self) -> str:
        return f"{self.file}: {self.value}; {self.remedy}"


def fault_of_message(
    kind: str, message: str, file: Path, remedy: str, case: str | None = None
) -> Fault:
    """Return a finding that is built from an error message.

    Args:
        kind: The kind of the finding.
        message: A text of the form `FILE: VALUE; REMEDY` or `FILE: VALUE`.
        file: The file that the message is about.
        remedy: What to do, used where the message does not say it.
        case: Identifier of the case, or None where the finding is about the whole data set.

    Returns:
        The finding.
    """
    text = message.removeprefix(f"{file}: ")
    value, separator, remedy_of_message = text.rpartition("; ")
    if separator:
        return Fault(kind, str(file), value, remedy_of_message, case)
    return Fault(kind, str(file), text, remedy, case)


@dataclass(frozen=True)
class Report:
    """All findings about one data set.

    Attributes:
        dataset_name: Name of the data set.
        num_cases: Number of cases; 0 where `dataset.json` or the folder of images cannot be used.
        faults: Findings that have to be fixed before planning.
        remarks: Findings that may be intended.
        duplicates: Groups of cases whose images have the same content.
    """

    dataset_name: str
    num_cases: int
    faults: tuple[Fault, ...] = ()
    remarks: tuple[Fault, ...] = ()
    duplicates: tuple[tuple[str, ...], ...] = ()

    def __str__(self) -> str:
        if self.faults:
            lines = [str(self._error())]
        else:
            lines = [f"{self.dataset_name}: {self.num_cases} cases, no faults"]
        if self.remarks:
            lines.append("  to look at:")
            lines += [f"  - {line}" for line in short_list(self.remarks)]
        return "\n".join(lines)

    def raise_if_faulty(self) -> None:
        """Raise an error that lists all faults, if there are any.

        Raises:
            DatasetFaults: The data set has faults.
        """
        if self.faults:
            raise self._error()

    def _error(self) -> DatasetFaults:
        return DatasetFaults(self.dataset_name, [str(fault) for fault in self.faults])


def short_list(findings: Sequence[Fault]) -> list[str]:
    """Describe findings, but only the first few of each kind.

    A hundred empty label maps are thus a few lines, followed by the number of the others.

    Args:
        findings: Findings of any kinds.

    Returns:
        One sentence for each finding shown, then one for each kind of which some are not shown.
    """
    lines: list[str] = []
    counts: Counter[str] = Counter()
    for finding in findings:
        counts[finding.kind] += 1
        if counts[finding.kind] <= SHOWN_REMARKS_OF_A_KIND:
            lines.append(str(finding))
    for kind, count in counts.items():
        if count > SHOWN_REMARKS_OF_A_KIND:
            lines.append(f"{count - SHOWN_REMARKS_OF_A_KIND} more of this kind: {kind}")
    return lines
