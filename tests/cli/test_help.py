"""Help pages of all commands: their examples are true, and they are alike in form."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from collections.abc import Iterator

import pytest

from samnet.cli import main as samnet
from samnet.cli.command import Command
from samnet.cli.help_layout import WIDEST

NARROW = 60
ORDINARY_CAPITAL = re.compile(r"[A-Z][a-z]+\b")  # not DICOM, GiB, SAMed
METAVAR = re.compile(r"[A-Z]+(=[A-Z]+)?")
commands = pytest.mark.parametrize("name", samnet.COMMANDS)


def load(name: str) -> Command:
    return importlib.import_module(f"samnet.cli.{name}").COMMAND


def parsers(command: Command) -> Iterator[argparse.ArgumentParser]:
    """Yield the parser of a command, and those of its subcommands."""
    parser = command.parser()
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


def options(name: str) -> Iterator[argparse.Action]:
    """Yield what can be given to a command, except the choice of a subcommand."""
    for parser in parsers(load(name)):
        for action in parser._actions:
            if not isinstance(action, argparse._SubParsersAction):
                yield action


def help_page(parser: argparse.ArgumentParser, columns: int, patch: pytest.MonkeyPatch) -> str:
    patch.setenv("COLUMNS", str(columns))
    return parser.format_help()


def may_be_long(line: str) -> bool:
    """Tell whether a line may hold an option or a command line, which are not broken."""
    return line.startswith(("usage:", "       ", "  -", "  samnet"))


@commands
def test_every_command_has_examples_that_it_accepts(name: str) -> None:
    command = load(name)
    assert 1 <= len(command.examples) <= 4
    for line, meaning in command.examples:
        first, *words = shlex.split(line)
        assert first == command.name
        command.parser().parse_args(words)
        assert re.fullmatch(r"[a-z].*[^.]", meaning)
        assert len(line) <= WIDEST - 2


def test_the_examples_of_samnet_name_commands_that_accept_them() -> None:
    for line, meaning in samnet.EXAMPLES:
        first, name, *words = shlex.split(line)
        assert first == "samnet"
        load(name).parser().parse_args(words)
        assert re.fullmatch(r"[a-z].*[^.]", meaning)


@commands
def test_help_ends_with_the_examples(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command = load(name)
    page = help_page(command.parser(), 2 * WIDEST, monkeypatch)
    _, _, block = page.partition("\n\nexamples:\n")
    lines = [line.strip() for line in block.splitlines()]
    assert lines == [text for example in command.examples for text in example]


@commands
def test_help_is_wrapped_to_the_terminal(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for parser in parsers(load(name)):
        wide = help_page(parser, 2 * WIDEST, monkeypatch).splitlines()
        assert max(map(len, wide)) <= WIDEST
        narrow = help_page(parser, NARROW, monkeypatch).splitlines()
        too_long = [line for line in narrow if len(line) > NARROW and not may_be_long(line)]
        assert too_long == []
        assert len(narrow) > len(wide)


def test_the_list_of_commands_is_wrapped_to_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(2 * WIDEST))
    assert samnet.main(["--help"]) == 0
    wide = capsys.readouterr().out.splitlines()
    assert max(map(len, wide)) <= WIDEST
    monkeypatch.setenv("COLUMNS", str(NARROW))
    assert samnet.main(["--help"]) == 0
    narrow = capsys.readouterr().out.splitlines()
    assert max(map(len, narrow)) <= NARROW
    assert len(narrow) > len(wide)


def test_help_does_not_break_names_of_options(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in range(NARROW, WIDEST):
        page = help_page(load("pretrain").parser(), columns, monkeypatch)
        assert not re.search(r"--?\w+-\n", page)


@commands
def test_texts_around_the_options_are_sentences(name: str) -> None:
    for parser in parsers(load(name)):
        before_examples = (parser.epilog or "").partition("examples:\n")[0]
        texts = [parser.description or "", *before_examples.splitlines()]
        for text in filter(None, texts):
            assert text.endswith(".")


@commands
def test_help_of_options_has_one_form(name: str) -> None:
    for action in options(name):
        text = action.help or ""
        assert text, action
        assert not ORDINARY_CAPITAL.match(text), text
        assert not text.endswith((".", ",", ";")), text
        assert not re.search(r"e\.g\.|for example|\(s\)", text), text
        for metavar in (
            [action.metavar] if isinstance(action.metavar, str) else action.metavar or ()
        ):
            assert METAVAR.fullmatch(metavar), action


def is_told(default: object) -> bool:
    """Tell whether a default is a value that the help has to name."""
    return default not in (None, [], (), "", argparse.SUPPRESS) and default is not False


@commands
def test_defaults_are_named_at_the_end_and_in_one_form(name: str) -> None:
    for action in options(name):
        text = (action.help or "").replace("%(default)s", str(action.default))
        has_default = is_told(action.default)
        if has_default or "default" in text.replace("the default", ""):
            assert re.search(r" \(default: [^()]+\)$", text), (action.option_strings, text)
        assert not re.search(r"\((?!default)[\d.]+[smh]?\)$", text), text
