"""The documentation site builds without a warning, and has what it promises."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from builders.pages import ROOT

import samnet
from samnet.cli.main import COMMANDS

LOADED = re.compile(
    r"<(?:script|img|iframe)[^>]* src=\"(https?:[^\"]+)|<link[^>]* href=\"(https?:[^\"]+)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly."""
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("`make docs` has not set up the packages that build the site")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    process = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    return folder


def test_every_public_name_has_an_anchor(site: Path) -> None:
    page = (site / "reference" / "api.html").read_text(encoding="utf-8")
    anchors = set(re.findall(r'id="([^"]+)"', page))
    for name in samnet.__all__:
        if name.startswith("__"):
            continue
        assert f"samnet.{name}" in anchors
        for member, value in vars(getattr(samnet, name)).items():
            if not member.startswith("_") and inspect.isroutine(getattr(value, "__func__", value)):
                assert f"samnet.{name}.{member}" in anchors


def test_every_command_has_a_page(site: Path) -> None:
    pages = {file.stem for file in (site / "reference" / "commands").glob("*.html")}
    assert pages == {"index", *COMMANDS}


def test_pages_load_nothing_from_a_network(site: Path) -> None:
    loaded = []
    for file in site.rglob("*.html"):
        loaded += LOADED.findall(file.read_text(encoding="utf-8"))
    assert not loaded
