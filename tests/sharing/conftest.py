"""An exported model, and changes of its archive."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from builders.archives import Contents, read_archive, update_manifest, write_archive
from builders.models import make_model, make_plan
from builders.tiny import add_tiny_backbone

from samnet.models.model_folder import ModelFolder
from samnet.sharing.export import export_model


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The results folder, which does not exist yet."""
    monkeypatch.setenv("samnet_results", str(tmp_path / "results"))
    return tmp_path / "results"


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The content of an archive of a network that needs no base."""
    folder = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        add_tiny_backbone(patch)
        make_model(folder, make_plan("scratch", head="linear", input_size=32))
        export_model(ModelFolder(folder), folder / "model.zip")
    return (folder / "model.zip").read_bytes()


@pytest.fixture
def archive(
    exported: bytes, tmp_path: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A good archive; the model is not installed."""
    add_tiny_backbone(monkeypatch)
    (tmp_path / "good.zip").write_bytes(exported)
    return tmp_path / "good.zip"


@pytest.fixture
def change(archive: Path) -> Callable[..., Path]:
    """A function that writes the archive again, changed by a function of its contents.

    The manifest agrees with the change unless `agree` is False.
    """

    def changed(alter: Callable[[Contents], object], *, agree: bool = True) -> Path:
        contents = read_archive(archive)
        alter(contents)
        if agree:
            update_manifest(contents)
        return write_archive(archive.with_name("changed.zip"), contents)

    return changed
