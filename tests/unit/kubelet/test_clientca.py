from __future__ import annotations

import asyncio
from typing import Any

from kip.kube.errors import Unavailable
from kip.kubelet import pki
from kip.kubelet.clientca import ClientCa

PATH = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"


async def test_follows_the_cluster_and_keeps_the_last_one_known(api: Any, clock: Any) -> None:
    one, two = (pki.new_authority(clock).certificate for _ in range(2))
    ca = ClientCa(api, clock)
    await ca.load()
    assert ca.pem is None
    for bundle in (one, one + two):
        api.on("GET", PATH, {"data": {"client-ca-file": bundle.decode()}})
        await ca.load()
        assert ca.pem == bundle
    for trouble in ({"data": {}}, {}, {"data": {"client-ca-file": "no certificate"}}):
        api.on("GET", PATH, trouble)
        await ca.load()
    api.down = Unavailable("away")
    await ca.load()
    assert ca.pem == one + two


async def test_reads_again_every_minute(api: Any, clock: Any) -> None:
    ca = ClientCa(api, clock)
    task = asyncio.create_task(ca.keep_loaded())
    async with asyncio.timeout(5):
        while len(api.calls) < 3:
            await asyncio.sleep(0)
    task.cancel()
    assert clock.slept[:3] == [60, 60, 60]
