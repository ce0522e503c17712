"""Handlers of the cell's pod."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from kip.cellapi import pullsecret
from kip.cellapi.call import Call, json_bytes, passed
from kip.cellapi.listing import ListOptions, WatchStream, event_line, list_options
from kip.cellapi.podview import Empty, Listed, Missing, Unknown, view
from kip.cellapi.ports import Event
from kip.cellapi.problem import (
    Problem,
    conflict,
    expired,
    forbidden,
    invalid,
    not_found,
    unavailable,
    version_too_large,
)
from kip.cellapi.session import CellSession
from kip.cellapi.watching import watching


class _Metadata(msgspec.Struct):
    uid: str = ""
    deletionTimestamp: str | None = None  # noqa: N815 - the API's spelling


class _Head(msgspec.Struct):
    """As much of a pod as is looked at here; the rest is passed on as it came."""

    metadata: _Metadata


async def list_or_watch(call: Call) -> web.StreamResponse:
    """The list of the one pod: see kip.cellapi.podview for when there is none."""
    options = list_options(call.target.query)
    if options.send_initial_events:
        # A kubelet (from 1.35 on) asks for a list instead, at once, and a list is easier to be right about.
        raise invalid("sendInitialEvents is not served for pods: list and watch")
    return await _watch(call, options) if options.watch else await _list(call, options)


async def _list(call: Call, options: ListOptions) -> web.StreamResponse:
    session = call.session
    store = session.shared.pods
    version = store.resource_version
    if store.synced and (options.resource_version or 0) > int(version):
        raise version_too_large(f"Too large resource version: {options.resource_version}, current: {version}")
    pod = await _pod_to_list(session)
    session.pods_listed = True
    session.pod_told = pod is not None
    items = b"" if pod is None else _encode(session, pod)
    return json_bytes(
        b'{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"%s"},"items":[%s]}'
        % (store.resource_version.encode(), items)
    )


async def _pod_to_list(session: CellSession) -> Mapping[str, Any] | None:
    """The pod to list, None for a true empty list. Raises Problem (503) when neither is certain."""
    match _view(session):
        case Listed(pod):
            return pod
        case Empty():
            return None
        case Unknown(why):
            raise unavailable(why)
        case Missing():
            await _confirm_gone(session)
    # Asking took time, in which the pod may have arrived.
    return session.pod()


def _view(session: CellSession) -> Listed | Empty | Unknown | Missing:
    store = session.shared.pods
    return view(synced=store.synced, shown=session.pod_shown, pod=store.get(session.identity.pod_uid))


async def _confirm_gone(session: CellSession) -> None:
    """Raise Problem (503) unless the API server says that the pod is not there: our own knowledge may lag behind,
    and an empty list would stop the pod's containers."""
    try:
        current = await _current(session)
    except Problem as problem:
        if problem.code != 404:
            raise unavailable(f"whether the pod exists is not known: {problem.message}") from problem
        return
    raise unavailable(f"pod {current.metadata.uid} exists, but is not among the known ones yet")


async def _current(session: CellSession) -> _Head:
    """The cell's pod, read from the API server. Raises Problem: 404 if it is gone or another one by now, 503, …

    By the operator's own rights: to a node, the Node authorizer says 403 of a pod that is gone.
    """
    identity = session.identity
    path = f"/api/v1/namespaces/{identity.namespace}/pods/{identity.pod_name}"
    reply = await session.shared.upstream.get(None, path)
    return _same_pod(session, reply.body)


def _same_pod(session: CellSession, body: bytes) -> _Head:
    head = msgspec.json.decode(body, type=_Head)
    if head.metadata.uid != session.identity.pod_uid:
        # A StatefulSet's pod has had a successor of the same name, which is another cell's affair.
        raise not_found(f"pod {session.identity.pod} with UID {session.identity.pod_uid} is gone")
    return head


