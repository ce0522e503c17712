from __future__ import annotations

import asyncio
from typing import Any

from kip.kube.errors import Unavailable
from kip.kubelet.clientca import ClientCa

PATH = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"


async def test_follows_the_cluster_and_keeps_the_last_one_known(api: Any, clock: Any) -> None:
    ca = ClientCa(api, clock)
    await ca.load()
    assert ca.pem is None
    api.on("GET", PATH, {"data": {"client-ca-file": "one"}})
    await ca.load()
    assert ca.pem == b"one"
    api.on("GET", PATH, {"data": {"client-ca-file": "two"}})
    await ca.load()
    assert ca.pem == b"two"
    for trouble in ({"data": {}}, {}):
        api.on("GET", PATH, trouble)
        await ca.load()
    api.down = Unavailable("away")
    await ca.load()
    assert ca.pem == b"two"


async def test_reads_again_every_minute(api: Any, clock: Any) -> None:
    loaded = asyncio.Event()

    def answer(_call: Any) -> Any:
        if len(api.calls) == 3:
            loaded.set()
        return {"data": {"client-ca-file": f"ca {len(api.calls)}"}}

    api.on("GET", PATH, answer)
    ca = ClientCa(api, clock)
    task = asyncio.create_task(ca.keep_loaded())
    await asyncio.wait_for(loaded.wait(), 5)
    task.cancel()
    assert clock.slept[:3] == [60, 60, 60]
    assert ca.pem is not None
    assert ca.pem.startswith(b"ca ")
