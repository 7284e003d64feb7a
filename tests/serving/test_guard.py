"""Who may use a server, and how large requests may be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from builders.serving import client_of, files_below, make_service
from fastapi.testclient import TestClient

from samnet.core.errors import UserError
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.serving.settings import Access, Limits, is_loopback

TOKEN = "0123456789abcdef0123"
OHIF = "https://ohif.hospital.org"
PATHS = [
    ("GET", "/"),
    ("GET", "/info/"),
    ("POST", "/infer/lora?image=case_03"),
    ("GET", "/datastore/?output=all"),
    ("GET", "/datastore/image?image=case_03"),
    ("PUT", "/datastore/label?image=case_03"),
    ("PUT", "/session/"),
    ("POST", "/activelearning/first"),
    ("POST", "/train/lora"),
    ("DELETE", "/train/"),
    ("GET", "/logs/"),
    ("GET", "/auth/token/valid"),
    ("GET", "/openapi.json"),
    ("GET", "/nothing"),
]


@pytest.fixture
def guarded(folder: DatasetFolder) -> Iterator[TestClient]:
    """A client of a server that needs a token, without one."""
    access = Access(host="0.0.0.0", token=TOKEN, allowed_origins=(OHIF,))
    with client_of(make_service(folder, access)) as client:
        yield client


def test_nothing_is_done_without_the_token(guarded: TestClient) -> None:
    wrong = ["", "Bearer", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN]
    for method, path in PATHS:
        for header in [*wrong, "Bearer ö"]:
            answer = guarded.request(method, path, headers={"Authorization": header.encode()})
            assert answer.status_code == 401, (method, path, header)
            assert "token" in answer.json()["detail"]
            assert answer.headers["www-authenticate"] == "Bearer"


def test_clients_obtain_the_token_as_a_password(guarded: TestClient) -> None:
    assert guarded.get("/auth/").json() == {"enabled": True}
    wrong = guarded.post("/auth/token", data={"username": "me", "password": "guess"})
    assert wrong.status_code == 401
    given = guarded.post("/auth/token", data={"username": "me", "password": TOKEN}).json()
    header = {"Authorization": f"{given['token_type']} {given['access_token']}"}
    assert guarded.get("/info/", headers=header).status_code == 200
    assert guarded.get("/auth/token/valid", headers=header).status_code == 200
    long = {"username": "x" * 100_000, "password": TOKEN}
    assert guarded.post("/auth/token", data=long).status_code == 413


def test_web_pages_of_others_are_refused(guarded: TestClient, client: TestClient) -> None:
    for foreign in ("https://evil.org", "null", f"{OHIF}.evil.org", "http://127.0.0.1:9999"):
        header = {"Authorization": f"Bearer {TOKEN}", "Origin": foreign}
        assert guarded.get("/info/", headers=header).status_code == 403
        answer = client.post("/train/lora", headers={"Origin": foreign})
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
    assert client.get("/train/").status_code == 404
    assert client.get("/info/", headers={"Origin": "http://127.0.0.1:8000"}).status_code == 200


def test_allowed_web_pages_may_use_the_server(guarded: TestClient, client: TestClient) -> None:
    asks = {"Origin": OHIF, "Access-Control-Request-Method": "PUT"}
    asks["Access-Control-Request-Headers"] = "authorization"
    assert guarded.options("/datastore/label", headers=asks).status_code == 200
    header = {"Authorization": f"Bearer {TOKEN}", "Origin": OHIF}
    answer = guarded.get("/info/", headers=header)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == OHIF
    assert client.options("/datastore/label", headers=asks).status_code == 403


def test_other_names_of_the_loopback_address_are_refused(client: TestClient) -> None:
    """A web page could otherwise read from the server under its own name."""
    for name in ("evil.org:8000", "127.0.0.1.evil.org", "", "[::1", "10.0.0.1"):
        assert client.get("/info/", headers={"Host": name}).status_code == 403
    for name in ("localhost:8000", "127.0.0.1", "[::1]:8000", "127.0.0.2"):
        assert client.get("/info/", headers={"Host": name}).status_code == 200


def test_large_requests_are_refused(folder: DatasetFolder) -> None:
    before = files_below(folder.raw.parents[1])
    with client_of(make_service(folder, limits=Limits(upload_bytes=100_000))) as client:
        sent = {"file": ("a.nii.gz", b"x" * 200_000)}
        told = client.post("/infer/lora", files=sent)
        assert told.status_code == 413
        assert "larger than" in told.json()["detail"]

        def pieces() -> Iterator[bytes]:
            yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.nii.gz"\r\n\r\n'
            for _ in range(200):
                yield b"x" * 1000
            yield b"\r\n--b--\r\n"

        header = {"Content-Type": "multipart/form-data; boundary=b"}
        untold = client.post("/infer/lora", content=pieces(), headers=header)
        assert untold.status_code == 413
        assert client.get("/info/", headers={"Content-Length": "-5"}).status_code == 400
        assert client.get("/info/").status_code == 200
    assert files_below(folder.raw.parents[1]) == before


@pytest.mark.parametrize(
    ("access", "message"),
    [
        (Access(host="0.0.0.0"), "--host 0.0.0.0: everybody in the network.*give --token"),
        (Access(host="::"), "give --token"),
        (Access(host="pacs.hospital.org"), "give --token"),
        (Access(token="short"), "16 characters or more"),
        (Access(token="with spaces in between"), "without spaces"),
        (Access(certificate=Path("a.pem")), "belong together"),
        (Access(certificate=Path("a.pem"), key=Path("b.pem")), r"a\.pem: no such file"),
        (Access(allowed_origins=("*",)), r"--allow-origin \*"),
        (Access(allowed_origins=("http://a/b",)), "scheme, host and port alone"),
    ],
)
def test_open_servers_are_refused_with_the_remedy(access: Access, message: str) -> None:
    with pytest.raises(UserError, match=message):
        access.check()


def test_local_servers_need_no_token() -> None:
    for host in ("127.0.0.1", "localhost", "::1", "127.8.9.1"):
        Access(host=host).check()
        assert is_loopback(host)
    Access(host="0.0.0.0", token=TOKEN, allowed_origins=(OHIF,)).check()
    assert Access(host="::1").url == "http://[::1]:8000"
