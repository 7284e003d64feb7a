"""Installing a model from where it lies: a file, an address, or a model hub."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from samnet.core.errors import UserError
from samnet.core.files import TEMPORARY_PREFIX
from samnet.core.hashing import file_sha256, is_sha256
from samnet.core.paths import results_folder
from samnet.sharing.download import DownloadRules, download_archive
from samnet.sharing.export import Manifest
from samnet.sharing.hub import LOG_IN, find_on_hub, is_hub_address
from samnet.sharing.install import install_model
from samnet.sharing.web_address import is_web_address, read_address


@dataclass(frozen=True)
class Installation:
    """A model that was installed.

    Attributes:
        folder: Its folder.
        manifest: What its archive says it holds.
        origin: Where the archive came from, in words for messages: with the revision on a hub.
        sha256: The hash of the archive, in hexadecimal.
    """

    folder: Path
    manifest: Manifest
    origin: str
    sha256: str


def install_from(
    source: str,
    *,
    name: str | None = None,
    force: bool = False,
    rules: DownloadRules | None = None,
) -> Installation:
    """Install a model from a file, an address or a model hub.

    Args:
        source: The path of an archive, `https://...`, or `hf://ORG/NAME[@REVISION][/FILE.zip]`.
        name: The name of the model's folder, or `DATASET/NAME`. None for the names in the archive.
        force: Whether to replace a model of that name.
        rules: What is accepted; None for the default. Of a file, only the hash counts.

    Returns:
        The model, and where it came from.

    Raises:
        UserError: The source is refused, or the archive is damaged or unsafe, or a model of that
            name is there already.
        SamnetError: The server cannot be reached or breaks off, or the disk is too full.
    """
    rules = _checked(rules or DownloadRules())
    if is_hub_address(source):
        found = find_on_hub(source, allow_http=rules.allow_http)
        if rules.sha256 and found.sha256 and rules.sha256 != found.sha256:
            raise UserError(
                f"{found}: has the sha256 {found.sha256}, expected {rules.sha256}; name the "
                "revision that the hash is of (hf://ORG/NAME@REVISION)"
            )
        rules = replace(
            rules,
            sha256=rules.sha256 or found.sha256,
            headers=found.headers,
            if_private="request access on the page of the model, then " + LOG_IN,
        )
        return _install_downloaded(found.url, str(found), name, force, rules)
    if is_web_address(source):
        address = read_address(source, allow_http=rules.allow_http)
        return _install_downloaded(source, str(address), name, force, rules)
    return _install_file(Path(source), name, force, rules)


def _checked(rules: DownloadRules) -> DownloadRules:
    if rules.sha256 is None:
        return rules
    if not is_sha256(rules.sha256.lower()):
        raise UserError(
            f"--sha256 {rules.sha256}: expected 64 hexadecimal digits, as sha256sum prints them"
        )
    return replace(rules, sha256=rules.sha256.lower())


def _install_file(file: Path, name: str | None, force: bool, rules: DownloadRules) -> Installation:
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    digest = file_sha256(file)
    if rules.sha256 is not None and digest != rules.sha256:
        raise UserError(
            f"{file}: has the sha256 {digest}, expected {rules.sha256}; nothing was installed. Get "
            "the file again"
        )
    folder, manifest = install_model(file, name=name, force=force)
    return Installation(folder, manifest, str(file), digest)


def _install_downloaded(
    url: str, origin: str, name: str | None, force: bool, rules: DownloadRules
) -> Installation:
    """Download next to where the model will lie, so that one disk needs the room."""
    results = results_folder()
    results.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=results) as folder:
        file = Path(folder) / "model.zip"
        digest = download_archive(url, file, rules)
        model, manifest = install_model(file, name=name, force=force, origin=origin)
    return Installation(model, manifest, origin, digest)
