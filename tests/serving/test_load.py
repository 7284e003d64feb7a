"""Many requests at the same time, and clients that go away in the middle."""

from __future__ import annotations

import itertools
import json
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
from builders.data import write_volume
from builders.serving import files_below, listening, make_service
from builders.waiting import becomes_true

from samnet.core.files import TEMPORARY_PREFIX
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.dataset.images import read_labels
from samnet.serving.settings import Limits

NUM_REQUESTS, NUM_THREADS = 100, 8


def form(name: str, content: bytes) -> tuple[bytes, str]:
    """Return the body of an upload and its content type."""
    opening = f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="a.nii.gz"\r\n\r\n'
    return opening.encode() + content + b"\r\n--b--\r\n", "multipart/form-data; boundary=b"


def send_and_leave(
    url: str, method: str, path: str, upload: tuple[bytes, str], part: float
) -> None:
    """Send a part of a request, and close the connection without reading the answer."""
    body, content_type = upload
    host = urlsplit(url)
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {host.netloc}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((host.hostname, host.port), timeout=10) as connection:
        connection.sendall(head.encode() + body[: int(part * len(body))])


def test_nothing_is_lost_and_nothing_is_left(folder: DatasetFolder, tmp_path: Path) -> None:
    label, labels = tmp_path / "label.nii.gz", {}
    images = [f"case_0{number}" for number in range(6)]
    for tag in range(20):
        values = np.zeros((5, 24, 20), np.uint8)
        values[2, tag] = 1
        write_volume(label, values, np.diag([1.0, 1.0, 2.0, 1.0]))
        labels[f"tag{tag}"] = label.read_bytes()
    label.unlink()
    scan = (folder.training_images / "case_00_0000.nii.gz").read_bytes()
    expected = json.loads(folder.description_file.read_text())
    before = files_below(folder.raw)
    told: Counter[str] = Counter()

    def request(client: httpx.Client, url: str, number: int) -> None:
        image, kind = images[number % 6], number % 10
        tag, content = list(labels.items())[number % 20]
        if kind in (0, 1):
            answer = client.put(
                f"/datastore/label?image={image}&tag={tag}",
                files={"label": ("a.nii.gz", content)},
            )
        elif kind in (2, 3):
            part = (0.5, 1.0)[number % 2]
            path = f"/datastore/label?image={image}&tag=left"
            send_and_leave(url, "PUT", path, form("label", content), part)
            return
        elif kind in (4, 5):
            send_and_leave(url, "POST", "/infer/lora", form("file", scan), (0.5, 1.0)[kind - 4])
            return
        elif kind == 6:
            answer = client.put("/session/", files={"files": ("a.nii.gz", scan)})
            session = answer.json()["session_id"]
            assert client.post(f"/infer/lora?session_id={session}").status_code in (200, 503)
            answer = client.delete(f"/session/{session}")
        elif kind == 7:
            answer = client.get("/info/")
        else:
            answer = client.post(f"/infer/lora?image={image}&output=json")
        told[f"{kind}: {answer.status_code}"] += 1

    service = make_service(folder, limits=Limits(waiting=6))
    with listening(service) as url:
        with httpx.Client(base_url=url, timeout=120) as client:
            one, place = itertools.repeat(client), itertools.repeat(url)
            with ThreadPoolExecutor(NUM_THREADS) as pool:
                list(pool.map(request, one, place, range(NUM_REQUESTS)))
            assert becomes_true(lambda: len(service.queue) == 0, 30)
            assert client.post("/infer/lora?image=case_00&output=json").status_code == 200
        time.sleep(0.1)
        assert files_below(folder.preprocessed) == set()

    fine = {f"{kind}: 200" for kind in (0, 1, 6, 7, 8, 9)}
    assert fine <= set(told) <= fine | {"8: 503", "9: 503"}, told
    added = files_below(folder.raw) - before
    complete = {
        f"annotations/tag{number % 20}/{images[number % 6]}.nii.gz"
        for number in range(NUM_REQUESTS)
        if number % 10 in (0, 1)
    }
    assert complete <= added
    assert all(name.startswith("annotations/left/") for name in added - complete)
    for name in complete:
        row = int(Path(name).parent.name.removeprefix("tag"))
        values = read_labels(folder.raw / name).array[0]
        assert values[2, row].all()
        assert values.sum() == 20
    for name in added - complete:
        assert read_labels(folder.raw / name).array.sum() == 20
    assert not [name for name in files_below(tmp_path) if TEMPORARY_PREFIX in name]
    assert json.loads(folder.description_file.read_text()) == expected
