"""Models on a hub: a server on this machine that answers huggingface-hub as a real one does."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders.hub import TOKEN, Hub, Repository, serve_hub
from builders.models import DATASET, make_model, make_plan
from builders.skips import NO_HUB_LIBRARY
from builders.tiny import add_tiny_backbone
from builders.web_server import serve

from samnet.cli import export_model, install_model

NAME = "lab/liver"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub without models, which `HF_ENDPOINT` names, and a user with a token."""
    if importlib.util.find_spec("huggingface_hub") is None:
        pytest.skip(NO_HUB_LIBRARY)
    from huggingface_hub import constants

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the server has Git LFS only
    with serve_hub() as running:
        use_endpoint(running.server.url, monkeypatch)
        yield running


def use_endpoint(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do what `HF_ENDPOINT` does where it is set before the library is imported."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a model that needs no base. The results folder is another one."""
    add_tiny_backbone(monkeypatch)
    monkeypatch.setenv("samnet_results", str(tmp_path / "results"))
    return make_model(tmp_path / "trained", make_plan("scratch", head="linear", input_size=32))


def publish(hub: Hub, archive: Path, **files: bytes) -> Repository:
    """Put an archive on the hub, and other files."""
    hub.repositories[NAME] = Repository(files={"model.zip": archive.read_bytes(), **files})
    return hub.repositories[NAME]


def test_model_is_pushed_and_installed(
    hub: Hub, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-m", str(model), "--push", NAME, "--license", "CC-BY-4.0", "--verbose"]
    assert export_model.main(words) == 0
    pushed = hub.repositories[NAME]
    assert pushed.private
    assert sorted(pushed.files) == ["README.md", "model.zip"]
    card = pushed.files["README.md"].decode()
    assert card.startswith("---\nlibrary_name: samnet\n")
    assert '\nlicense: "cc-by-4.0"\n---\n' in card
    assert f"samnet_install_model hf://{NAME}\n" in card
    printed = capsys.readouterr()
    address = f"hf://{NAME}@{pushed.commit}"
    assert printed.out.startswith(f"{address}: {DATASET}, scratch, fold_0, ")
    assert f"install with: samnet_install_model {address}\n" in printed.out

    assert install_model.main([address, "--verbose"]) == 0
    installed = capsys.readouterr()
    folder = tmp_path / "results" / DATASET / "scratch"
    assert f"installed: {folder} (fold_0)" in installed.out
    assert f"from: {address}/model.zip\n" in installed.out
    digest = hashlib.sha256(pushed.files["model.zip"]).hexdigest()
    assert f"sha256: {digest}" in installed.out
    assert TOKEN not in printed.out + printed.err + installed.out + installed.err
    assert [entry.name for entry in folder.parent.parent.iterdir()] == [DATASET]


def test_archive_is_kept_where_it_is_named(hub: Hub, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "kept.zip"
    assert export_model.main(["-m", str(model), "-o", str(output), "--push", NAME]) == 0
    assert hub.repositories[NAME].files["model.zip"] == output.read_bytes()


def test_public_model_is_pushed_to_on_request_only(
    hub: Hub, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repositories[NAME] = Repository(private=False)
    words = ["-m", str(model), "--push", NAME]
    assert export_model.main(words) == 2
    assert f"hf://{NAME}: is public on" in capsys.readouterr().err
    assert hub.repositories[NAME].files == {}
    assert export_model.main([*words, "--public"]) == 0
    assert export_model.main(["-m", str(model), "--push", "lab/new", "--public"]) == 0
    assert not hub.repositories["lab/new"].private
    hub.repositories["lab/new"].private = True
    capsys.readouterr()
    assert export_model.main(["-m", str(model), "--push", "lab/new", "--public"]) == 0
    assert "hf://lab/new: is private, and stays so" in capsys.readouterr().err
    assert hub.repositories["lab/new"].private


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--push", "liver"], "expected ORG/NAME"),
        (["--push", "lab/../liver"], "expected ORG/NAME"),
        (["--push", NAME, "--license", "a\nb: c"], "expected an identifier such as Apache-2.0"),
        (["--push", NAME, "--license", "other licence"], '"license" must be one of'),
        (["--push", NAME, "-o", "a.tar"], "has to end in .zip"),
        (["--public"], "name the archive with -o FILE.zip"),
        (["--public", "-o", "a.zip"], "--public is about models on a hub"),
    ],
)
def test_pushes_that_are_refused(
    hub: Hub, model: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export_model.main(["-m", str(model), *words]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed
    assert all(not found.files for found in hub.repositories.values())


def test_push_needs_a_token(
    hub: Hub, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["-m", str(model), "--push", NAME, "--verbose"]
    monkeypatch.setenv("HF_TOKEN", "hf_ofAnother")
    assert export_model.main(words) == 2
    printed = capsys.readouterr().err
    assert "run hf auth login, or set HF_TOKEN" in printed
    assert "hf_ofAnother" not in printed
    monkeypatch.delenv("HF_TOKEN")
    assert export_model.main(words) == 2
    assert "pushing needs a token that may write" in capsys.readouterr().err
    assert hub.repositories == {}


@pytest.mark.parametrize(
    ("failure", "code", "message"),
    [
        ((503, "", "busy"), 1, "try again later"),
        ((429, "", "slowly"), 1, "try again later"),
        ((403, "", f"{TOKEN} may not"), 2, "needs a token that may read this model"),
        ((403, "GatedRepo", "request it"), 2, "its owner grants access on request"),
        ((404, "", "nothing"), 2, "check the name of the model and HF_ENDPOINT"),
        ((200, "", ""), 2, "the hub refuses it, or is none"),
    ],
)
def test_hubs_that_refuse(
    hub: Hub,
    results: Path,
    failure: tuple[int, str, str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub.fail_with = failure
    assert install_model.main([f"hf://{NAME}", "--verbose"]) == code
    printed = capsys.readouterr().err
    assert f"error: hf://{NAME}: " in printed
    assert message in printed
    assert TOKEN not in printed
    assert not results.exists()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (f"hf://{NAME}@v2", "the hub has no such revision; check what follows @"),
        ("hf://lab/heart", "the hub has no such model, or it is private"),
        ("hf://lab", "expected hf://ORG/NAME"),
        (f"hf://{NAME}/../a.zip", "expected hf://ORG/NAME"),
        (f"hf://{NAME}?a=b", "expected hf://ORG/NAME"),
        ("hf://lab/empty", "holds no zip file of samnet_export_model"),
        (f"hf://{NAME}/other.zip", "has no other.zip (zip files there: model.zip)"),
    ],
)
def test_addresses_that_name_nothing(
    hub: Hub,
    archive: Path,
    results: Path,
    address: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    publish(hub, archive)
    hub.repositories["lab/empty"] = Repository(files={"README.md": b"#"})
    assert install_model.main([address]) == 2
    printed = capsys.readouterr().err
    assert f"error: {address}: " in printed
    assert message in printed
    assert not results.exists()


def test_choice_of_the_zip_file(
    hub: Hub, archive: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = archive.read_bytes()
    found = publish(hub, archive)
    found.files = {"a.zip": content, "README.md": b"#"}
    assert install_model.main([f"hf://{NAME}"]) == 0
    found.files["b.zip"] = content
    assert install_model.main([f"hf://{NAME}", "--name", "b"]) == 2
    assert f"several zip files (a.zip, b.zip); name one: hf://{NAME}/a.zip" in (
        capsys.readouterr().err
    )
    assert install_model.main([f"hf://{NAME}@main/b.zip", "--name", "b"]) == 0
    assert f"from: hf://{NAME}@{found.commit}/b.zip" in capsys.readouterr().out


def test_file_comes_from_another_server_without_the_token(
    hub: Hub, archive: Path, results: Path
) -> None:
    content = archive.read_bytes()
    publish(hub, archive).private = True
    with serve(lambda request: request.send(content)) as storage:
        hub.storage = storage.url
        assert install_model.main([f"hf://{NAME}"]) == 0
    [(_, path, headers)] = storage.requests
    assert path == "/model.zip"
    assert TOKEN not in str(headers)


def test_what_arrives_has_to_have_the_hash_that_the_hub_states(
    hub: Hub, archive: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(hub, archive)
    with serve(lambda request: request.send(b"PK of another")) as storage:
        hub.storage = storage.url
        assert install_model.main([f"hf://{NAME}"]) == 2
    assert "what arrived has the sha256" in capsys.readouterr().err
    assert install_model.main([f"hf://{NAME}", "--sha256", "0" * 64]) == 2
    assert "name the revision that the hash is of" in capsys.readouterr().err
    assert list(results.iterdir()) == []


def test_endpoint_has_to_be_secure_or_local(
    hub: Hub,
    model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The token is sent there."""
    use_endpoint("http://192.0.2.1", monkeypatch)
    assert install_model.main([f"hf://{NAME}"]) == 2
    assert export_model.main(["-m", str(model), "--push", NAME]) == 2
    printed = capsys.readouterr().err
    assert printed.count("HF_ENDPOINT: http://192.0.2.1: http can be read") == 2


def test_hub_that_is_not_there_and_a_server_that_is_none(
    hub: Hub,
    results: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_endpoint("http://127.0.0.1:9", monkeypatch)
    assert install_model.main([f"hf://{NAME}"]) == 1
    assert "the hub cannot be reached" in capsys.readouterr().err
    with serve(lambda request: request.send(b"<html>")) as server:
        use_endpoint(server.url, monkeypatch)
        assert install_model.main([f"hf://{NAME}"]) == 2
    assert "the hub refuses it, or is none" in capsys.readouterr().err


def test_hub_without_its_library_is_explained(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert install_model.main([f"hf://{NAME}"]) == 2
    assert 'pip install "samnet[hub]"' in capsys.readouterr().err


def test_variables_of_the_library_name_hub_and_token(hub: Hub, archive: Path) -> None:
    """In another process, in which the library is imported after they are set."""
    publish(hub, archive).private = True
    program = (
        "from samnet.sharing.hub import find_on_hub\n"
        f"found = find_on_hub('hf://{NAME}')\n"
        "print(found.url, found.headers, found)\n"
    )
    environment = {**os.environ, "HF_ENDPOINT": hub.server.url, "HF_TOKEN": TOKEN}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, sys.path))
    process = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    commit = hub.repositories[NAME].commit
    assert process.stdout == (
        f"{hub.server.url}/{NAME}/resolve/{commit}/model.zip "
        f"{{'authorization': 'Bearer {TOKEN}'}} hf://{NAME}@{commit}/model.zip\n"
    )
