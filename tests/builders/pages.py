"""The pages of the documentation: their blocks, and the commands that they show."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# In this order they are read and tested.
PAGES = (
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "benchmarks" / "README.md",
)
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_SHELL = ("", "bash", "sh", "console")
_ASSIGNMENTS = re.compile(r"^(?:\w+=\S* )+")
_COMMAND = re.compile(r"^(?:samnet_(\w+)(?= |$)|(?:.* -m )?samnet (\w+))(.*)$")
_SPAN = re.compile(r"(?<!`)`(samnet_\w+ [^`]*)`(?!`)")


@dataclass(frozen=True)
class ShownCommand:
    """A command that a page shows.

    Attributes:
        page: The page, relative to the repository.
        name: The command without `samnet_`.
        words: The words after it.
    """

    page: str
    name: str
    words: tuple[str, ...]

    @property
    def line(self) -> str:
        """The command line in one form, for lists and messages."""
        return " ".join([f"samnet_{self.name}", *self.words])


def page_name(page: Path) -> str:
    """Return the name of a page, such as `docs/data.md`."""
    return page.relative_to(ROOT).as_posix()


def shown_commands(page: Path) -> list[ShownCommand]:
    """Return the commands in the blocks of a page, in its order."""
    commands = []
    for language, block in _BLOCK.findall(page.read_text(encoding="utf-8")):
        if language in _SHELL:
            for line in block.replace("\\\n", " ").splitlines():
                commands += _commands_of(page, line)
    return commands


def shown_spans(page: Path) -> list[ShownCommand]:
    """Return the commands with options within sentences and tables of a page."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    commands = []
    for span in _SPAN.findall(text):
        commands += _commands_of(page, " ".join(span.split()))
    return commands


def _commands_of(page: Path, line: str) -> list[ShownCommand]:
    """Return the command of a line, or nothing."""
    line = _ASSIGNMENTS.sub("", line.strip().removeprefix("$ "))
    match = _COMMAND.match(line)
    if match is None:
        return []
    words = shlex.split(match[3].removesuffix("&"), comments=True)
    return [ShownCommand(page_name(page), match[1] or match[2], tuple(words))]
