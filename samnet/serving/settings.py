"""What a server is told: where it listens, who may use it, and how much it takes."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from samnet.core.errors import UserError

GIB = 1024**3
SHORTEST_TOKEN = 16
_HIGHEST_PORT = 65535
_SERVERS_NAMES = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Access:
    """Where a server listens, and who may use it.

    Attributes:
        host: The address that it listens on.
        port: The port; 0 for any free one.
        token: What every request has to carry; None where none is needed.
        certificate: File of the TLS certificate; None for no encryption.
        key: File of the key of the certificate.
        allowed_origins: Web pages of other servers that may use this one, such as
            `https://ohif.hospital.org`.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    allowed_origins: tuple[str, ...] = ()

    @property
    def is_local(self) -> bool:
        """Whether programs on this machine alone can reach it."""
        return is_loopback(self.host)

    @property
    def url(self) -> str:
        """The address that users type."""
        scheme = "http" if self.certificate is None else "https"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"

    def check(self) -> None:
        """Refuse what would be open to everybody, or cannot work.

        Raises:
            UserError: The host can be reached by others and there is no token, the token is short,
                one of the TLS files is missing, or port or origin is none.
        """
        if self.port > _HIGHEST_PORT:
            raise UserError(f"--port {self.port}: ports go up to {_HIGHEST_PORT}")
        if not self.is_local and self.token is None:
            raise UserError(
                f"--host {self.host}: everybody in the network could read the images and replace "
                "labels; give --token, or leave out --host to serve programs on this machine only"
            )
        if self.token is not None and (len(self.token) < SHORTEST_TOKEN or " " in self.token):
            raise UserError(
                f"--token: has to have {SHORTEST_TOKEN} characters or more, without spaces, so "
                "that nobody guesses it; for example what `openssl rand -hex 16` prints"
            )
        if (self.certificate is None) != (self.key is None):
            raise UserError("--certificate and --key belong together; give both or none")
        for file in (self.certificate, self.key):
            if file is not None and not file.is_file():
                raise UserError(f"{file}: no such file; name the TLS files in PEM format")
        for origin in self.allowed_origins:
            if not origin.startswith(("http://", "https://")) or origin.count("/") != 2:
                raise UserError(
                    f"--allow-origin {origin}: write scheme, host and port alone, such as "
                    "https://ohif.hospital.org"
                )


@dataclass(frozen=True)
class Limits:
    """How much a server takes.

    Attributes:
        upload_bytes: Largest body of a request.
        image_bytes: Largest image after decompression.
        waiting: Predictions that may wait while one is computed.
        connections: Connections at the same time.
        sessions: Uploaded images that are kept for a while at the same time.
        session_bytes: Their files together.
        session_seconds: How long one is kept after its last use.
        loaded_models: Models that are kept in memory.
    """

    upload_bytes: int = 2 * GIB
    image_bytes: int = 16 * GIB
    waiting: int = 8
    connections: int = 64
    sessions: int = 32
    session_bytes: int = 16 * GIB
    session_seconds: int = 3600
    loaded_models: int = 2


@dataclass(frozen=True)
class TrainingSettings:
    """How models are trained by a server.

    Attributes:
        duration: Duration of a training run, as `--max-time` of `samnet_train` takes it.
        steps: Optimiser steps in place of a duration; None for the duration.
        processes: Worker processes of planning and training; None for the default.
    """

    duration: str = "10m"
    steps: int | None = None
    processes: int | None = None


@dataclass(frozen=True)
class ServerSettings:
    """All that a server is told, except data set and models.

    Attributes:
        access: Where it listens, and who may use it.
        limits: How much it takes.
        training: How models are trained.
        device: `cpu`, `cuda` or `mps`; None for the best one here.
        mirror: Whether predictions are averaged over mirrored inputs; None for what the plan says.
        ranking: The `next.csv` of `samnet_next`, by which images can be labelled; None without one.
    """

    access: Access = field(default_factory=Access)
    limits: Limits = field(default_factory=Limits)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    device: str | None = None
    mirror: bool | None = None
    ranking: Path | None = None


def is_loopback(host: str) -> bool:
    """Tell whether an address can be reached from its own machine only.

    Args:
        host: A name or an address.

    Returns:
        Whether it is `localhost` or a loopback address.
    """
    if host in _SERVERS_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
