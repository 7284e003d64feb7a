"""A project that went through all stages, for tests that disturb a stage."""

from __future__ import annotations

import pytest
import torch
from builders.stages import Project
from builders.tiny import add_tiny_backbone, tiny_backbone

__all__ = ["tiny_backbone"]


@pytest.fixture(scope="session")
def completed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that went through all stages undisturbed."""
    project = Project(tmp_path_factory.mktemp("project"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the other tests: another number rounds differently
    with pytest.MonkeyPatch.context() as patch:
        add_tiny_backbone(patch)
        project.enter(patch)
        project.complete()
    torch.set_num_threads(threads)
    return project


@pytest.fixture
def project(completed: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The completed project, to be put back to the beginning of a stage."""
    completed.enter(monkeypatch)
    return completed
