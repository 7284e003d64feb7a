"""Changes that no test has to notice, each with its reason."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).with_name("survivors.json")


@dataclass(frozen=True)
class Change:
    """A change of one place in a source file.

    Attributes:
        source: Source file, relative to the root of the repository.
        removed: Lines of the source file, without their indentation.
        added: Lines that take their place.
    """

    source: str
    removed: str
    added: str

    @classmethod
    def from_diff(cls, source: str, diff: str) -> Change:
        """Read a unified diff.

        Args:
            source: Source file, relative to the root of the repository.
            diff: Lines of the diff of one mutant.

        Returns:
            The change without its context.
        """
        removed = []
        added = []
        for line in diff.splitlines():
            if line.startswith(("---", "+++")):
                continue
            if line.startswith("-"):
                removed.append(line[1:].strip())
            if line.startswith("+"):
                added.append(line[1:].strip())
        return cls(source, "\n".join(removed), "\n".join(added))


def read_reasons() -> dict[Change, str]:
    """Return the changes that may survive, and why.

    Returns:
        From a change to the reason for which no test can notice it, or need not.
    """
    entries = json.loads(LIST.read_text(encoding="utf-8"))
    return {
        Change(entry["source"], entry["removed"], entry["added"]): entry["reason"]
        for entry in entries
    }
