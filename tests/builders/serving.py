"""A small data set with a trained model, and a server of it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn
from fastapi.testclient import TestClient

from builders.data import write_dataset
from builders.tiny import add_tiny_backbone, make_model
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.serving.app import create_app
from samnet.serving.datastore import UNLABELLED_FOLDER
from samnet.serving.server import choose_models
from samnet.serving.service import Service
from samnet.serving.settings import Access, Limits, ServerSettings

NAME = "Dataset501_Tiny"
LABELS = {"background": 0, "one": 1, "two": 2}
LOCAL_URL = "http://127.0.0.1:8000"


def write_served_dataset(root: Path, monkeypatch: pytest.MonkeyPatch) -> DatasetFolder:
    """Write a data set with 3 labelled cases, 3 without labels, and a trained model.

    Args:
        root: The folder of all data.
        monkeypatch: Sets the variables of the folders, and adds the tiny backbone.

    Returns:
        The paths of the data set.
    """
    add_tiny_backbone(monkeypatch)
    for kind in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"samnet_{kind}", str(root / kind))
    raw = write_dataset(root / "raw", num_cases=3, num_test=3, shape=(5, 24, 20), labels=LABELS)
    (raw / "imagesTs").rename(raw / UNLABELLED_FOLDER)
    (raw / "labelsTs").rename(root / "truth")
    folder = DatasetFolder.of(NAME)
    make_model(folder.model("lora") / "fold_0")
    return folder


def make_service(
    folder: DatasetFolder,
    access: Access | None = None,
    limits: Limits | None = None,
    images: tuple[Path, ...] = (),
) -> Service:
    """Return a server of a data set that does not listen.

    Args:
        folder: The paths of the data set.
        access: Who may use it; None for programs on this machine.
        limits: How much it takes; None for the defaults.
        images: Further folders of images.
    """
    settings = ServerSettings(access or Access(), limits or Limits(), device="cpu")
    settings = replace(settings, training=replace(settings.training, steps=2, processes=0))
    return Service(folder, choose_models(folder), settings, images)


@contextlib.contextmanager
def client_of(service: Service) -> Iterator[TestClient]:
    """Yield a client of a server, for use in a `with` statement.

    Args:
        service: The server.
    """
    with TestClient(
        create_app(service), base_url=LOCAL_URL, raise_server_exceptions=False
    ) as client:
        yield client


def files_below(folder: Path) -> set[str]:
    """Return the paths of all files in a folder, and in the folders below it.

    Args:
        folder: The folder.
    """
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


@contextlib.contextmanager
def listening(service: Service) -> Iterator[str]:
    """Let a server listen on a free port, and yield its address.

    Args:
        service: The server.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(create_app(service), log_config=None, timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
