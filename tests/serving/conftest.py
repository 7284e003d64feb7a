"""Fixtures of the tests of servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from builders.serving import client_of, make_service, write_served_dataset
from fastapi.testclient import TestClient

from samnet.dataset.dataset_folder import DatasetFolder


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread: for so little work a second one is slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DatasetFolder:
    """A data set with 3 labelled cases, 3 without labels, and a trained model."""
    return write_served_dataset(tmp_path, monkeypatch)


@pytest.fixture
def client(folder: DatasetFolder) -> Iterator[TestClient]:
    """A client of a server of that data set."""
    with client_of(make_service(folder)) as client:
        yield client
