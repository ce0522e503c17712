"""As much of a Kubernetes client as setting up a world takes: read, apply, delete; as the administrator."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kip.local.pki import ControlPlanePki, Pair
from kip.local.world import World, WorldError

_FIELD_MANAGER = "kip-local"
_TIMEOUT = 10.0  # seconds for one answer
_NOT_FOUND = 404

Object = Mapping[str, Any]

# Where each kind lies; a set-up knows its kinds, so discovery would cost requests and give nothing.
_PATHS = {
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "ConfigMap": "configmaps",
    "CustomResourceDefinition": "customresourcedefinitions",
    "EndpointSlice": "endpointslices",
    "Namespace": "namespaces",
    "Node": "nodes",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "Service": "services",
    "ServiceAccount": "serviceaccounts",
}


class ApiError(WorldError):
    """The API server refused a request."""


class Api:
    """Talks to the world's API server; every call is one request on a connection of its own."""

    def __init__(self, world: World) -> None:
        self._address = world.address("apiserver")
        pki = ControlPlanePki(world)
        self._context = client_context(pki.cluster.pair.certificate, pki.administrator())

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a GET. Raises OSError where nobody answers."""
        return get_https(self._address, path, self._context)

    def apply(self, manifest: Object) -> None:
        """Makes the object be as the manifest says (server-side apply). Raises ApiError."""
        path = f"{object_path(manifest)}?fieldManager={_FIELD_MANAGER}&force=true"
        self._write("PATCH", path, manifest, "application/apply-patch+yaml")

    def put(self, path: str, content: Object) -> None:
        """Replaces what is at the path. Raises ApiError."""
        self._write("PUT", path, content, "application/json")

    def delete(self, manifest: Object) -> None:
        """Deletes the object of the manifest's kind and name; fine when there is none. Raises ApiError."""
        status, body = _request(self._address, "DELETE", object_path(manifest), self._context)
        if status >= http.client.BAD_REQUEST and status != _NOT_FOUND:
            raise ApiError(f"DELETE {object_path(manifest)} was refused: {_message(body)}")

    def items(self, path: str) -> list[dict[str, Any]]:
        """The objects of the collection at the path. Raises ApiError."""
        status, body = self.get(path)
        if status >= http.client.BAD_REQUEST:
            raise ApiError(f"{path}: {_message(body)}")
        found: list[dict[str, Any]] = json.loads(body)["items"]
        return found

    def _write(self, method: str, path: str, content: Object, kind: str) -> None:
        status, body = _request(
            self._address, method, path, self._context, body=json.dumps(content), kind=kind
        )
        if status >= http.client.BAD_REQUEST:
            raise ApiError(f"{method} {path.partition('?')[0]} was refused: {_message(body)}")

    def read(self, manifest: Object) -> dict[str, Any] | None:
        """The object of the manifest's kind and name as the cluster has it. Raises ApiError."""
        status, body = self.get(object_path(manifest))
        if status == _NOT_FOUND:
            return None
        if status >= http.client.BAD_REQUEST:
            raise ApiError(f"{object_path(manifest)}: {_message(body)}")
        found: dict[str, Any] = json.loads(body)
        return found


def object_path(manifest: Object) -> str:
    """The request path of the object that the manifest describes. Raises ApiError for a kind not known here."""
    group, kind, metadata = manifest["apiVersion"], manifest["kind"], manifest["metadata"]
    if kind not in _PATHS:
        raise ApiError(
            f"{kind} {metadata['name']}: the local world's set-up applies {', '.join(_PATHS)} only"
        )
    base = f"/apis/{group}" if "/" in group else f"/api/{group}"
    within = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    return f"{base}{within}/{_PATHS[kind]}/{metadata['name']}"


def client_context(authority: Path, client: Pair | None) -> ssl.SSLContext:
    """TLS that trusts this authority and shows that client certificate."""
    context = ssl.create_default_context(cafile=authority)
    if client:
        context.load_cert_chain(client.certificate, client.key)
    return context


def get_https(address: tuple[str, int], path: str, context: ssl.SSLContext) -> tuple[int, str]:
    """Status and body of a GET over TLS. Raises OSError where nobody answers."""
    return _request(address, "GET", path, context)


def _request(
    address: tuple[str, int],
    method: str,
    path: str,
    context: ssl.SSLContext,
    *,
    body: str | None = None,
    kind: str = "",
) -> tuple[int, str]:
    connection = http.client.HTTPSConnection(*address, context=context, timeout=_TIMEOUT)
    try:
        connection.request(method, path, body, {"Content-Type": kind} if kind else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except http.client.HTTPException as error:
        raise ConnectionError(f"{address[0]}:{address[1]} broke off: {error!r}") from error
    finally:
        connection.close()


def _message(body: str) -> str:
    """What a Kubernetes Status says, or the body as it is."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.strip()
