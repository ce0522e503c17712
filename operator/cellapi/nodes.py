"""Handlers of what is the cell's own: its Node, its Lease, its CSINode."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web

from kip.cellapi.call import Call, json_bytes, success
from kip.cellapi.listing import ListOptions, bookmark_line, event_line, list_options
from kip.cellapi.problem import already_exists, unavailable, unsupported_media_type, version_too_large
from kip.cellapi.shadow import ShadowNode
from kip.cellapi.watching import watching

_STRATEGIC = "application/strategic-merge-patch+json"


async def list_or_watch(call: Call) -> web.StreamResponse:
    """The list of the one Node."""
    options = list_options(call.target.query)
    shadow = call.session.shadow()
    if options.watch:
        return await _watch(call, options, shadow)
    _refuse_future(options, shadow)
    version = shadow.resource_version
    return json_bytes(
        b'{"kind":"NodeList","apiVersion":"v1","metadata":{"resourceVersion":"%s"},"items":[%s]}'
        % (version.encode(), shadow.encoded)
    )


async def _watch(call: Call, options: ListOptions, shadow: ShadowNode) -> web.StreamResponse:
    if options.send_initial_events:
        _refuse_future(options, shadow)
    wanted = str(options.resource_version or "")
    async with watching(call, options) as stream:
        await stream.open()
        sent = wanted
        if options.send_initial_events or not wanted:
            sent = shadow.resource_version
            await stream.send(event_line("ADDED", shadow.encoded))
        if options.send_initial_events:
            await stream.send(bookmark_line("v1", "Node", sent, initial_events_end=True))
        while stream.remaining_s > 0:
            # One object only: whatever version the kubelet knows, what it needs is the current one.
            if sent != shadow.resource_version:
                sent = shadow.resource_version
                await stream.send(event_line("MODIFIED", shadow.encoded))
                continue
            await shadow.changed.wait(stream.remaining_s)
        return stream.response


def _refuse_future(options: ListOptions, shadow: ShadowNode) -> None:
    if (options.resource_version or 0) > int(shadow.resource_version):
        raise version_too_large(
            f"Too large resource version: {options.resource_version}, current: {shadow.resource_version}"
        )


async def get(call: Call) -> web.StreamResponse:
    call.parameters("resourceVersion")
    return json_bytes(call.session.shadow().encoded)


async def refuse_creation(call: Call) -> web.StreamResponse:
    """What a kubelet that registers itself takes for an answer: it then reads the Node and goes on."""
    raise already_exists(f"Node {call.session.identity.node_name} is there already")


async def patch(call: Call) -> web.StreamResponse:
    """Merge what the kubelet reports into its Node, and answer the result: volumes wait for seeing themselves in it."""
    call.parameters("fieldManager", "fieldValidation")
    if call.content_type != _STRATEGIC:
        raise unsupported_media_type(f"a Node is patched by {_STRATEGIC}")
    return json_bytes(call.session.patch_node(call.body).encoded)


async def get_lease(call: Call) -> web.StreamResponse:
    call.parameters("resourceVersion")
    return json_bytes(call.session.lease.get())


async def create_lease(call: Call) -> web.StreamResponse:
    return json_bytes(call.session.lease.create(call.body), HTTPStatus.CREATED)


async def replace_lease(call: Call) -> web.StreamResponse:
    return json_bytes(call.session.lease.replace(call.body))


async def get_csinode(call: Call) -> web.StreamResponse:
    call.parameters("resourceVersion")
    return json_bytes(call.session.csinode.get())


async def create_csinode(call: Call) -> web.StreamResponse:
    return json_bytes(call.session.csinode.create(call.body), HTTPStatus.CREATED)


async def replace_csinode(call: Call) -> web.StreamResponse:
    return json_bytes(call.session.csinode.replace(call.body))


async def delete_csinode(call: Call) -> web.StreamResponse:
    call.session.csinode.delete()
    return success()


async def ready(call: Call) -> web.StreamResponse:
    """200 once everything a kubelet asks for at its start can be answered; a kubelet that starts earlier backs off
    for up to a minute per reflector."""
    if missing := call.session.shared.missing():
        raise unavailable(f"not known yet: {', '.join(missing)}")
    return web.Response(text="ok\n")
