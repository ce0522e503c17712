"""kip.tunnel as the cells' links want it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from kip.cells.link import Contact
from kip.cells.services import Supply
from kip.tunnel import join, volume
from kip.tunnel.connection import Tunnel
from kip.tunnel.errors import Unreachable
from kip.tunnel.pool import DialOptions, TunnelPool

# How often somebody who waits for a cell is told what the last attempt met.
_TELL_S = 2.0
# A question costs one metered operation of EFS (4 KB, $0.03 a GB): a thousand cells' are 35 cents a day.
_LOOK_AT_VOLUME_S = 30.0


class CellTunnel:
    """One open connection."""

    def __init__(self, tunnel: Tunnel, *, verity: bool) -> None:
        self._tunnel = tunnel
        self._verity = verity

    async def first_contact(self) -> Contact:
        secrets = await join.first_contact(self._tunnel)
        return Contact(token=secrets.token, host_key=secrets.next_host_key)

    async def activate_host_key(self) -> None:
        await join.activate_host_key(self._tunnel)

    async def push_services(self, supply: Supply) -> None:
        await join.push_services(self._tunnel, supply.text, supply.stale_flows)

    async def forward_api(self, socket: Path) -> None:
        await self._tunnel.forward_api(socket)

    async def forward_kubelet(self, socket: Path) -> None:
        await self._tunnel.forward_kubelet(socket)

    async def look_at_volume(self, paths: Sequence[str], *, timeout_s: float) -> bytes:
        return await volume.look(self._tunnel, paths, timeout_s=timeout_s)

    async def mount_layers(self, orders: bytes, *, timeout_s: float) -> str:
        return await volume.seed(self._tunnel, orders, timeout_s=timeout_s, verity=self._verity)

    def watch_volume(self) -> AsyncIterator[bool]:
        return volume.watch(self._tunnel, every_s=_LOOK_AT_VOLUME_S)

    async def wait_closed(self) -> None:
        await self._tunnel.wait_closed()


class SshTunnels:
    """Dials cells over SSH with the operator's key."""

    def __init__(self, pool: TunnelPool, client_key: str, *, verity: bool = True) -> None:
        """`verity` is whether cells use dm-verity for layers of the image cache, where they can."""
        self._verity = verity
        self._pool = pool
        self._client_key = client_key
        self._trouble: dict[str, str] = {}

    async def dial(self, cell: str, address: str, host_keys: tuple[str, ...]) -> CellTunnel:
        options = DialOptions(address=address, client_key=self._client_key, host_keys=host_keys)
        while True:
            try:
                tunnel = await self._pool.ensure(cell, options, timeout_s=_TELL_S)
            except Unreachable as error:
                self._trouble[cell] = str(error)
            else:
                self._trouble.pop(cell, None)
                return CellTunnel(tunnel, verity=self._verity)

    async def drop(self, cell: str) -> None:
        self._trouble.pop(cell, None)
        await self._pool.drop(cell)

    def trouble(self, cell: str) -> str:
        return self._trouble.get(cell, "")
