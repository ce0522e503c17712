"""Who a cell is. Decided by the socket that its SSH channel leads to, and by a token; never by what it asks."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

# What an attacker on the cell who is not root would have to guess. Shorter tokens are a caller's mistake.
_MIN_TOKEN = 16
# The user in the proxy address of a cell's kubeconfig (kip.bootstrap.kubelet).
_PROXY_USER = "cell"


@dataclass(frozen=True, slots=True, kw_only=True)
class CellIdentity:
    """A cell, the node it poses as, and the one pod it runs."""

    cell_name: str
    cell_uid: str
    node_name: str
    namespace: str
    pod_name: str
    pod_uid: str
    cell_address: str
    """The instance's primary address: the pod's `status.hostIP`."""
    capacity: Mapping[str, str] = field(default_factory=dict)
    """What the instance has, as Kubernetes quantities: `{"cpu": "2", "memory": "8Gi", ...}`."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What its Node says of the instance, besides what the virtual node says."""

    @property
    def pod(self) -> str:
        return f"{self.namespace}/{self.pod_name}"


class Token:
    """A bearer token that only root on the cell can read."""

    __slots__ = ("_basic", "_bearer")

    def __init__(self, secret: str) -> None:
        """Raises ValueError for a token too short to be one, or not plain ASCII."""
        if len(secret) < _MIN_TOKEN or not secret.isascii() or not secret.isprintable():
            raise ValueError(f"a cell's token needs at least {_MIN_TOKEN} printable ASCII characters")
        self._bearer = f"Bearer {secret}".encode()
        self._basic = b"Basic " + base64.b64encode(f"{_PROXY_USER}:{secret}".encode())

    def __repr__(self) -> str:
        return "Token(…)"

    def matches(self, authorization: str | None, proxy_authorization: str | None = None) -> bool:
        """Whether either header has it, without telling by the time it takes how much of it was right.

        Kubelets bring it as Proxy-Authorization, because client-go sends no bearer token to a server without TLS.
        """
        return _equal(authorization, self._bearer) or _equal(proxy_authorization, self._basic)


def _equal(header: str | None, expected: bytes) -> bool:
    return header is not None and hmac.compare_digest(header.encode(errors="surrogateescape"), expected)
