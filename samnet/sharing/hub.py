"""Models on a hub that speaks the protocol of huggingface.co: finding one, and pushing one.

huggingface-hub (the extra `hub`) reads and writes what a hub knows about a model. It also finds the
address of the hub (`HF_ENDPOINT`) and the user's token (`HF_TOKEN`, or `hf auth login`). An archive
is downloaded by samnet itself, by the rules for any address (`download.py`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samnet import __version__
from samnet.core.errors import SamnetError, UserError
from samnet.sharing.web_address import read_address

log = logging.getLogger(__name__)

PREFIX = "hf://"
ARCHIVE_NAME = "model.zip"  # what samnet calls the archive on a hub
CARD_NAME = "README.md"  # what a hub shows
LOG_IN = "run hf auth login, or set HF_TOKEN"
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_NAME = re.compile(rf"{_PART}/{_PART}")
_ADDRESS = re.compile(
    rf"hf://(?P<name>{_PART}/{_PART})(?:@(?P<revision>[\w.+-]+(?:/[\w.+-]+)*?))?"
    r"(?:/(?P<file>[^/?#]+\.zip))?"
)
_TIMEOUT_SECONDS = 30.0
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _CLIENT_ERRORS_END = 401, 403, 404, 500


@dataclass(frozen=True)
class HubArchive:
    """An archive on a hub.

    Attributes:
        name: `ORG/NAME` of the model.
        file: The name of the archive.
        commit: The revision, as the hash of its commit.
        url: Its address.
        sha256: Its sha256 in hexadecimal; None where the hub does not say.
        headers: Headers for the hub; they may hold the user's token.
    """

    name: str
    file: str
    commit: str
    url: str
    sha256: str | None
    headers: Mapping[str, str] = field(repr=False)

    def __str__(self) -> str:
        return f"{PREFIX}{self.name}@{self.commit}/{self.file}"


def is_hub_address(text: str) -> bool:
    """Tell whether a text is an address on a hub.

    Args:
        text: What the user typed.
    """
    return text.startswith(PREFIX)


def find_on_hub(address: str, *, allow_http: bool = False) -> HubArchive:
    """Find the archive of a model on a hub.

    Args:
        address: `hf://ORG/NAME[@REVISION][/FILE.zip]`. Without a file it is `model.zip`, or the
            only zip file there.
        allow_http: Whether the hub may be reached by http on another machine.

    Returns:
        The archive, of one fixed revision.

    Raises:
        UserError: The address has another form, huggingface-hub is not installed, or there is no
            such model, revision or archive.
        SamnetError: The hub cannot be reached, or has a temporary trouble.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise UserError(f"{address}: expected hf://ORG/NAME[@REVISION][/FILE.zip]")
    name, revision = match["name"], match["revision"]
    hub = _connect(allow_http)
    with _explained(address, "install"):
        info = hub.model_info(
            name, revision=revision, files_metadata=True, timeout=_TIMEOUT_SECONDS
        )
    files = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    file = _choose_archive(address, files, match["file"])
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    commit = info.sha or revision or "main"
    lfs = files[file].lfs
    return HubArchive(
        name=name,
        file=file,
        commit=commit,
        url=hf_hub_url(name, file, revision=commit, endpoint=hub.endpoint),
        sha256=None if lfs is None else lfs.sha256,
        headers=_keys_of(build_hf_headers()),
    )


