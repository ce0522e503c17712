"""Logs that outlive their cell: fetched before the instance is terminated, answered while the pod object exists."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import msgspec
import structlog

from kip.kube.errors import Unavailable, from_reply
from kip.kubelet import cell, keptformat, logtext
from kip.kubelet.cell import CellUnreachable
from kip.kubelet.directory import Endpoint
from kip.kubelet.http1 import Answer, HttpError
from kip.kubelet.keptformat import KeptLog, KeptPod
from kip.kubelet.logoptions import LogOptions, parse
from kip.kubelet.ports import ApiClient, CellTls
from kip.kubelet.routes import PodRoute
from kip.model.clock import Clock, from_rfc3339

log = structlog.get_logger(__name__)

DEFAULT_LIMIT_BYTES = 256 * 1024
# All logs of a pod. Somebody pays for the instance meanwhile; a container's log file has at most 10 MiB (kubelet default).
_FETCH_DEADLINE_S = 30.0
_AT_ONCE = 4
_REFUSAL_LIMIT_BYTES = 4096
_NOT_READ = "its log could not be read before the instance was terminated"
# A sweep may have been given a list of pods that is older than the newest Secret.
_SWEEP_SPARES = timedelta(minutes=5)
_PAGE = "500"
# Creates or replaces in one request; JSON is YAML.
_APPLY_PATCH = "application/apply-patch+yaml"
_FIELD_MANAGER = "kip"
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


@dataclass(frozen=True, slots=True)
class Kept:
    """What was kept of a pod's logs."""

    secret: str
    bytes: int
    cut: tuple[str, ...]
    """Containers of whose log only the end was kept."""
    unread: tuple[str, ...]
    """Containers whose log could not be read any more."""


