"""Handlers of events: those about the cell's pod are told, those about its machine are not.

Every kubelet tells of its Node's life: started, ready, rebooted. From some hundred cells under one Node's name that
would be noise about a machine that the cluster does not know; and the device plugin is a pod that it does not know. What
a kubelet warns of about that one is kept, for whoever waits for the devices.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import msgspec
from aiohttp import web

from kip.cellapi import passing
from kip.cellapi.call import Call, json_object, passed
from kip.cellapi.checks import about_own_pod
from kip.cellapi.problem import not_found
from kip.kube.client import Reply

_MAX_NAME = 253
_FAILED_PULL = "Failed to pull image "
_SUFFIX = re.compile(r"\.[0-9a-f]+$")


class _Metadata(msgspec.Struct):
    name: str = ""


class _Head(msgspec.Struct):
    metadata: _Metadata


async def create(call: Call) -> web.StreamResponse:
    """A check has seen to it that the event is about the cell's pod, its Node or its device plugin."""
    about: Mapping[str, Any] = call.body["involvedObject"]
    if not about_own_pod(call, about):
        if about["kind"] == "Pod" and call.body.get("type") == "Warning":
            call.session.note_device_trouble(f"{call.body.get('reason')}: {call.body.get('message')}")
        return _swallow(call)
    if _tells_of_failed_pull(call.body):
        call.session.note_failed_pull()
    reply = await _post(call, call.encoded_body)
    if reply.status == HTTPStatus.CONFLICT:
        # After a restart of the operator an update of an event is not recognised (see `update`), and the kubelet
        # creates it again, under the name that it already has upstream.
        renamed = {**call.body, "metadata": {**call.body["metadata"], "name": _fresh_name(call.body)}}
        reply = await _post(call, msgspec.json.encode(renamed))
    if reply.status in (HTTPStatus.OK, HTTPStatus.CREATED):
        call.session.events_passed.add(msgspec.json.decode(reply.body, type=_Head).metadata.name)
    return passed(reply)


async def update(call: Call) -> web.StreamResponse:
    """Another occurrence of an event. Which events are the cell's is known by having created them: any other name
    gets a 404, upon which a kubelet creates the event anew."""
    name = call.names["name"]
    if name in call.session.events_swallowed:
        body = {"kind": "Event", "apiVersion": "v1", **call.body}
        return json_object({**body, "metadata": _invented(call, name)})
    if name not in call.session.events_passed:
        raise not_found(f"event {name} is not one of this cell's")
    return await passing.write(call)


def _tells_of_failed_pull(event: Mapping[str, Any]) -> bool:
    """As kubelets word it (pkg/kubelet/images/image_manager.go, 1.33-1.37)."""
    message = event.get("message")
    return event.get("reason") == "Failed" and isinstance(message, str) and message.startswith(_FAILED_PULL)


async def _post(call: Call, body: bytes) -> Reply:
    return await call.session.shared.upstream.send(
        call.session.identity.node_name,
        "POST",
        call.target.path,
        params=call.parameters("fieldManager", "fieldValidation"),
        body=body,
        content_type="application/json",
    )


def _swallow(call: Call) -> web.StreamResponse:
    name = str(call.body["metadata"]["name"])[:_MAX_NAME]
    call.session.events_swallowed.add(name)
    return json_object({**call.body, "metadata": _invented(call, name)}, HTTPStatus.CREATED)


def _invented(call: Call, name: str) -> dict[str, Any]:
    """What a stored object would have: the kubelet's correlator wants to remember it."""
    return {
        "name": name,
        "namespace": call.names["namespace"],
        "uid": str(uuid4()),
        "resourceVersion": call.session.shared.versions.next(),
    }


def _fresh_name(event: Mapping[str, Any]) -> str:
    about = _SUFFIX.sub("", event["metadata"]["name"])
    return f"{about[: _MAX_NAME - 17]}.{uuid4().hex[:16]}"