def check_name(name: str) -> None:
    """Check the name of a model on a hub.

    Args:
        name: `ORG/NAME`.

    Raises:
        UserError: It has another form.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"--push {name}: expected ORG/NAME, of letters, digits and -_.")


def push_to_hub(name: str, archive: Path, card: str, *, public: bool = False) -> str:
    """Put an archive and its card on a hub, in one commit. A new model there is private.

    Args:
        name: `ORG/NAME` of the model.
        archive: The archive; it is called `model.zip` there.
        card: The text that the hub shows.
        public: Whether everybody may read it.

    Returns:
        The address to install it from, of this revision.

    Raises:
        UserError: The name has another form, huggingface-hub is not installed, there is no token or
            one that may not write there, or the model is public and `public` is False.
        SamnetError: The hub cannot be reached, or has a temporary trouble.
    """
    check_name(name)
    hub = _connect(allow_http=False)
    address = f"{PREFIX}{name}"
    _require_token(hub.endpoint)
    with _explained(address, "push"):
        from huggingface_hub import CommitOperationAdd

        is_private = _is_private(hub, name)
        if is_private is False and not public:
            raise UserError(
                f"{address}: is public on {hub.endpoint}, and would be read by everybody; confirm "
                "that with --public, or give --push another name"
            )
        if is_private is None:
            hub.create_repo(name, private=not public)
        elif is_private and public:
            log.warning("%s: is private, and stays so; its page on the hub changes that", address)
        commit = hub.create_commit(
            name,
            [
                CommitOperationAdd(ARCHIVE_NAME, str(archive)),
                CommitOperationAdd(CARD_NAME, card.encode()),
            ],
            commit_message=f"Model exported by samnet {__version__}",
        )
    return f"{address}@{commit.oid}"


def _connect(allow_http: bool) -> Any:
    """Return the client of the hub that `HF_ENDPOINT` names."""
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise UserError(
            'a model hub needs huggingface-hub, which is not installed; pip install "samnet[hub]", '
            "or download the zip file with a browser and install the file"
        ) from None
    hub = HfApi(library_name="samnet", library_version=__version__)
    try:
        read_address(hub.endpoint, allow_http=allow_http)
    except UserError as error:
        # The user's token would be sent there too.
        raise UserError(f"HF_ENDPOINT: {error}") from None
    return hub


def _require_token(endpoint: str) -> None:
    from huggingface_hub.errors import LocalTokenNotFoundError
    from huggingface_hub.utils import build_hf_headers

    try:
        build_hf_headers(token=True)
    except LocalTokenNotFoundError:
        raise UserError(f"{endpoint}: pushing needs a token that may write; {LOG_IN}") from None


def _is_private(hub: Any, name: str) -> bool | None:
    """Return whether a model is private; None where there is none that the user may see."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return hub.model_info(name, timeout=_TIMEOUT_SECONDS).private is True
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        return None


def _keys_of(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() == "authorization"}


def _choose_archive(address: str, files: Mapping[str, Any], named: str | None) -> str:
    """Return the name of the archive that an address means."""
    archives = sorted(file for file in files if file.endswith(".zip"))
    if named is not None:
        if named not in files:
            listing = ", ".join(archives) or "none"
            raise UserError(f"{address}: has no {named} (zip files there: {listing})")
        return named
    if ARCHIVE_NAME in archives:
        return ARCHIVE_NAME
    if len(archives) == 1:
        return archives[0]
    if archives:
        raise UserError(
            f"{address}: holds several zip files ({', '.join(archives)}); name one: "
            f"{address}/{archives[0]}"
        )
    raise UserError(
        f"{address}: holds no zip file of samnet_export_model; check the name of the model"
    )


@contextmanager
def _explained(address: str, purpose: str) -> Iterator[None]:
    """Turn the errors of huggingface-hub into errors that name the model and the remedy."""
    from huggingface_hub import errors

    # The bases are the errors of its HTTP client, which differs between its versions.
    bases = errors.HfHubHTTPError.__bases__
    network_errors: tuple[type[Exception], ...] = (*bases, OSError)
    try:
        yield
    except errors.OfflineModeIsEnabled:
        raise UserError(f"{address}: HF_HUB_OFFLINE is set; unset it to reach the hub") from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{address}: the hub has no such revision; check what follows @") from None
    except errors.GatedRepoError:
        raise UserError(
            f"{address}: its owner grants access on request; request it on the page of the model, "
            f"then {LOG_IN}"
        ) from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"{address}: the hub has no such model, or it is private; check the name, or {LOG_IN}"
        ) from None
    except errors.HfHubHTTPError as error:
        raise _of_status(address, purpose, error) from None
    except network_errors as error:
        raise SamnetError(
            f"{address}: the hub cannot be reached ({_one_line(error)}); check the network and "
            "HF_ENDPOINT, and give the same command again"
        ) from None
    except RuntimeError as error:
        raise SamnetError(
            f"{address}: the upload failed ({_one_line(error.__cause__ or error)}); give the same "
            "command again"
        ) from None
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise UserError(
            f"{address}: the hub refuses it, or is none ({_one_line(error)}); check HF_ENDPOINT "
            "and the options"
        ) from None


def _of_status(address: str, purpose: str, error: Any) -> SamnetError:
    status = error.response.status_code
    answer = f"{address}: the hub answers {_one_line(error)}"
    if status in (_UNAUTHORIZED, _FORBIDDEN):
        needed = "write to" if purpose == "push" else "read"
        return UserError(f"{answer}; it needs a token that may {needed} this model: {LOG_IN}")
    if status == _NOT_FOUND:
        return UserError(f"{answer}; check the name of the model and HF_ENDPOINT")
    if status < _CLIENT_ERRORS_END and status not in (408, 429):
        return UserError(f"{answer}; check the options")
    return SamnetError(f"{answer}; try again later")


def _one_line(error: BaseException) -> str:
    """Return the text of an error as one line, without the user's token."""
    from huggingface_hub.utils import build_hf_headers

    text = " ".join(str(error).split()) or type(error).__name__
    for value in _keys_of(build_hf_headers()).values():
        text = text.replace(value.removeprefix("Bearer "), "***")
    return text
