"""A model hub on this machine, with the answers that huggingface-hub waits for.

Written after the requests of huggingface-hub 2.4. Large files travel by Git LFS.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from builders.web_server import WebRequest, WebServer, serve

TOKEN = "hf_s3cretOfTheTests"  # of nobody


@dataclass
class Repository:
    """A model on the hub.

    Attributes:
        private: Whether only the owner of the token sees it.
        files: Content of its files by their names.
        commits: The messages of its commits.
    """

    private: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)

    @property
    def commit(self) -> str:
        """The hash of its newest revision."""
        return hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()


class Hub:
    """A hub with some models.

    Attributes:
        repositories: The models by `ORG/NAME`.
        uploads: Content that was uploaded, by its sha256.
        fail_with: Status, error code and text of all answers; None to answer as a hub does.
        storage: The address of another server that hands out the files; None for the hub itself.
        server: The server, once it runs.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.uploads: dict[str, bytes] = {}
        self.fail_with: tuple[int, str, str] | None = None
        self.storage: str | None = None
        self.server: WebServer | None = None

    def answer(self, request: WebRequest) -> None:
        """Answer a request as a hub does."""
        body = request.body()
        path = request.path.split("?")[0]
        if self.fail_with is not None:
            status, code, text = self.fail_with
            request.send(b"{}", status, X_Error_Code=code, X_Error_Message=text)
            return
        for method, pattern, handle in (
            ("POST", r"/api/validate-yaml", self._validate),
            ("POST", r"/api/repos/create", self._create),
            ("GET", r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", self._describe),
            ("POST", r"/api/models/([^/]+/[^/]+)/preupload/main", self._preupload),
            ("POST", r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", self._batch),
            ("PUT", r"/upload/(.+)", self._upload),
            ("POST", r"/api/models/([^/]+/[^/]+)/commit/main", self._commit),
            ("GET", r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._hand_out),
        ):
            match = re.fullmatch(pattern, path)
            if match and request.command == method:
                handle(request, body, *match.groups())
                return
        request.send(b"", 404)

    def _is_owner(self, request: WebRequest) -> bool:
        return request.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _find(self, request: WebRequest, name: str) -> Repository | None:
        """Return a model, or answer that there is none."""
        found = self.repositories.get(name)
        if found is None or (found.private and not self._is_owner(request)):
            request.send(b"{}", 401, X_Error_Code="RepoNotFound")
            return None
        return found

    def _validate(self, request: WebRequest, body: bytes) -> None:
        content = json.loads(body)["content"]
        if 'license: "other licence"' in content:
            errors = [{"message": '"license" must be one of [apache-2.0, ...]'}]
            request.send(json.dumps({"errors": errors}).encode(), 400)
            return
        request.send(b"{}")

    def _create(self, request: WebRequest, body: bytes) -> None:
        if not self._is_owner(request):
            request.send(b"{}", 401)
            return
        content = json.loads(body)
        name = f"{content['organization']}/{content['name']}"
        private = content.get("visibility") == "private" or content.get("private") is True
        self.repositories[name] = Repository(private)
        request.send(json.dumps({"url": f"{self._url}/{name}"}).encode())

    def _describe(
        self, request: WebRequest, body: bytes, name: str, revision: str | None = None
    ) -> None:
        found = self._find(request, name)
        if found is None:
            return
        if revision not in (None, "main", found.commit):
            request.send(b"{}", 404, X_Error_Code="RevisionNotFound")
            return
        siblings = [_sibling(file, content) for file, content in found.files.items()]
        content = {"id": name, "sha": found.commit, "private": found.private, "siblings": siblings}
        request.send(json.dumps(content).encode())

    def _preupload(self, request: WebRequest, body: bytes, name: str) -> None:
        if not self._is_owner(request):
            request.send(b"{}", 403, X_Error_Message="you may not write here")
            return
        files = []
        for file in json.loads(body)["files"]:
            mode = "lfs" if file["path"].endswith(".zip") else "regular"
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False})
        request.send(json.dumps({"files": files}).encode())

    def _batch(self, request: WebRequest, body: bytes, name: str) -> None:
        objects = []
        for entry in json.loads(body)["objects"]:
            upload = {"href": f"{self._url}/upload/{entry['oid']}"}
            objects.append({**entry, "actions": {"upload": upload}})
        request.send(json.dumps({"transfer": "basic", "objects": objects}).encode())

    def _upload(self, request: WebRequest, body: bytes, oid: str) -> None:
        is_right = hashlib.sha256(body).hexdigest() == oid
        self.uploads[oid] = body
        request.send(b"", 200 if is_right else 400)

    def _commit(self, request: WebRequest, body: bytes, name: str) -> None:
        found = self.repositories[name]
        for line in body.decode().splitlines():
            entry: dict[str, Any] = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                found.commits.append(value["summary"])
            elif entry["key"] == "lfsFile":
                found.files[value["path"]] = self.uploads[value["oid"]]
            else:
                found.files[value["path"]] = base64.b64decode(value["content"])
        url = f"{self._url}/{name}/commit/{found.commit}"
        request.send(json.dumps({"commitUrl": url, "commitOid": found.commit}).encode())

    def _hand_out(
        self, request: WebRequest, body: bytes, name: str, revision: str, file: str
    ) -> None:
        found = self._find(request, name)
        if found is None:
            return
        if revision != found.commit or file not in found.files:
            request.send(b"", 404, X_Error_Code="EntryNotFound")
        elif self.storage is not None:
            request.send(b"", 302, Location=f"{self.storage}/{file}")
        else:
            request.send(found.files[file])

    @property
    def _url(self) -> str:
        assert self.server is not None
        return self.server.url


def _sibling(file: str, content: bytes) -> dict[str, Any]:
    described: dict[str, Any] = {"rfilename": file, "size": len(content)}
    if file.endswith(".zip"):
        digest = hashlib.sha256(content).hexdigest()
        described["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 130}
    return described


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Run a hub without models.

    Yields:
        The hub.
    """
    hub = Hub()
    with serve(hub.answer) as server:
        hub.server = server
        yield hub
