"""An API server in memory, as far as the operator talks to one: behind the real client, so that only HTTP is missing.

It keeps what matters to a controller: resourceVersions and conflicts, UIDs and preconditions, finalizers, graceful
deletion of pods, the status subresource, watches. It validates nothing and knows no defaults. What it does is held
against the real API server by `tests/integration/kube/test_fake.py`.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Unpack, cast
from urllib.parse import unquote

import aiohttp
import msgspec
from multidict import CIMultiDict, CIMultiDictProxy

from kip.kube.client import ApiClient, Reply, RequestOptions
from kip.kube.errors import Unavailable
from kip.model.clock import Clock, SystemClock, to_rfc3339

Object = dict[str, Any]
Listener = Callable[[str, Object], None]

_WITH_STATUS = frozenset(("pods", "nodes", "cells"))


@dataclass(frozen=True)
class Request:
    """One request, as it came."""

    method: str
    path: str
    body: Any


@dataclass(frozen=True)
class _Target:
    """What a path names."""

    group: str
    namespace: str | None
    resource: str
    name: str | None
    subresource: str | None

    @property
    def key(self) -> tuple[str, str, str | None, str | None]:
        return self.group, self.resource, self.namespace, self.name


@dataclass
class _Fault:
    matches: Callable[[Request], bool]
    answer: int | None
    times: int
    after: bool


class _Refusal(Exception):
    def __init__(self, status: int, reason: str, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.reason, self.field = status, reason, field

    def answer(self) -> Object:
        causes = [{"field": self.field, "message": str(self)}] if self.field else []
        return {"kind": "Status", "reason": self.reason, "message": str(self), "details": {"causes": causes}}


class FakeApi(ApiClient):
    """Objects by path; `requests` has every request, `fail` makes some fail, `listeners` hear of every change."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._objects: dict[tuple[str, str, str | None, str | None], Object] = {}
        self._version = 100
        self._made = 0
        self._faults: list[_Fault] = []
        self._history: list[tuple[int, str, _Target, Object]] = []
        self._news = asyncio.Condition()
        self.requests: list[Request] = []
        self.away = False
        """True: nothing is answered, and watches end."""
        self.listeners: dict[str, list[Listener]] = {}

    # What tests do with it.

    def fail(
        self,
        method: str,
        path: str,
        *,
        status: int | None = None,
        times: int = 1,
        after: bool = False,
    ) -> None:
        """Let the next requests of this method, whose path contains `path`, be answered so (None: not at all).

        With `after` they take effect all the same.
        """
        self._faults.append(_Fault(lambda r: r.method == method and path in r.path, status, times, after))

    def listen(self, resource: str, listener: Listener) -> None:
        """Tell (ADDED, MODIFIED or DELETED; object) of every change to objects of this kind (`pods`)."""
        self.listeners.setdefault(resource, []).append(listener)

    def all(self, resource: str) -> list[Object]:
        """Every object of a kind, in the order of their making."""
        return [copy.deepcopy(o) for (_, kind, _, _), o in self._objects.items() if kind == resource]

    def writes(self) -> list[Request]:
        """The requests so far that were meant to change something."""
        return [r for r in self.requests if r.method != "GET"]

    # What ApiClient does over HTTP.

    @property
    def server(self) -> str:
        return "https://fake"

    async def close(self) -> None:
        """Nothing is open."""

    async def request(self, method: str, path: str, **options: Unpack[RequestOptions]) -> Reply:
        body = options.get("body")
        asked = Request(method, path, None if body is None else msgspec.json.decode(body))
        self.requests.append(asked)
        # A request over a network always gives others a turn: code that is right only without one shall not pass.
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable(f"{method} {path}: connection refused")
        fault = self._fault(asked)
        if fault is not None and not fault.after:
            return self._failure(asked, fault)
        try:
            answer, status = self._serve(asked, options.get("params") or {})
        except _Refusal as refusal:
            answer, status = refusal.answer(), refusal.status
        if fault is not None:
            return self._failure(asked, fault)
        async with self._news:
            self._news.notify_all()
        return _reply(status, answer)

    @asynccontextmanager
    async def stream(
        self, path: str, params: Mapping[str, str], *, idle_timeout_s: float | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self.away:
            raise Unavailable(f"GET {path}: connection refused")
        target = _parse(path)
        yield cast(aiohttp.ClientResponse, _Stream(self._watch(target, params)))

    async def _watch(self, target: _Target, params: Mapping[str, str]) -> AsyncIterator[bytes]:
        seen = int(params.get("resourceVersion") or 0)
        while not self.away:
            for version, kind, changed, obj in list(self._history):
                if version > seen and _listed(target, params, changed, obj):
                    yield msgspec.json.encode({"type": kind, "object": obj}) + b"\n"
            seen = max(seen, self._version)
            async with self._news:
                if seen >= self._version:
                    await self._news.wait()

    # The server.

    def _serve(self, asked: Request, params: Mapping[str, str]) -> tuple[Object, int]:
        target = _parse(asked.path)
        body = asked.body or {}
        match asked.method:
            case "GET" if target.name is None:
                return self._list(target, params), 200
            case "GET":
                return copy.deepcopy(self._find(target)), 200
            case "POST" if target.subresource == "eviction":
                return self._delete(target, {}), 201
            case "POST":
                return self._create(target, body), 201
            case "PUT":
                return self._change(target, lambda old: {**body, "status": old.get("status", {})}, body), 200
            case "PATCH":
                return self._change(target, lambda old: _merged(old, body), body), 200
            case "DELETE":
                return self._delete(target, body), 200
        raise _Refusal(405, "MethodNotAllowed", asked.method)

    def _list(self, target: _Target, params: Mapping[str, str]) -> Object:
        items = [
            copy.deepcopy(obj)
            for (group, resource, namespace, name), obj in self._objects.items()
            if _listed(target, params, _Target(group, namespace, resource, name, None), obj)
        ]
        return {"kind": "List", "metadata": {"resourceVersion": str(self._version)}, "items": items}

    def _find(self, target: _Target) -> Object:
        try:
            return self._objects[target.key]
        except KeyError:
            raise _Refusal(404, "NotFound", f"{target.resource} {target.name!r} not found") from None

    def _create(self, target: _Target, body: Object) -> Object:
        obj: Object = copy.deepcopy(body)
        metadata = obj.setdefault("metadata", {})
        named = _Target(target.group, target.namespace, target.resource, metadata["name"], None)
        if named.key in self._objects:
            raise _Refusal(409, "AlreadyExists", f"{named.resource} {named.name!r} already exists")
        self._made += 1
        metadata["uid"] = f"00000000-0000-4000-8000-{self._made:012d}"
        metadata["creationTimestamp"] = to_rfc3339(self._clock.now())
        if target.namespace is not None:
            metadata["namespace"] = target.namespace
        if target.resource == "pods":
            obj.setdefault("status", {}).setdefault("phase", "Pending")
        self._store("ADDED", named, obj)
        return copy.deepcopy(obj)

    def _change(self, target: _Target, change: Callable[[Object], Object], body: Object) -> Object:
        old = self._find(target)
        sent = body.get("metadata") or {}
        if sent.get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
            raise _Refusal(422, "Invalid", f"{target.name}: field is immutable", field="metadata.uid")
        version = old["metadata"]["resourceVersion"]
        if sent.get("resourceVersion", version) != version:
            raise _Refusal(409, "Conflict", f"{target.name}: the resourceVersion is {version}")
        wanted = change(copy.deepcopy(old))
        new = copy.deepcopy(old)
        if target.subresource == "status":
            new["status"] = wanted.get("status") or {}
        else:
            status = {} if target.resource not in _WITH_STATUS else {"status": old.get("status") or {}}
            new = {**wanted, **status}
        new["metadata"] = {
            **(new["metadata"]),
            **{k: old["metadata"][k] for k in ("uid", "resourceVersion", "creationTimestamp", "name")},
        }
        if new == old:
            return copy.deepcopy(old)
        if new["metadata"].get("deletionTimestamp") and not new["metadata"].get("finalizers"):
            return self._remove(target, new)
        self._store("MODIFIED", target, new)
        return copy.deepcopy(new)

    def _delete(self, target: _Target, options: Object) -> Object:
        obj = copy.deepcopy(self._find(target))
        metadata = obj["metadata"]
        wanted = (options.get("preconditions") or {}).get("uid", metadata["uid"])
        if wanted != metadata["uid"]:
            raise _Refusal(409, "Conflict", f"{target.name}: the UID is {metadata['uid']}")
        grace_s = self._grace_s(target, obj, options)
        stays = bool(grace_s or metadata.get("finalizers"))
        # A pod's deletion is told twice, also one by force.
        if "deletionTimestamp" not in metadata and (stays or target.resource == "pods"):
            metadata["deletionTimestamp"] = to_rfc3339(self._clock.now())
            metadata["deletionGracePeriodSeconds"] = grace_s
            self._store("MODIFIED", target, obj)
        return copy.deepcopy(obj) if stays else self._remove(target, copy.deepcopy(obj))

    def _grace_s(self, target: _Target, obj: Object, options: Object) -> int:
        """A pod on a node is only marked: its kubelet deletes it with a grace period of 0."""
        if target.resource != "pods" or not obj["spec"].get("nodeName"):
            return 0
        usual = obj["spec"].get("terminationGracePeriodSeconds", 30)
        return int(options.get("gracePeriodSeconds", usual))

    def _store(self, kind: str, target: _Target, obj: Object) -> None:
        self._version += 1
        obj["metadata"]["resourceVersion"] = str(self._version)
        self._objects[target.key] = obj
        self._tell(kind, target, obj)

    def _remove(self, target: _Target, obj: Object) -> Object:
        del self._objects[target.key]
        self._version += 1
        obj["metadata"]["resourceVersion"] = str(self._version)
        self._tell("DELETED", target, obj)
        return copy.deepcopy(obj)

    def _tell(self, kind: str, target: _Target, obj: Object) -> None:
        self._history.append((self._version, kind, target, copy.deepcopy(obj)))
        for listener in self.listeners.get(target.resource, ()):
            listener(kind, copy.deepcopy(obj))

    def _fault(self, asked: Request) -> _Fault | None:
        fault = next((f for f in self._faults if f.matches(asked)), None)
        if fault is not None:
            fault.times -= 1
            if not fault.times:
                self._faults.remove(fault)
        return fault

    def _failure(self, asked: Request, fault: _Fault) -> Reply:
        if fault.answer is None:
            raise Unavailable(f"{asked.method} {asked.path}: no answer")
        return _reply(fault.answer, {"kind": "Status", "message": "made to fail"})


class _Stream:
    """As much of a response as a watch reads."""

    def __init__(self, lines: AsyncIterator[bytes]) -> None:
        self.content = lines


def _reply(status: int, answer: Object) -> Reply:
    return Reply(status, CIMultiDictProxy(CIMultiDict()), msgspec.json.encode(answer))


def _parse(path: str) -> _Target:
    parts = [unquote(part) for part in path.strip("/").split("/")]
    group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
    namespace = None
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    name, subresource, *_ = [*rest[1:], None, None]
    return _Target(group, namespace, rest[0], name, subresource)


def _listed(wanted: _Target, params: Mapping[str, str], target: _Target, obj: Object) -> bool:
    return (
        (target.group, target.resource) == (wanted.group, wanted.resource)
        and wanted.namespace in (None, target.namespace)
        and all(_field(obj, k) == v for k, v in _pairs(params.get("fieldSelector")))
        and all(
            (obj["metadata"].get("labels") or {}).get(k) == v for k, v in _pairs(params.get("labelSelector"))
        )
    )


def _pairs(selector: str | None) -> list[tuple[str, str]]:
    return [(k, v) for k, _, v in (term.partition("=") for term in (selector or "").split(",")) if k]


def _field(obj: Object, path: str) -> Any:
    value: Any = obj
    for part in path.split("."):
        value = (value or {}).get(part)
    return value


def _merged(old: Any, patch: Any) -> Any:
    """RFC 7386; of strategic merge patches only the marker that a list is replaced."""
    if isinstance(patch, list):
        return [item for item in patch if item != {"$patch": "replace"}]
    if not isinstance(patch, dict):
        return patch
    merged = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged
