"""The container files agree with the package and with each other. No image is built."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from samnet.core import paths
from samnet.models import registry

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "containers" / "Dockerfile").read_text(encoding="utf-8")
DEFINITION = (ROOT / "containers" / "samnet.def").read_text(encoding="utf-8")
# What setuptools needs to build the package.
SOURCES = {"pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "plans", "samnet"}
ARGUMENT = re.compile(
    r"^(?:ARG| )\s*(PYTHON_VERSION|TORCH_VERSION|TORCH_INDEX)=(\S+)$", re.MULTILINE
)


def copied_into_image() -> set[str]:
    lines = re.findall(r"^COPY ((?!--from)\S.*) \S+$", DOCKERFILE, re.MULTILINE)
    return {name for line in lines for name in line.split()}


def copied_into_definition() -> set[str]:
    part = DEFINITION.split("%files")[1].split("%post")[0]
    return {line.split()[0] for line in part.strip().splitlines()}


def test_images_are_built_of_what_the_package_needs() -> None:
    assert copied_into_image() == SOURCES
    assert copied_into_definition() == SOURCES
    assert [name for name in SOURCES if not (ROOT / name).exists()] == []


def test_dockerignore_admits_what_the_image_is_built_of_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == SOURCES


def test_both_images_have_the_torch_that_samnet_is_tested_with() -> None:
    image = dict(ARGUMENT.findall(DOCKERFILE))
    assert image == dict(ARGUMENT.findall(DEFINITION))
    assert set(image) == {"PYTHON_VERSION", "TORCH_VERSION", "TORCH_INDEX"}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"torch=={image['TORCH_VERSION']}" in makefile
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f"Python :: {image['PYTHON_VERSION']}" in project


def test_image_runs_samnet_without_root_rights() -> None:
    last_stage = DOCKERFILE.split("FROM ")[-1]
    assert re.search(r"^USER 1000:1000$", last_stage, re.MULTILINE)
    assert 'ENTRYPOINT ["samnet"]' in last_stage


def test_image_sets_the_folders_that_samnet_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = dict(re.findall(r"(samnet_\w+)=(/data/\w+)", DOCKERFILE))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    folders = (
        paths.raw_folder(),
        paths.preprocessed_folder(),
        paths.results_folder(),
        registry.checkpoints_folder(),
    )
    assert [str(folder) for folder in folders] == list(variables.values())
