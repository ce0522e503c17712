"""Handlers of lists that are empty for every cell, truly and for as long as it lives.

A kubelet that gets an error instead goes on asking, and each of its attempts is another refusal.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from kip.cellapi.call import Call, json_object
from kip.cellapi.listing import bookmark_line, list_options
from kip.cellapi.watching import watching


async def pod_certificate_requests(call: Call) -> web.StreamResponse:
    """A kubelet would make them for its pod, but a pod that wants such certificates gets no cell
    (kip.pods.eligibility)."""
    return await _nothing(call, f"certificates.k8s.io/{call.names['version']}", "PodCertificateRequest")


async def _nothing(call: Call, api_version: str, kind: str) -> web.StreamResponse:
    options = list_options(call.target.query)
    version = call.session.shared.versions.next()
    if not options.watch:
        metadata = {"resourceVersion": version}
        return json_object(
            {"kind": f"{kind}List", "apiVersion": api_version, "metadata": metadata, "items": []}
        )
    async with watching(call, options) as stream:
        await stream.open()
        if options.send_initial_events:
            await stream.send(bookmark_line(api_version, kind, version, initial_events_end=True))
        await asyncio.sleep(stream.remaining_s)
        return stream.response
