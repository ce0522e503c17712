"""The virtual node's serving certificate, by a CertificateSigningRequest that the operator approves itself.

With `kubernetes.io/kubelet-serving` the request is made as the node (the API server records the requester, and that
signer is for nodes). EKS signs with it only for addresses of EC2 instances that are nodes; there
`beta.eks.amazonaws.com/app-serving` signs for any pod's address. The key never leaves the process.
"""

from __future__ import annotations

import base64
import random
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import msgspec
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from kip.kube.client import Impersonation
from kip.kube.errors import Unavailable
from kip.kubelet import pki
from kip.kubelet.ports import ApiClient, Reply
from kip.model.backoff import Backoff
from kip.model.clock import Clock, to_rfc3339

log = structlog.get_logger(__name__)

KUBELET_SERVING = "kubernetes.io/kubelet-serving"
EKS_APP_SERVING = "beta.eks.amazonaws.com/app-serving"

_PATH = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
_REQUESTED_LIFE_S = 7 * 24 * 3600
# kube-controller-manager signs within tens of milliseconds; EKS was seen to take seconds.
_ISSUE_DEADLINE_S = 30.0
_POLL_FIRST_S, _POLL_LAST_S = 0.1, 1.0
# The kubelet's own range (client-go certificate manager): all nodes of one age must not come at once.
_RENEW_FROM, _RENEW_TO = 0.7, 0.8
# What keeps it from being issued is over in a second when the API server was just started, and lasts when a right or
# a signer is missing.
_RETRY = Backoff(first_s=1.0, limit_s=60.0)


class NotIssued(Exception):
    """There is no certificate. `reason` is fit for an event; the text says what to do."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the certificate is for."""

    node_name: str
    addresses: Sequence[str]
    """The node's addresses (InternalIP first): callers compare them with what they dialled."""
    signer: str = KUBELET_SERVING


class ServingCertificate:
    """Holds the certificate; `start` gets the first one, `keep_renewed` the others.

    While the cluster issues none, a self-signed one serves: API servers that verify refuse it, the others do not
    mind, and `problem` says which it is.
    """

    def __init__(
        self, api: ApiClient, wanted: Wanted, clock: Clock, *, rng: random.Random | None = None
    ) -> None:
        self._api = api
        self._wanted = wanted
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._pair = pki.self_signed(wanted.node_name, wanted.addresses, clock)
        self._contexts: dict[bytes | None, ssl.SSLContext] = {}
        self._failures = 0
        self.problem: NotIssued | None = NotIssued(
            "CertificateNotRequested", "no certificate was asked for yet"
        )
        """Why the certificate in use is not the cluster's, None if it is, or why it could not be renewed."""

    def context(self, client_ca: bytes | None) -> ssl.SSLContext:
        """TLS settings with the newest certificate; client certificates are verified against `client_ca` (PEM)."""
        if client_ca not in self._contexts:
            self._contexts.clear()
            self._contexts[client_ca] = pki.server_context(self._pair, client_ca)
        return self._contexts[client_ca]

    @property
    def pair(self) -> pki.KeyPair:
        """The certificate in use."""
        return self._pair

    async def start(self) -> None:
        """Try once to get a certificate; when that fails the reason is in `problem`."""
        await self._renew()

    async def keep_renewed(self) -> None:
        """Renew in time, and while there is a problem ask again, every minute in the end; runs until cancelled."""
        while True:
            await self._clock.sleep(self._pause_s())
            await self._renew()

    def _pause_s(self) -> float:
        if self.problem is not None:
            return _RETRY.delay_s(max(0, self._failures - 1))
        share = self._rng.uniform(_RENEW_FROM, _RENEW_TO)
        return max(0.0, (pki.replace_at(self._pair, share) - self._clock.now()).total_seconds())

    async def _renew(self) -> None:
        try:
            self._pair = await request_certificate(self._api, self._wanted, self._clock)
        except NotIssued as error:
            if self.problem is None or str(error) != str(self.problem):
                log.warning("no serving certificate", reason=error.reason, message=str(error))
            self.problem = error
            self._failures += 1
            self._replace_expired_stopgap()
        else:
            self.problem, self._failures = None, 0
            self._contexts.clear()
            log.info(
                "serving certificate issued",
                node=self._wanted.node_name,
                signer=self._wanted.signer,
                until=to_rfc3339(self._pair.valid_until),
            )

    def _replace_expired_stopgap(self) -> None:
        if self._clock.now() >= self._pair.valid_until:
            self._pair = pki.self_signed(self._wanted.node_name, self._wanted.addresses, self._clock)
            self._contexts.clear()


