"""Who is asking the virtual node's kubelet API, and may they.

The same answers as a kubelet with `authentication: {x509, webhook}`, `authorization: Webhook`: a client certificate of
the cluster's client CA, else a bearer token that the API server vouches for; nobody is anonymous. Then a
SubjectAccessReview for the subresource of `nodes` that the path stands for.

One difference: a client certificate of another CA already fails in the TLS handshake, while a kubelet would go on to the
caller's bearer token. So a client that has a token must not present such a certificate beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from kip.kube.errors import Unavailable
from kip.kubelet.expiring import ExpiringCache
from kip.kubelet.http1 import HttpError
from kip.kubelet.ports import ApiClient, Reply
from kip.model.clock import Clock

# Defaults of KubeletConfiguration: authentication.webhook.cacheTTL, authorization.webhook.cache(Un)AuthorizedTTL.
_TOKEN_TTL_S = 120.0
_ALLOWED_TTL_S = 300.0
_DENIED_TTL_S = 30.0
# A refused token is asked about again sooner: a new ServiceAccount's token may reach us before the API server knows it.
_UNKNOWN_TOKEN_TTL_S = 10.0

_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}

# kubelet 1.36, pkg/kubelet/server/auth.go. With fine-grained authorisation (on from 1.33) these are asked for first.
_FINE_GRAINED = {"/pods": "pods", "/runningpods": "pods", "/healthz": "healthz", "/configz": "configz"}
_SUBRESOURCES = {
    "/stats": "stats",
    "/metrics": "metrics",
    "/logs": "log",
    "/checkpoint": "checkpoint",
    "/statusz": "statusz",
    "/flagz": "configz",
}
_RUNS_CODE = ("/exec", "/attach", "/portForward", "/run")


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller, as the API server would see them."""

    user: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Access:
    """One thing a caller may be allowed to do: a verb on `nodes/<subresource>`."""

    verb: str
    subresource: str


def needed_access(method: str, path: str) -> tuple[Access, ...]:
    """What a request needs, any one of it; the verb is empty (which nobody is granted) for methods without one.

    One step stricter than a kubelet: what runs code or opens a connection in a pod needs `create` also when it comes as a
    GET (a WebSocket's handshake is one), so that read access to `nodes/proxy` is not a shell in every pod.
    """
    verb = _VERBS.get(method, "")
    if verb == "get" and _first_under(path, _RUNS_CODE):
        verb = "create"
    fine = _first_under(path, _FINE_GRAINED)
    coarse = _first_under(path, _SUBRESOURCES)
    subresources = [_FINE_GRAINED[fine]] if fine else []
    subresources.append(_SUBRESOURCES[coarse] if coarse else "proxy")
    return tuple(Access(verb, subresource) for subresource in subresources)


def identity_of(certificate: Mapping[str, Any] | None) -> Identity | None:
    """The user of a verified client certificate: common name and organisations; None without a common name.

    `certificate` is in the form of `ssl.SSLSocket.getpeercert`.
    """
    if not certificate:
        return None
    attributes = [
        attribute for relative_name in certificate.get("subject", ()) for attribute in relative_name
    ]
    user = next((value for name, value in attributes if name == "commonName"), "")
    groups = tuple(value for name, value in attributes if name == "organizationName")
    return Identity(user, groups=(*groups, "system:authenticated")) if user else None


def bearer_token(authorization: str | None) -> str | None:
    """The token of an Authorization field, None if there is none in it."""
    scheme, _, token = (authorization or "").strip().partition(" ")
    return (token.strip() or None) if scheme.lower() == "bearer" else None


