"""Links, anchors and navigation of the documentation, without the tools that build the site."""

from __future__ import annotations

import ast
import inspect
import os
import re
import types
import unicodedata
from pathlib import PurePosixPath

import pytest
from builders.pages import PAGES, ROOT, page_name

import samnet
from samnet.cli.reference import reference_pages

CHECKED = (*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md")
# Pages of the site that are made when it is built.
COMMAND_PAGES = {
    f"docs/reference/commands/{name}": text for name, text in reference_pages().items()
}
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(((?!https?:)[^)\s]+)\)")
API_PAGE = ROOT / "docs" / "reference" / "api.md"


def text_of(page: str) -> str | None:
    """Return the text of a page without its blocks; None where there is no such page."""
    file = ROOT / page
    text = COMMAND_PAGES.get(page)
    if text is None and file.is_file():
        text = file.read_text(encoding="utf-8") if file.suffix == ".md" else ""
    return None if text is None else FENCED.sub("", text)


def anchors_of(page: str) -> set[str]:
    """Return the anchors of the headings of a page, as mkdocs and GitHub make them."""
    anchors = set()
    for heading in re.findall(r"^#+ (.+)$", text_of(page) or "", re.MULTILINE):
        plain = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
        words = re.sub(r"[^\w\s-]", "", plain).strip().lower()
        anchors.add(re.sub(r"[-\s]+", "-", words))
    return anchors


def broken_links(page: str, text: str) -> list[str]:
    """Return the links of a page that lead nowhere."""
    broken = []
    for link in LINK.findall(text):
        place, _, anchor = link.partition("#")
        folder = PurePosixPath(page).parent
        target = os.path.normpath(folder / place) if place else page
        if text_of(target) is None or (anchor and anchor not in anchors_of(target)):
            broken.append(f"{page}: {link}")
    return broken


def test_links_and_anchors_lead_somewhere() -> None:
    broken = []
    for page in map(page_name, CHECKED):
        broken += broken_links(page, text_of(page) or "")
    for page, text in COMMAND_PAGES.items():
        broken += broken_links(page, text)
    assert not broken, "\n".join(broken)


def test_broken_links_are_found() -> None:
    text = "[a](data.md) [b](data.md#nothing) [c](../README.md) [d](none.md) [e](#labels)"
    assert broken_links("docs/labels.md", text) == [
        "docs/labels.md: data.md#nothing",
        "docs/labels.md: none.md",
    ]


def test_navigation_of_the_site_has_every_page_once() -> None:
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    _, _, navigation = settings.partition("\nnav:\n")
    listed = re.findall(r"(?:- |: )([\w/]+\.md)", navigation)
    pages = [file.relative_to(ROOT / "docs").as_posix() for file in (ROOT / "docs").rglob("*.md")]
    made = ["reference/commands/index.md", "benchmarks.md", "contributing.md", "changelog.md"]
    assert sorted(listed) == sorted([*pages, *made])


def test_python_in_the_pages_uses_public_names() -> None:
    unknown = []
    for page in PAGES:
        for block in PYTHON.findall(page.read_text(encoding="utf-8")):
            ast.parse(block)
            used = re.findall(r"(?<![\w/])samnet\.([A-Za-z]\w*)", block)
            unknown += [f"{page_name(page)}: {name}" for name in used if name not in samnet.__all__]
    assert not unknown, "\n".join(unknown)


def test_python_reference_has_every_public_name() -> None:
    text = API_PAGE.read_text(encoding="utf-8")
    listed = re.findall(r"^::: samnet\.(?:\w+\.)*(\w+)$", text, re.MULTILINE)
    public = [name for name in samnet.__all__ if not name.startswith("__")]
    assert sorted(listed) == sorted(public)


def documented_names() -> list[str]:
    """Return the public names that have docstrings; a type has the text below it in the source."""
    public = [name for name in samnet.__all__ if not name.startswith("__")]
    return [name for name in public if not isinstance(getattr(samnet, name), types.GenericAlias)]


@pytest.mark.parametrize("name", documented_names())
def test_public_names_and_their_methods_are_documented(name: str) -> None:
    """The site shows no member without a docstring."""
    found = getattr(samnet, name)
    assert inspect.getdoc(found)
    if not inspect.isclass(found):
        return
    for member, value in inspect.getmembers(found):
        is_ours = (getattr(value, "__module__", None) or "").startswith("samnet")
        if not member.startswith("_") and callable(value) and is_ours:
            assert inspect.getdoc(value), f"{name}.{member}"
