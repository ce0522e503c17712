"""The certificate authority whose client certificates the virtual node believes.

The API server publishes it for everybody who serves in its name, in the ConfigMap
kube-system/extension-apiserver-authentication (readable through the Role extension-apiserver-authentication-reader).
"""

from __future__ import annotations

import ssl

import msgspec
import structlog

from kip.kube.errors import Unavailable
from kip.kubelet.ports import ApiClient
from kip.model.clock import Clock

log = structlog.get_logger(__name__)

_PATH = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
_KEY = "client-ca-file"
# A CA is replaced by first adding the new one, long before anything is signed with it: a minute is early enough.
_RELOAD_S = 60.0


class ClientCa:
    """Keeps the newest bundle; the last one known stays when the API server cannot be asked."""

    def __init__(self, api: ApiClient, clock: Clock) -> None:
        self._api = api
        self._clock = clock
        self._told = ""
        self.pem: bytes | None = None
        """The bundle, PEM; None while unknown: then only bearer tokens are believed."""

    async def load(self) -> None:
        """Read the bundle once; says in the log why it stays as it is when that fails."""
        try:
            reply = await self._api.request("GET", _PATH, timeout_s=10)
        except Unavailable as error:
            self._complain(str(error))
            return
        if reply.status != 200:
            self._complain(f"GET {_PATH} answered {reply.status}")
            return
        bundle = (msgspec.json.decode(reply.body).get("data") or {}).get(_KEY, "")
        if not bundle:
            self._complain(f"{_PATH} has no key {_KEY}: this cluster authenticates nobody by certificate")
            return
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=bundle)
        except (ssl.SSLError, ValueError) as error:
            self._complain(f"{_PATH}: key {_KEY} holds no certificates: {error}")
            return
        self._told = ""
        self.pem = bundle.encode()

    async def keep_loaded(self) -> None:
        """Read it again and again; runs until cancelled."""
        while True:
            await self._clock.sleep(_RELOAD_S)
            await self.load()

    def _complain(self, why: str) -> None:
        if why != self._told:
            self._told = why
            log.warning("client CA unknown", reason=why, kept_previous=self.pem is not None)