class Authenticator:
    """Finds out who a caller is."""

    def __init__(self, api: ApiClient, clock: Clock) -> None:
        self._api = api
        self._tokens: ExpiringCache[bytes, Identity | None] = ExpiringCache(clock)

    async def authenticate(
        self, certificate: Mapping[str, Any] | None, authorization: str | None
    ) -> Identity:
        """The caller by certificate, else by token.

        Raises HttpError 401 for nobody, 503 when the API server cannot be asked.
        """
        identity = identity_of(certificate)
        if identity is None and (token := bearer_token(authorization)):
            identity = await self._by_token(token)
        if identity is None:
            raise HttpError(401, "Unauthorized")
        return identity

    async def _by_token(self, token: str) -> Identity | None:
        key = hashlib.sha256(token.encode()).digest()
        if key in self._tokens:
            return self._tokens[key]
        review = await _review(
            self._api, "authentication.k8s.io/v1", "TokenReview", "tokenreviews", {"token": token}
        )
        status = review.get("status", {})
        user = status.get("user", {}) if status.get("authenticated") else {}
        identity = _identity_of_user(user) if user.get("username") else None
        self._tokens.put(key, identity, _TOKEN_TTL_S if identity else _UNKNOWN_TOKEN_TTL_S)
        return identity


class Authorizer:
    """Finds out whether a caller may do something to the virtual node."""

    def __init__(self, api: ApiClient, node_name: str, clock: Clock) -> None:
        self._api = api
        self._node_name = node_name
        self._decisions: ExpiringCache[tuple[Identity, Access], bool] = ExpiringCache(clock)

    async def authorize(self, identity: Identity, method: str, path: str) -> None:
        """Return if the request is allowed.

        Raises HttpError 403 if it is not, 503 when the API server cannot be asked.
        """
        wanted = needed_access(method, path)
        for access in wanted:
            if await self._allowed(identity, access):
                return
        subresources = " ".join(access.subresource for access in wanted)
        raise HttpError(
            403,
            f"Forbidden (user={identity.user}, verb={wanted[0].verb}, resource=nodes, "
            f"subresource(s)=[{subresources}], name={self._node_name})",
        )

    async def _allowed(self, identity: Identity, access: Access) -> bool:
        key = (identity, access)
        if key in self._decisions:
            return self._decisions[key]
        spec = {
            "user": identity.user,
            "uid": identity.uid,
            "groups": identity.groups,
            "extra": dict(identity.extra),
            "resourceAttributes": {
                "verb": access.verb,
                "version": "v1",
                "resource": "nodes",
                "subresource": access.subresource,
                "name": self._node_name,
            },
        }
        review = await _review(
            self._api, "authorization.k8s.io/v1", "SubjectAccessReview", "subjectaccessreviews", spec
        )
        allowed = bool(review.get("status", {}).get("allowed"))
        self._decisions.put(key, allowed, _ALLOWED_TTL_S if allowed else _DENIED_TTL_S)
        return allowed


def _first_under(path: str, prefixes: Any) -> str | None:
    return next((prefix for prefix in prefixes if path == prefix or path.startswith(prefix + "/")), None)


def _identity_of_user(user: Mapping[str, Any]) -> Identity:
    extra = user.get("extra") or {}
    return Identity(
        user["username"],
        user.get("uid", ""),
        tuple(user.get("groups") or ()),
        tuple((key, tuple(values)) for key, values in sorted(extra.items())),
    )


async def _review(api: ApiClient, version: str, kind: str, plural: str, spec: Any) -> dict[str, Any]:
    """Ask the API server; raises HttpError 503 when it does not answer as it should."""
    body = msgspec.json.encode({"apiVersion": version, "kind": kind, "spec": spec})
    try:
        reply: Reply = await api.request(
            "POST", f"/apis/{version}/{plural}", body=body, content_type="application/json", timeout_s=10
        )
    except Unavailable as error:
        raise HttpError(503, f"the API server cannot be asked about this caller: {error}") from error
    if reply.status in (401, 403):
        raise HttpError(
            503, f"the operator may not create {plural}: bind the ClusterRole system:auth-delegator to it"
        )
    if reply.status not in (200, 201):
        raise HttpError(503, f"the API server answered {reply.status} to a {kind}")
    decoded = msgspec.json.decode(reply.body)
    return decoded if isinstance(decoded, dict) else {}
