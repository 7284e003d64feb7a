"""Pages of the site that are made when it is built. See `mkdocs.yml`."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from samnet.cli.main import COMMANDS as COMMAND_NAMES
from samnet.cli.reference import OVERVIEW, reference_pages

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = "reference/commands"
# Pages that lie outside of `docs` for readers of the repository -> their place on the site.
OUTSIDE = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
}
LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+\.(?:md|png|ipynb))(#[^)]*)?\)")


def on_config(config: Any) -> Any:
    """List the page of each command in the navigation, where `mkdocs.yml` names their overview.

    Args:
        config: The settings of mkdocs.

    Returns:
        The same settings with the longer navigation.
    """
    overview = f"{COMMANDS}/{OVERVIEW}"
    pages = [overview]
    for name in COMMAND_NAMES:
        pages.append({f"samnet_{name}": f"{COMMANDS}/{name}.md"})
    config.nav = _replace(config.nav, overview, pages)
    return config


def _replace(entries: Any, page: str, pages: list) -> Any:
    """Return a part of the navigation with `pages` in place of `page`, at any depth."""
    if isinstance(entries, list):
        return [_replace(entry, page, pages) for entry in entries]
    if isinstance(entries, dict):
        return {title: _replace(entry, page, pages) for title, entry in entries.items()}
    return pages if entries == page else entries


def on_files(files: Files, config: Any) -> Files:
    """Add the reference of the commands, and the pages that lie outside of `docs`.

    Args:
        files: The files of the site.
        config: The settings of mkdocs.

    Returns:
        The same files and the new ones.
    """
    for name, text in reference_pages().items():
        files.append(File.generated(config, f"{COMMANDS}/{name}", content=text))
    for source, page in OUTSIDE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links of the repository into links of the site.

    A link that is named by a file, such as `data.md`, gets the title of that page.

    Args:
        markdown: The text of the page.
        page: The page.
        _: What mkdocs tells besides.

    Returns:
        The text with the links of the site.
    """
    place = page.file.src_uri
    sources = {target: source for source, target in OUTSIDE.items()}
    folder = posixpath.dirname(sources.get(place, f"docs/{place}"))

    def turn(match: re.Match[str]) -> str:
        text, link, anchor = match[1], match[2], match[3] or ""
        if "://" in link:
            return match[0]
        source = posixpath.normpath(posixpath.join(folder, link))
        target = OUTSIDE.get(source, source.removeprefix("docs/"))
        if text.endswith(".md"):
            text = _title(source)
        up = "../" * place.count("/")
        return f"[{text}]({up}{target}{anchor})"

    return LINK.sub(turn, markdown)


def _title(source: str) -> str:
    """Return the first heading of a page of the repository; its name where there is none."""
    file = ROOT / source
    if not file.is_file():
        return source  # mkdocs names it as a broken link
    return file.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
