"""The reference of the commands for the site: every option, with what `--help` says of it."""

from __future__ import annotations

import argparse

import pytest

from samnet.cli import reference
from samnet.cli.command import Command
from samnet.cli.main import COMMANDS


def options_of(parser: argparse.ArgumentParser) -> list[str]:
    """Return the options of a parser and of its subcommands."""
    options = []
    for action in parser._actions:
        options += action.option_strings
        if isinstance(action.choices, dict):
            for subparser in action.choices.values():
                options += options_of(subparser)
    return options


@pytest.mark.parametrize("name", COMMANDS)
def test_page_of_a_command_has_all_its_options(name: str) -> None:
    module = reference.importlib.import_module(f"samnet.cli.{name}")
    page = reference.command_page(name)
    assert page.startswith(f"# samnet_{name}\n")
    assert "usage: samnet_" in page
    for option in options_of(module.COMMAND.parser()):
        if option not in ("-h", "--help", "--verbose", "--version"):
            assert f"`{option}" in page, option


def test_overview_has_a_row_for_each_command() -> None:
    pages = reference.reference_pages()
    assert set(pages) == {"index.md", *(f"{name}.md" for name in COMMANDS)}
    for name in COMMANDS:
        assert f"| [`samnet_{name}`]({name}.md) |" in pages["index.md"]


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> str:
    """The page of a synthetic command."""

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--rate", type=float, default=0.5, metavar="R", help="the rate")
        parser.add_argument("--number", type=int, default=3, help="how many (3)")
        parser.add_argument("--kind", choices=("a", "b"), required=True, help="one of <kinds> | x")
        parser.add_argument("--secret", help=argparse.SUPPRESS)
        group = parser.add_argument_group("about places", "Where things are.")
        group.add_argument("place", nargs="?", help="see $samnet_raw and file_name.json, --rate")
        parser.epilog = (
            "First note.\nSecond line.\n\nexamples:\n  samnet_demo --rate 1\n      do it\n"
            "  samnet_demo --kind a\n      in two\n      lines\n"
        )

    command = Command("samnet_demo", "Do *it*.", add_arguments, print)
    monkeypatch.setattr("samnet.cli.demo.COMMAND", command)
    return reference.command_page("demo")


def test_options_have_forms_choices_and_defaults(page: str) -> None:
    assert "`--rate R`\n:   the rate; default: `0.5`" in page
    assert "`--number NUMBER`\n:   how many (3)\n" in page
    assert "`--kind {a,b}`\n:   one of `<kinds>` `|` x; *required*" in page
    assert "secret" not in page


def test_groups_notes_and_examples_have_sections(page: str) -> None:
    assert "## About places\n\nWhere things are.\n\n`place`" in page
    assert "see `$samnet_raw` and `file_name.json`, `--rate`" in page
    assert "## Notes\n\nFirst note.\n\nSecond line.\n" in page
    assert "Do it:\n\n```text\nsamnet_demo --rate 1\n```" in page
    assert "In two lines:\n\n```text\nsamnet_demo --kind a\n```" in page
    assert "Do `*it*`.\n" in page
