"""One cell's connection: what it consists of, and how far it has come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from kip.cells.services import Supply
from kip.model.cell import Cell
from kip.model.clock import Clock

State = Literal["dialling", "contacted", "up", "lost"]


@dataclass(frozen=True)
class Contact:
    """What a cell tells at the beginning of a connection."""

    token: str
    """The bearer token of its kubelet; readable by root on the cell only."""
    host_key: str | None
    """The public half of the host key that the cell made for itself, while it is not in use yet."""


class Tunnel(Protocol):
    """A connection to a cell (kip.tunnel)."""

    async def first_contact(self) -> Contact: ...
    async def activate_host_key(self) -> None: ...
    async def push_services(self, supply: Supply) -> None: ...
    async def forward_api(self, socket: Path) -> None: ...
    async def forward_kubelet(self, socket: Path) -> None: ...
    async def look_at_volume(self, paths: Sequence[str], *, timeout_s: float) -> bytes: ...
    async def mount_layers(self, orders: bytes, *, timeout_s: float) -> str: ...
    def watch_volume(self) -> AsyncIterator[bool]: ...
    async def wait_closed(self) -> None: ...


class Tunnels(Protocol):
    """Dials cells, again and again, until one answers or is dropped."""

    async def dial(self, cell: str, address: str, host_keys: tuple[str, ...]) -> Tunnel:
        """A connection to this cell, whatever time it takes; raises what no repetition can mend."""
        ...

    async def drop(self, cell: str) -> None:
        """Close the cell's connection and stop dialling it."""
        ...

    def trouble(self, cell: str) -> str:
        """Why the last attempt to dial this cell failed; empty if none did."""
        ...


class Session(Protocol):
    """One kubelet's view of the cluster (kip.cellapi)."""

    @property
    def socket_path(self) -> Path: ...
    @property
    def kubelet_asked(self) -> bool: ...
    @property
    def device_trouble(self) -> str: ...

    def offered(self, resource: str) -> int: ...
    async def wait_node_news(self) -> None: ...
    def show_pod(self) -> None: ...
    async def wait_first_request(self) -> None: ...
    async def close(self) -> None: ...


OpenSession = Callable[[Cell, Mapping[str, Any], str], Awaitable[Session]]
"""(cell, pod, token) -> the API for this cell's kubelet."""


class Link:
    """One cell's connection, from dialling to loss."""

    def __init__(self, cell: Cell, *, since: float) -> None:
        self.cell_name = cell.name
        self.pod_uid = cell.pod_uid
        self.instance_id = cell.instance_id
        self.state: State = "dialling"
        self.since = since
        self.host_key: str | None = None
        self.session: Session | None = None
        self.tunnel: Tunnel | None = None
        self.kubelet_socket: Path | None = None
        self.error: str = ""
        self.failures = 0
        self.retry_at = 0.0
        self.connected_at: float | None = None
        self.reached_at: datetime | None = None
        """When it first answered over SSH, by the wall clock."""
        self.rules_version: int | None = None
        self.seeded = False
        self.volume_task: asyncio.Task[None] | None = None
        self.supplying = asyncio.Lock()
        self.task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Link {self.cell_name} {self.state}{' ' + self.error if self.error else ''}>"

    def next_try_s(self, clock: Clock) -> float:
        """When to look again: the link itself says when its state changes, but a lost one must be asked for again."""
        if self.state != "lost":
            return 60.0
        return max(0.05, self.retry_at - clock.monotonic())

    @property
    def is_connected(self) -> bool:
        return self.tunnel is not None

    @property
    def kubelet_asked(self) -> bool:
        return self.session is not None and self.session.kubelet_asked

    def offered(self, resource: str) -> int:
        """How many of these devices the cell's kubelet has reported over this connection."""
        return 0 if self.session is None else self.session.offered(resource)

    @property
    def device_trouble(self) -> str:
        """What the kubelet warns of about its device plugin; empty if it does not."""
        return "" if self.session is None else self.session.device_trouble
