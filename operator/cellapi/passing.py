"""Handlers that pass a request on to the API server, once a check has let it through."""

from __future__ import annotations

from aiohttp import web

from kip.cellapi.call import Call, passed
from kip.cellapi.problem import forbidden
from kip.cellapi.volumes import claimed_volume


async def read(call: Call) -> web.StreamResponse:
    """An object by its name. `resourceVersion=0` (any will do) is what a kubelet refreshes its cache with."""
    reply = await call.session.shared.upstream.send(
        call.session.identity.node_name,
        "GET",
        call.target.path,
        params=call.parameters("resourceVersion"),
    )
    return passed(reply)


async def write(call: Call) -> web.StreamResponse:
    """The body with everything that the kubelet sent."""
    reply = await call.session.shared.upstream.send(
        call.session.identity.node_name,
        call.request.method,
        call.target.path,
        params=call.parameters("fieldManager", "fieldValidation"),
        body=call.encoded_body,
        content_type=call.content_type,
    )
    return passed(reply)


async def read_volume(call: Call) -> web.StreamResponse:
    """A PersistentVolume: only from the volume itself can be seen whose it is."""
    reply = await call.session.shared.upstream.send(
        call.session.identity.node_name, "GET", call.target.path, params=call.parameters("resourceVersion")
    )
    if reply.status == 200 and claimed_volume(reply.json(), call.session.references()) is None:
        raise forbidden("the volume is not bound to a claim of the cell's pod")
    return passed(reply)
