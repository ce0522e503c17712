"""Handlers of what is the same for every cell of the node."""

from __future__ import annotations

from aiohttp import web

from kip.cellapi.call import Call, json_bytes
from kip.cellapi.feed import Feed, Visible, everything, services_for
from kip.cellapi.listing import list_options
from kip.cellapi.watching import watching


async def services(call: Call) -> web.StreamResponse:
    namespace = call.session.identity.namespace
    selector = call.target.query.get("fieldSelector", "")
    # Services that have a cluster IP: the only selector that a kubelet uses, see checks.services_selector.
    visible = services_for(namespace, headless=not selector)
    return await _serve(call, call.session.shared.services, f"{namespace}?{selector}", visible)


async def csidrivers(call: Call) -> web.StreamResponse:
    return await _serve(call, call.session.shared.csidrivers, "", everything)


async def runtimeclasses(call: Call) -> web.StreamResponse:
    return await _serve(call, call.session.shared.runtimeclasses, "", everything)


async def _serve(call: Call, feed: Feed, view: str, visible: Visible) -> web.StreamResponse:
    options = list_options(call.target.query)
    if not options.watch:
        return json_bytes(feed.list(options, view, visible))
    async with watching(call, options) as stream:
        await feed.watch(options, visible, stream)
        return stream.response
