"""Completion in bash, zsh and fish: the script for the shell, and what it calls.

The script is argcomplete's. At each completion it starts the command that is being typed with the
variable `_ARGCOMPLETE`, and the command answers with what its parser accepts next.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_ARGCOMPLETE"  # the number of words up to the name of the program


def completion_script(names: Iterable[str], shell: str) -> str:
    """Return the script that a shell reads at its start.

    Args:
        names: The programs to complete.
        shell: One of `SHELLS`.

    Returns:
        The script.
    """
    import argcomplete

    return argcomplete.shellcode(list(names), shell=shell)


def is_completing() -> bool:
    """Tell whether a shell has started this process to complete a command line."""
    return _VARIABLE in os.environ


def completed_command() -> str | None:
    """Return the command of `samnet COMMAND ...` whose options are being completed.

    Returns:
        The word after `samnet`; None while that word itself is being typed.
    """
    from argcomplete import split_line

    line, end = os.environ["COMP_LINE"], int(os.environ["COMP_POINT"])
    words = split_line(line, end)[3]
    first = int(os.environ[_VARIABLE])
    return words[first] if len(words) > first else None


def complete(
    parser: argparse.ArgumentParser,
    choices: Mapping[str, Mapping[str, str]] | None = None,
    *,
    words_before: int = 0,
) -> None:
    """Write what the word at the cursor may become, and end the process.

    Args:
        parser: The parser of the command line.
        choices: Name of an argument -> its values and what each stands for; of other arguments
            their metavars tell the values.
        words_before: Number of words before the name of the command.
    """
    import argcomplete

    from samnet.cli.completers import find_completer

    for action in _actions(parser):
        values = (choices or {}).get(action.dest)
        completer = find_completer(action) if values is None else _listing(values)
        if not action.option_strings and action.nargs == "?":
            action.nargs = None  # one after the other; all of them could be left out at once
        if completer is not None:
            action.completer = completer  # type: ignore[attr-defined]
    has_positionals = any(not action.option_strings for action in parser._actions)
    os.environ[_VARIABLE] = str(int(os.environ[_VARIABLE]) + words_before)
    argcomplete.autocomplete(
        parser,
        # Where a value is due, options are offered after a dash only.
        always_complete_options=False if has_positionals else "long",
        default_completer=argcomplete.SuppressCompleter(),
    )


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of a parser and of its subparsers."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                yield from _actions(subparser)
        else:
            yield action


def _listing(values: Mapping[str, str]) -> Any:
    return lambda **_: values