async def request_certificate(api: ApiClient, wanted: Wanted, clock: Clock) -> pki.KeyPair:
    """Create the request, approve it, wait for the certificate, delete the request. Raises NotIssued."""
    key = pki.new_key()
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(pki.node_subject(wanted.node_name))
        .add_extension(pki.alternative_names(wanted.addresses), critical=False)
        .sign(key, hashes.SHA256())
    )
    name = f"{wanted.node_name}-{uuid4().hex[:8]}"
    body = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {
            "request": _base64(request.public_bytes(serialization.Encoding.PEM)),
            "signerName": wanted.signer,
            "usages": ["digital signature", "server auth"],
            "expirationSeconds": _REQUESTED_LIFE_S,
        },
    }
    try:
        created = await _call(api, "POST", _PATH, body, impersonate=_requester(wanted))
        try:
            await _approve(api, name, created, clock)
            certificate = await _issued(api, name, wanted, clock)
        finally:
            await _clean_up(api, name)
    except Unavailable as error:
        raise NotIssued("CertificateRequestFailed", str(error)) from error
    return pki.KeyPair(certificate, pki.key_pem(key))


def _requester(wanted: Wanted) -> Impersonation | None:
    """The node itself where the signer asks for it; EKS's signer takes anybody's request."""
    if wanted.signer != KUBELET_SERVING:
        return None
    return Impersonation(f"system:node:{wanted.node_name}", ("system:nodes",))


async def _approve(api: ApiClient, name: str, request: dict[str, Any], clock: Clock) -> None:
    condition = {
        "type": "Approved",
        "status": "True",
        "reason": "KipVirtualNode",
        "message": "requested and approved by the operator of this virtual node",
        "lastUpdateTime": to_rfc3339(clock.now()),
    }
    request["status"] = {"conditions": [condition]}
    await _call(api, "PUT", f"{_PATH}/{name}/approval", request)


async def _issued(api: ApiClient, name: str, wanted: Wanted, clock: Clock) -> bytes:
    deadline = clock.monotonic() + _ISSUE_DEADLINE_S
    pause = _POLL_FIRST_S
    while True:
        status = (await _call(api, "GET", f"{_PATH}/{name}")).get("status") or {}
        for condition in status.get("conditions") or ():
            if condition["type"] in ("Denied", "Failed"):
                raise NotIssued(
                    f"Certificate{condition['type']}",
                    f"{wanted.signer} refused a serving certificate for {wanted.node_name}: "
                    f"{condition.get('message') or condition.get('reason') or 'no reason given'}",
                )
        if certificate := status.get("certificate"):
            return base64.b64decode(certificate)
        if clock.monotonic() >= deadline:
            raise NotIssued("CertificateNotIssued", _not_issued(wanted))
        await clock.sleep(pause)
        pause = min(pause * 2, _POLL_LAST_S)


async def _clean_up(api: ApiClient, name: str) -> None:
    """A request that stays is no harm: the cluster's own clean-up takes it within a day."""
    try:
        await api.request("DELETE", f"{_PATH}/{name}")
    except Unavailable as error:
        log.warning("certificate request stays behind", name=name, reason=str(error))


def _not_issued(wanted: Wanted) -> str:
    advice = (
        f"on EKS, which signs that only for EC2 instances, use {EKS_APP_SERVING}"
        if wanted.signer == KUBELET_SERVING
        else "is there a controller for this signer in the cluster?"
    )
    return (
        f"{wanted.signer} has not signed the approved request for {wanted.node_name} "
        f"({', '.join(wanted.addresses)}) within {_ISSUE_DEADLINE_S:.0f} s: {advice}"
    )


async def _call(
    api: ApiClient, method: str, path: str, body: Any = None, *, impersonate: Impersonation | None = None
) -> dict[str, Any]:
    reply: Reply = await api.request(
        method,
        path,
        body=None if body is None else msgspec.json.encode(body),
        content_type=None if body is None else "application/json",
        impersonate=impersonate,
    )
    try:
        decoded = msgspec.json.decode(reply.body)
    except msgspec.DecodeError:
        decoded = {}
    if reply.status >= 300:
        asked = f" as {impersonate.user}" if impersonate else ""
        message = decoded.get("message") or f"status {reply.status}"
        raise NotIssued("CertificateRequestFailed", f"{method} {path}{asked}: {message}")
    return dict(decoded)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
