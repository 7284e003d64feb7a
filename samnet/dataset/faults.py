"""What is wrong or odd with a data set: one entry a finding, one report a data set."""

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

    kind: a few words, the same for every finding of its kind.
    file: its path. value: what was found there. remedy: what to do about it.
    case: the case's identifier, or None where the finding is about the data set as a whole.
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
    """A finding from an error's message, which reads `FILE: VALUE; REMEDY` or `FILE: VALUE`.

    remedy: what to do where the message does not say.
    """
    text = message.removeprefix(f"{file}: ")
    value, separator, own_remedy = text.rpartition("; ")
    return (
        Fault(kind, str(file), value, own_remedy, case)
        if separator
        else Fault(kind, str(file), text, remedy, case)
    )


@dataclass(frozen=True)
class Report:
    """All findings of one data set.

    num_cases: 0 where `dataset.json` or the folder of images cannot be used.
    faults: what has to be mended before planning. remarks: what may be meant so.
    duplicates: groups of cases whose images have the same content.
    """

    dataset_name: str
    num_cases: int
    faults: tuple[Fault, ...] = ()
    remarks: tuple[Fault, ...] = ()
    duplicates: tuple[tuple[str, ...], ...] = ()

    def __str__(self) -> str:
        if self.faults:
            lines = [str(DatasetFaults(self.dataset_name, list(map(str, self.faults))))]
        else:
            lines = [f"{self.dataset_name}: {self.num_cases} cases, no faults"]
        if self.remarks:
            lines += ["  to look at:", *(f"  - {line}" for line in short_list(self.remarks))]
        return "\n".join(lines)

    def raise_if_faulty(self) -> None:
        """Raise DatasetFaults with all faults, if there are any."""
        if self.faults:
            raise DatasetFaults(self.dataset_name, list(map(str, self.faults)))


def short_list(findings: Sequence[Fault]) -> list[str]:
    """The findings as sentences, of each kind the first few only: a hundred empty label maps are one remark."""
    lines: list[str] = []
    seen: Counter[str] = Counter()
    for finding in findings:
        seen[finding.kind] += 1
        if seen[finding.kind] <= SHOWN_REMARKS_OF_A_KIND:
            lines.append(str(finding))
    more = {
        kind: count - SHOWN_REMARKS_OF_A_KIND
        for kind, count in seen.items()
        if count > SHOWN_REMARKS_OF_A_KIND
    }
    return lines + [f"{count} more of this kind: {kind}" for kind, count in more.items()]
