"""What can be reached from here."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

from kip.cloud.securitygroup import SSH
from kip.config import Settings
from kip.doctor.facts import Connection, Facts, Unanswered

NFS = 2049


async def look_at_reach(facts: Facts, *, timeout_s: float) -> Facts:
    """The facts with attempts to reach a cell and the image cache, which say something only where Kip is."""
    if not facts.in_cluster:
        return facts
    facts = replace(facts, own_address=str(facts.settings.kubelet.node_ip or ""))
    cache = image_cache_host(facts.settings)
    if cache:
        facts = replace(facts, image_cache=await connect(cache, NFS, timeout_s))
    if isinstance(facts.cells, Unanswered):
        return facts
    cell = next((c for c in facts.cells if c.state == "running" and c.private_ip), None)
    if cell is None or cell.private_ip is None:
        return replace(facts, ssh=None)
    found = await connect(cell.private_ip, SSH, timeout_s)
    return replace(facts, ssh=replace(found, target=f"{cell.id} ({found.target})"))


def image_cache_host(settings: Settings) -> str:
    """The server of the image cache's file system, whose endpoint is `host:/path`; empty without one."""
    return (settings.cells.image_cache.endpoint or "").partition(":/")[0].strip("[]")


async def connect(host: str, port: int, timeout_s: float) -> Connection:
    """Open a connection and close it."""
    target = f"{host}:{port}"
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return Connection(target, f"no answer within {timeout_s:g} s")
    except OSError as error:
        # asyncio puts a text of its own, with the address, in the place of the system's words.
        code = error.errno or 0
        return Connection(target, os.strerror(code) if code > 0 else error.strerror or str(error))
    writer.close()
    return Connection(target)
