"""The layout of help pages: texts wrapped to the terminal, and examples at the end."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Sequence

WIDEST = 100  # columns; longer lines are hard to read on a wide terminal
NARROWEST = 40
_COMMAND_INDENT = "  "
_MEANING_INDENT = "      "

Example = tuple[str, str]  # a command line, and what it does


def text_width() -> int:
    """Return the width of help pages.

    Returns:
        The columns of the terminal, or those of the variable `COLUMNS`, between `NARROWEST` and
        `WIDEST`.
    """
    columns = shutil.get_terminal_size().columns
    return max(NARROWEST, min(WIDEST, columns))


class HelpLayout(argparse.HelpFormatter):
    """Wraps descriptions and epilogs, paragraph by paragraph, and leaves command lines whole.

    Each line of such a text is a paragraph. Indented ones are of examples.
    """

    def __init__(self, prog: str, *arguments: int, **named: int) -> None:
        """Take the width of the terminal, up to `WIDEST`.

        Args:
            prog: The name of the command.
            arguments: As `argparse.HelpFormatter` has them.
            named: As `argparse.HelpFormatter` has them.
        """
        named.setdefault("width", text_width())
        super().__init__(prog, *arguments, **named)

    def _split_lines(self, text: str, width: int) -> list[str]:
        # Names of options are not broken at their hyphens.
        return textwrap.wrap(
            " ".join(text.split()), width, break_long_words=False, break_on_hyphens=False
        )

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = [_wrap_paragraph(line, width) for line in text.splitlines()]
        return textwrap.indent("\n".join(lines), indent)


def _wrap_paragraph(line: str, width: int) -> str:
    is_command = line.startswith(_COMMAND_INDENT) and not line.startswith(_MEANING_INDENT)
    if is_command:
        return line  # a terminal shows a long one on two lines, and it can still be copied
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(
        line.strip(),
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def describe_examples(examples: Sequence[Example]) -> str:
    """Return examples as they stand at the end of a help page.

    Args:
        examples: Command lines, and what each does.

    Returns:
        A title, and two lines for each example.
    """
    lines = ["examples:"]
    for command, meaning in examples:
        lines += [f"{_COMMAND_INDENT}{command}", f"{_MEANING_INDENT}{meaning}"]
    return "\n".join(lines)


def list_names(summaries: Sequence[tuple[str, str]]) -> str:
    """Return names and what each stands for, in two columns.

    Args:
        summaries: Names and summaries.

    Returns:
        One entry for each name, wrapped to the width of the terminal.
    """
    column = max(len(name) for name, _ in summaries) + 4
    entries = []
    for name, summary in summaries:
        entries.append(
            textwrap.fill(
                summary,
                text_width(),
                initial_indent=f"{_COMMAND_INDENT}{name}".ljust(column),
                subsequent_indent=" " * column,
            )
        )
    return "\n".join(entries)