async def _watch(call: Call, options: ListOptions) -> web.StreamResponse:
    session = call.session
    store = session.shared.pods
    if not store.synced:
        raise unavailable("the pods of the node are not known yet")
    if options.resource_version and not session.pods_listed:
        # It continues a list that another process gave out, or this one for an earlier session: should that list
        # have been wrong, a watch would never put it right.
        raise expired("this resourceVersion was not given out here: list again")
    if session.pod_told and store.get(session.identity.pod_uid) is None:
        raise expired("the pod went away between two watches: list again")
    async with watching(call, options) as stream:
        with store.subscribe(session.identity.pod_uid) as changes:
            await stream.open()
            if await _wait_shown(session, stream):
                await _follow(session, stream, changes)
        return stream.response


async def _wait_shown(session: CellSession, stream: WatchStream) -> bool:
    while not session.pod_shown and stream.remaining_s > 0:
        await session.shown.wait(stream.remaining_s)
    return session.pod_shown


async def _follow(session: CellSession, stream: WatchStream, changes: asyncio.Queue[Event]) -> None:
    """Tell the pod as it is, and then every change.

    The resourceVersion that the kubelet comes with does not say whether it has the pod: an event can have been lost
    with the tunnel, and the version of a list that was empty can be the pod's own. It takes no harm from an event
    that tells it nothing new.

    What was told last is this watch's own: a kubelet that has lost one without our knowledge opens another, and an
    event for the former must not be taken from the latter.
    """
    told = 0
    pod = session.pod()
    if pod is not None:
        await _tell(session, stream, pod)
        told = _version(pod)
    while stream.remaining_s > 0:
        try:
            kind, changed = await asyncio.wait_for(changes.get(), stream.remaining_s)
        except TimeoutError:
            return
        if kind == "DELETED":
            await stream.send(event_line(kind, _encode(session, changed)))
        elif _version(changed) > told:
            await _tell(session, stream, changed)
            told = _version(changed)


async def _tell(session: CellSession, stream: WatchStream, pod: Mapping[str, Any]) -> None:
    kind = "MODIFIED" if session.pod_told else "ADDED"
    session.pod_told = True
    await stream.send(event_line(kind, _encode(session, pod)))


def _version(pod: Mapping[str, Any]) -> int:
    return int(pod["metadata"]["resourceVersion"])


def _encode(session: CellSession, pod: Mapping[str, Any]) -> bytes:
    # Objects of a list come without kind and apiVersion, and an event cannot be read without them. Nothing else is
    # changed but for one more pull secret, nothing of the status above all: the kubelet would patch every difference
    # back, every 10 s.
    return msgspec.json.encode({"kind": "Pod", "apiVersion": "v1", **pullsecret.shown(session, pod)})


async def get(call: Call) -> web.StreamResponse:
    """The pod as the API server has it: the kubelet computes its status patch from it."""
    session = call.session
    reply = await session.shared.upstream.send(
        session.identity.node_name, "GET", call.target.path, params=call.parameters("resourceVersion")
    )
    if reply.status == 200:
        _same_pod(session, reply.body)
    elif reply.status == 403:
        # A kubelet wants to hear 404 of a pod that is gone.
        await _current(session)
    return passed(reply)


async def delete(call: Call) -> web.StreamResponse:
    """The kubelet's last word on a pod that somebody deleted. With a body of our own: what a cell may ask is this
    one thing, not everything that DeleteOptions can say."""
    session = call.session
    current = await _current(session)
    if current.metadata.deletionTimestamp is None:
        raise forbidden("a kubelet only finishes the deletion of a pod; nobody has deleted this one")
    options = {
        "kind": "DeleteOptions",
        "apiVersion": "v1",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": session.identity.pod_uid},
    }
    reply = await session.shared.upstream.send(
        session.identity.node_name,
        "DELETE",
        call.target.path,
        body=msgspec.json.encode(options),
        content_type="application/json",
    )
    if reply.status == 409:
        raise conflict("the pod was replaced by another of its name")
    return passed(reply)