class KeptLogs:
    """Keeps logs of ended pods as Secrets in the operator's namespace."""

    def __init__(
        self,
        api: ApiClient,
        tls: CellTls,
        clock: Clock,
        *,
        namespace: str,
        node_name: str,
        limit_bytes: int = DEFAULT_LIMIT_BYTES,
    ) -> None:
        """`limit_bytes` is per container, before compression."""
        self._api = api
        self._tls = tls
        self._clock = clock
        self._path = f"/api/v1/namespaces/{namespace}/secrets"
        self._node_name = node_name
        self._limit_bytes = limit_bytes

    async def keep(self, endpoint: Endpoint, pod: Mapping[str, Any]) -> Kept:
        """Fetch the logs of all containers of an ended pod from its cell, and store them; may be repeated.

        Raises CellUnreachable when the cell answers for no container (nothing is stored then), KubeError when the
        API server does not take the Secret.
        """
        wanted = list(wanted_logs(pod))
        logs = await self._fetch_all(endpoint, wanted)
        unread = tuple(one.container for one in logs if one.refusal == _NOT_READ)
        if logs and len(unread) == len(logs):
            raise CellUnreachable(f"cell {endpoint.cell} gave none of the logs of its pod")
        metadata = pod["metadata"]
        secret, stored = keptformat.to_secret(
            KeptPod(metadata["namespace"], metadata["name"], metadata["uid"]), self._node_name, logs
        )
        await self._store(secret, complete=not unread)
        return Kept(
            secret["metadata"]["name"],
            sum(len(one.text) for one in stored),
            tuple(one.container for one in stored if one.dropped),
            unread,
        )

    async def serve(self, pod: PodRoute, query: list[tuple[str, str]], uid: str | None) -> Answer | None:
        """Answer `/containerLogs` from what was kept, None if that is nothing.

        With `uid` only what was kept of exactly that pod; without, of the newest one with that name.
        Raises HttpError for bad options, and 502 when what was kept cannot be read.
        """
        secret = await (self._by_uid(uid) if uid else self._by_name(pod.namespace, pod.pod))
        if secret is None:
            return None
        try:
            _, logs = keptformat.from_secret(secret)
        except ValueError as error:
            raise HttpError(502, f"secret {secret['metadata']['name']}: {error}") from error
        options = parse(query, self._clock.now())
        return _answer(logs, pod, options)

    async def delete(self, uid: str) -> None:
        """Forget the logs of the pod with this UID; fine if there are none. Raises KubeError."""
        reply = await self._api.request("DELETE", f"{self._path}/{keptformat.secret_name(uid)}")
        if reply.status not in (200, 202, 404):
            raise from_reply(reply.status, reply.body)

    async def sweep(self, existing_uids: Collection[str]) -> int:
        """Delete what was kept of pods that exist no more, except in the last five minutes; returns how many.

        Raises KubeError.
        """
        swept = 0
        keep_from = self._clock.now() - _SWEEP_SPARES
        for metadata in await self._list_metadata():
            uid = metadata.get("labels", {}).get(keptformat.LABEL_UID, "")
            if uid and uid not in existing_uids and from_rfc3339(metadata["creationTimestamp"]) < keep_from:
                await self.delete(uid)
                swept += 1
        return swept

    async def _fetch_all(self, endpoint: Endpoint, wanted: Iterable[tuple[str, bool]]) -> list[KeptLog]:
        gate = asyncio.Semaphore(_AT_ONCE)
        deadline = asyncio.get_running_loop().time() + _FETCH_DEADLINE_S

        async def fetch(container: str, previous: bool) -> KeptLog:
            try:
                async with gate, asyncio.timeout_at(deadline):
                    return await self._fetch(endpoint, container, previous)
            except (CellUnreachable, TimeoutError) as error:
                log.warning(
                    "log not kept", cell=endpoint.cell, container=container, reason=str(error) or "too slow"
                )
                return KeptLog(container, previous, b"", refusal=_NOT_READ)

        return await asyncio.gather(*(fetch(container, previous) for container, previous in wanted))

    async def _fetch(self, endpoint: Endpoint, container: str, previous: bool) -> KeptLog:
        target = f"/containerLogs/{endpoint.namespace}/{endpoint.pod}/{quote(container)}?timestamps=true"
        async with cell.get(endpoint, self._tls, target + "&previous=true" * previous) as (head, chunks):
            tail = logtext.Tail(self._limit_bytes if head.status == 200 else _REFUSAL_LIMIT_BYTES)
            async for chunk in chunks:
                tail.feed(chunk)
        text, dropped = tail.result()
        if head.status == 200:
            return KeptLog(container, previous, text, dropped)
        refusal = text.decode(errors="replace").strip() or f"the kubelet answered {head.status}"
        return KeptLog(container, previous, b"", refusal=refusal)

    async def _store(self, secret: dict[str, Any], *, complete: bool) -> None:
        """Write the Secret; an incomplete one must not replace that of an earlier try, which may have more."""
        body = msgspec.json.encode(secret)
        if complete:
            path = f"{self._path}/{secret['metadata']['name']}"
            apply = {"fieldManager": _FIELD_MANAGER, "force": "true"}
            reply = await self._api.request("PATCH", path, params=apply, body=body, content_type=_APPLY_PATCH)
        else:
            params = {"fieldManager": _FIELD_MANAGER}
            reply = await self._api.request(
                "POST", self._path, params=params, body=body, content_type="application/json"
            )
        if reply.status >= 300 and (complete or reply.status != 409):
            raise from_reply(reply.status, reply.body)

    async def _by_uid(self, uid: str) -> dict[str, Any] | None:
        return await self._read(f"{self._path}/{keptformat.secret_name(uid)}", {})

    async def _by_name(self, namespace: str, name: str) -> dict[str, Any] | None:
        label = f"{keptformat.LABEL_POD}={keptformat.pod_label(namespace, name)}"
        found = await self._read(self._path, {"labelSelector": label})
        secrets = (found or {}).get("items") or []
        return max(secrets, key=lambda secret: secret["metadata"]["creationTimestamp"], default=None)

    async def _read(self, path: str, params: dict[str, str]) -> dict[str, Any] | None:
        """Raises HttpError 502 with a sentence for whoever wanted to see a log."""
        try:
            reply = await self._api.request("GET", path, params=params, timeout_s=10)
        except Unavailable as error:
            raise HttpError(502, f"kept logs cannot be read: {error}") from error
        if reply.status == 404:
            return None
        if reply.status != 200:
            raise HttpError(502, f"kept logs cannot be read: {from_reply(reply.status, reply.body)}")
        decoded = msgspec.json.decode(reply.body)
        return decoded if isinstance(decoded, dict) else None

    async def _list_metadata(self) -> list[dict[str, Any]]:
        selector = f"{keptformat.LABEL_NODE}={self._node_name},{keptformat.LABEL_UID}"
        params = {"labelSelector": selector, "limit": _PAGE}
        found: list[dict[str, Any]] = []
        while True:
            reply = await self._api.request("GET", self._path, params=params, accept=_METADATA_ONLY)
            if reply.status != 200:
                raise from_reply(reply.status, reply.body)
            page = msgspec.json.decode(reply.body)
            found += [item["metadata"] for item in page.get("items") or ()]
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return found
            params["continue"] = token


def wanted_logs(pod: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """(container, previous) for every log that a kubelet may have of this pod."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    for kind in ("init", "", "ephemeral"):
        plural = f"{kind}Containers" if kind else "containers"
        statuses = status.get(f"{kind}ContainerStatuses" if kind else "containerStatuses") or ()
        restarted = {one["name"] for one in statuses if (one.get("lastState") or {}).get("terminated")}
        for container in spec.get(plural) or ():
            yield container["name"], False
            if container["name"] in restarted:
                yield container["name"], True


def _answer(logs: list[KeptLog], pod: PodRoute, options: LogOptions) -> Answer:
    """As the pod's kubelet would have said it."""
    of_container = {one.previous: one for one in logs if one.container == pod.container}
    if not of_container:
        return _plain(404, f'container "{pod.container}" not found in pod "{pod.pod}"')
    found = of_container.get(options.previous)
    if found is None:
        which = "previous terminated container" if options.previous else "container"
        return _plain(400, f'{which} "{pod.container}" in pod "{pod.pod}" not found')
    if found.refusal:
        return _plain(400, found.refusal)
    text = logtext.with_notice(found.text, found.dropped)
    return Answer(200, logtext.select(text, options), "text/plain")


def _plain(status: int, message: str) -> Answer:
    return Answer(status, message.encode())
