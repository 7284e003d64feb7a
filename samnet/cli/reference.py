"""The reference of all commands as Markdown, made from their parsers, for the site."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterator

from samnet.cli.main import COMMANDS

OVERVIEW = "index.md"
_WIDTH = 84  # columns of the usage, which fit the page without scrolling
_EXAMPLES = "examples:"  # begins the part of an epilog that holds examples
_SAID_OF_ALL = {"-h", "--help", "--verbose", "--version"}  # once, in the overview
# An option, or a word with a sign that no word of a sentence has.
_CODE = re.compile(r"^--?[a-z]|[a-z0-9][_=/][A-Za-z0-9]|[$<>\[\]|]|\*\w|\w\*|\w\.[a-z]{2,}$")
_INTRODUCTION = """\
# Commands

Every command exists in two forms, `samnet_train` and `samnet train`. They are in the order in \
which a project needs them. These pages are made from the same declarations as `--help`.

Every command has `--help`, `--version` (the version of samnet), and `--verbose` (more log lines, \
and the traceback of an error). Options cannot be abbreviated. \
[Exit codes](../../troubleshooting.md#exit-codes) are the same for all.
"""


def reference_pages() -> dict[str, str]:
    """Return the pages of the reference.

    Returns:
        File name -> Markdown: the overview, and one page for each command.
    """
    pages = {OVERVIEW: _overview()}
    for name in COMMANDS:
        pages[f"{name}.md"] = command_page(name)
    return pages


def _overview() -> str:
    rows = [
        f"| [`samnet_{name}`]({name}.md) | {_escape(summary)} |"
        for name, summary in COMMANDS.items()
    ]
    return "\n".join([_INTRODUCTION, "| command | what it does |", "|---|---|", *rows, ""])


def command_page(name: str) -> str:
    """Return the page of one command.

    Args:
        name: The command, such as `train`.

    Returns:
        Markdown: summary, usage, arguments and options by groups, examples.
    """
    command = importlib.import_module(f"samnet.cli.{name}").COMMAND
    parser = command.parser()
    parts = [f"# {command.name}", *_describe_parser(parser, 2)]
    for subcommand, subparser in _subparsers(parser):
        parts += [f"## {command.name} {subcommand}", *_describe_parser(subparser, 3)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _describe_parser(parser: argparse.ArgumentParser, level: int) -> Iterator[str]:
    """Yield the parts of a page about one parser, whose headings begin at `level`."""
    marks = "#" * level
    notes, _, examples = (parser.epilog or "").partition(_EXAMPLES)
    yield _prose(parser.description or "")
    yield f"```text\n{_usage(parser)}\n```"
    if examples.strip():
        yield f"{marks} Examples"
        yield from _describe_examples(examples)
    for group in parser._action_groups:
        entries = [entry for action in group._group_actions for entry in _entry(parser, action)]
        if entries:
            yield f"{marks} {(group.title or 'options').capitalize()}"
            yield _prose(group.description or "")
            yield "\n\n".join(entries)
    if notes.strip():
        yield f"{marks} Notes"
        yield from map(_prose, notes.splitlines())


def _usage(parser: argparse.ArgumentParser) -> str:
    """Return the usage, at the same width on every machine."""
    formatter = argparse.HelpFormatter(parser.prog, width=_WIDTH)
    actions = [action for action in parser._actions if not _is_said_of_all(action)]
    formatter.add_usage(parser.usage, actions, parser._mutually_exclusive_groups)
    return formatter.format_help().strip()


def _subparsers(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def _is_said_of_all(action: argparse.Action) -> bool:
    return bool(_SAID_OF_ALL.intersection(action.option_strings))


def _entry(parser: argparse.ArgumentParser, action: argparse.Action) -> Iterator[str]:
    """Yield an argument as an entry of a definition list; nothing where it is hidden."""
    if action.help == argparse.SUPPRESS or _is_said_of_all(action):
        return
    if isinstance(action, argparse._SubParsersAction):
        for subcommand in action._choices_actions:
            yield f"`{subcommand.dest}`\n:   {_prose(subcommand.help or '')}"
        return
    formatter = argparse.HelpFormatter(parser.prog, width=_WIDTH)
    invocation = formatter._format_action_invocation(action)
    forms = ", ".join(f"`{form}`" for form in invocation.split(", ")) if invocation else ""
    meaning = formatter._expand_help(action) if action.help else ""
    remarks = [_prose(meaning)] if meaning else []
    if action.required and action.option_strings:
        remarks.append("*required*")
    if _is_unsaid_default(action, meaning):
        remarks.append(f"default: `{_value_text(action.default)}`")
    yield f"{forms}\n:   {'; '.join(remarks)}"


def _is_unsaid_default(action: argparse.Action, meaning: str) -> bool:
    """Tell whether a default is a plain value that the help does not name."""
    if isinstance(action.default, bool) or action.default in (None, argparse.SUPPRESS, [], ()):
        return False
    if "default" in meaning:
        return False
    return f"({_value_text(action.default)}" not in meaning


def _value_text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _describe_examples(text: str) -> Iterator[str]:
    """Yield each example of an epilog: what it does, and the command line."""
    command, meaning = "", ""
    for line in text.strip("\n").splitlines():
        stripped = line.strip()
        if stripped.startswith("samnet"):
            yield from _example(command, meaning)
            command, meaning = stripped, ""
        elif stripped:
            meaning = f"{meaning} {stripped}".strip()
    yield from _example(command, meaning)


def _example(command: str, meaning: str) -> Iterator[str]:
    if meaning:
        sentence = _prose(meaning[0].upper() + meaning[1:].rstrip("."))
        yield f"{sentence}:"
    if command:
        yield f"```text\n{command}\n```"


def _prose(text: str) -> str:
    """Return a paragraph of the help as Markdown: options, variables and file names as code."""
    return " ".join(map(_word, text.split()))


def _word(word: str) -> str:
    """Return a word as Markdown, as code where it is something to type or to find on the disk."""
    core = word.strip("()'\",;:.?")
    if not _CODE.search(core) or "`" in core:
        return _escape(word)
    before, after = word.split(core, 1)
    return f"{_escape(before)}`{core}`{_escape(after)}"


def _escape(text: str) -> str:
    return re.sub(r"([\\`*_<>\[\]|])", r"\\\1", text)
