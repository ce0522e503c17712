"""What this package needs from its surroundings."""

from __future__ import annotations

import ssl
from typing import Protocol, Unpack

from kip.kube.client import RequestOptions


class Reply(Protocol):
    """An answer of the API server, whatever its status."""

    @property
    def status(self) -> int: ...

    @property
    def body(self) -> bytes: ...


class ApiClient(Protocol):
    """The part of `kip.kube.client.ApiClient` used here."""

    async def request(self, method: str, path: str, **options: Unpack[RequestOptions]) -> Reply:
        """Send one request; raises kip.kube.errors.Unavailable when there is no answer."""
        ...


class ServerTls(Protocol):
    """Where the server gets the TLS settings for each new connection."""

    def context(self, client_ca: bytes | None) -> ssl.SSLContext:
        """Settings with the newest serving certificate; client certificates are verified against `client_ca` (PEM)."""
        ...


class CellTls(Protocol):
    """Where the settings for connections to the cells' kubelets come from."""

    def context(self) -> ssl.SSLContext:
        """Settings with a client certificate that the cells' kubelets accept."""
        ...


class Metrics(Protocol):
    """What the server counts."""

    def answered(self, what: str, status: int, seconds: float) -> None:
        """A request was answered; `what` is the first part of the path, for streams `seconds` includes the stream."""
        ...

    def not_scraped(self, what: str, cells: int) -> None:
        """So many cells did not answer within the deadline of an aggregated request."""
        ...


class NoMetrics:
    """Counts nothing."""

    def answered(self, what: str, status: int, seconds: float) -> None:
        """Ignore it."""

    def not_scraped(self, what: str, cells: int) -> None:
        """Ignore it."""
