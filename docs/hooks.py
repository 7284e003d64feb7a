"""Pages of the site that are made when it is built. See `mkdocs.yml`."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
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
LINK = re.compile(r"(\]\()([^)#\s]+\.(?:md|png|ipynb))([)#])")


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

    Args:
        markdown: The text of the page.
        page: The page.
        _: What mkdocs tells besides.

    Returns:
        The text with the links of the site.
    """
    place = page.file.src_uri
    sources = {page_of: source for source, page_of in OUTSIDE.items()}
    here = PurePosixPath(sources.get(place, f"docs/{place}")).parent

    def turn(match: re.Match[str]) -> str:
        if "://" in match[2]:
            return match[0]
        target = _normal(here / match[2])
        target = OUTSIDE.get(target, target.removeprefix("docs/"))
        up = "../" * place.count("/")
        return f"{match[1]}{up}{target}{match[3]}"

    return LINK.sub(turn, markdown)


def _normal(path: PurePosixPath) -> str:
    """Return a path without `..`."""
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and parts:
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)
