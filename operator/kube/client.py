"""One HTTP client for the Kubernetes API.

kubernetes-asyncio loads the configuration (kubeconfig, in-cluster token, exec plugins); the requests are made
here, because its typed models cost five times the CPU and memory of plain JSON, and because the cell API passes
bodies on as they are.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import aiohttp
import msgspec
from kubernetes_asyncio import client as k8s
from multidict import CIMultiDict, CIMultiDictProxy

from kip.kube import kubeconfig as kubeconfigs
from kip.kube.errors import Unavailable, from_reply

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"

# The API server's own limit for a request body, etcd's included, is 3 MiB; an answer line of a watch is one object.
_READ_BUFFER_BYTES = 2**21


@dataclass(frozen=True)
class Impersonation:
    """Act as this user (RBAC verb `impersonate` on exactly these names is needed)."""

    user: str
    groups: tuple[str, ...] = ()


class RequestOptions(TypedDict, total=False):
    """What a request may say beside its method and path, for those who pass one on (`ApiClient.request`)."""

    params: Mapping[str, str] | None
    body: bytes | None
    content_type: str | None
    accept: str
    impersonate: Impersonation | None
    timeout_s: float


@dataclass(frozen=True)
class Reply:
    """An answer of the API server, whatever its status."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class ApiClient:
    """Requests to one API server over one connection pool."""

    def __init__(self, configuration: k8s.Configuration, session: aiohttp.ClientSession) -> None:
        self._configuration = configuration
        self._session = session

    @classmethod
    async def connect(cls, kubeconfig: Path | None = None, *, max_connections: int = 0) -> ApiClient:
        """A client for this kubeconfig; for None, of the pod's service account, else of $KUBECONFIG.

        Raises kubernetes_asyncio's ConfigException when neither is there, or is of use.
        """
        configuration = await kubeconfigs.load(kubeconfig)
        connector = aiohttp.TCPConnector(ssl=_ssl_context(configuration), limit=max_connections)
        session = aiohttp.ClientSession(
            base_url=str(configuration.host).rstrip("/") + "/",
            connector=connector,
            read_bufsize=_READ_BUFFER_BYTES,
            # A watch lives for minutes; each request sets its own limit.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            # Bodies are passed on as they came, and compressing them costs more than the network between neighbours.
            auto_decompress=True,
            headers={"Accept-Encoding": "identity", "User-Agent": "kip"},
        )
        return cls(configuration, session)

    @property
    def server(self) -> str:
        """The API server's address, as in the kubeconfig."""
        return str(self._configuration.host)

    @property
    def configuration(self) -> k8s.Configuration:
        """Where the API server is and how it is trusted, for a library that makes its own connections."""
        return self._configuration

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session, for a library that wants one; whoever gets it must not close it."""
        return self._session

    async def close(self) -> None:
        await self._session.close()

    async def headers(self) -> dict[str, str]:
        """The caller's credentials as request headers (tokens are read anew when they expire)."""
        token = await self._configuration.get_api_key_with_prefix("BearerToken")
        return {"Authorization": token} if token else {}

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str | None = None,
        accept: str = JSON,
        impersonate: Impersonation | None = None,
        timeout_s: float = 30,
    ) -> Reply:
        """Send one request and read the whole answer, whatever its status.

        Raises Unavailable when there is no answer within `timeout_s`.
        """
        headers = await self._headers_for(accept, content_type, impersonate)
        try:
            async with self._session.request(
                method,
                path.lstrip("/"),
                params=params,
                data=body,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=5),
            ) as response:
                return Reply(response.status, response.headers, await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(
                f"{method} {self.server}{path}: {str(error) or type(error).__name__}"
            ) from error

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        content_type: str = JSON,
        impersonate: Impersonation | None = None,
        timeout_s: float = 30,
    ) -> Any:
        """Send JSON, return the decoded answer; raises the errors of kip.kube.errors."""
        body = None if json is None else msgspec.json.encode(json)
        reply = await self.request(
            method,
            path,
            params=params,
            body=body,
            content_type=content_type if body is not None else None,
            impersonate=impersonate,
            timeout_s=timeout_s,
        )
        if reply.status >= 400:
            raise from_reply(reply.status, reply.body)
        return reply.json() if reply.body else None

    async def get(self, path: str, **params: str) -> Any:
        return await self.call("GET", path, params=params)

    async def create(self, path: str, obj: Any, **params: str) -> Any:
        return await self.call("POST", path, json=obj, params=params)

    async def replace(self, path: str, obj: Any) -> Any:
        return await self.call("PUT", path, json=obj)

    async def patch(self, path: str, patch: Any, *, content_type: str = MERGE_PATCH) -> Any:
        return await self.call("PATCH", path, json=patch, content_type=content_type)

    async def delete(self, path: str, options: Any = None) -> Any:
        return await self.call("DELETE", path, json=options)

    @asynccontextmanager
    async def stream(
        self, path: str, params: Mapping[str, str], *, idle_timeout_s: float | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open a long answer (a watch); raises the errors of kip.kube.errors if it does not begin."""
        headers = await self._headers_for(JSON, None, None)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=idle_timeout_s)
        try:
            async with self._session.get(
                path.lstrip("/"), params=params, headers=headers, timeout=timeout
            ) as response:
                if response.status >= 400:
                    raise from_reply(response.status, await response.read())
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"GET {self.server}{path}: {str(error) or type(error).__name__}") from error

    async def _headers_for(
        self, accept: str, content_type: str | None, impersonate: Impersonation | None
    ) -> CIMultiDict[str]:
        headers = CIMultiDict(await self.headers())
        headers["Accept"] = accept
        if content_type:
            headers["Content-Type"] = content_type
        if impersonate is not None:
            headers["Impersonate-User"] = impersonate.user
            for group in impersonate.groups:
                headers.add("Impersonate-Group", group)
        return headers


@asynccontextmanager
async def connected(kubeconfig: Path | None) -> AsyncIterator[ApiClient]:
    """`ApiClient.connect`, for as long as a command lasts."""
    client = await ApiClient.connect(kubeconfig)
    try:
        yield client
    finally:
        await client.close()


def _ssl_context(configuration: k8s.Configuration) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return not_strict(context)


def not_strict(context: ssl.SSLContext) -> ssl.SSLContext:
    """The same context, for the certificates that clusters really have; chain, dates and name are verified as before.

    From Python 3.13 on, default contexts insist on what RFC 5280 says of extensions (VERIFY_X509_STRICT). EKS clusters
    have CA certificates without key identifiers, which are then refused as "Missing Authority Key Identifier":
    https://github.com/kubernetes-client/python/issues/2394. kubectl and all else that is written in Go takes them.
    """
    context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
    return context
