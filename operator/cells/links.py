"""The live side of a cell: its SSH connection, and over it the API that its kubelet sees.

Nothing here is the only copy of anything: after a restart every link is dialled again. Two orders matter:

* First contact: the kubelet is let in at once and told, truthfully, that it has no pod yet; so its start overlaps with
  the exchange of keys. The pod is shown only when the cell's own host key has been written to the Cell and is in use.
* Again, once the pod may have been shown: everything is prepared first, the pod included, and only then the kubelet is
  let in. A kubelet that is shown an empty list after it has run a pod kills its containers within seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from kip.cells.link import Link, OpenSession, Session, Tunnel, Tunnels
from kip.cells.services import ServiceRules
from kip.model.background import Background
from kip.model.backoff import Backoff
from kip.model.cell import SERVING, Cell
from kip.model.clock import Clock

log = structlog.get_logger(__name__)

# Between a link's loss and the next attempt, doubled each time; dialling itself is repeated much faster (kip.tunnel).
_RETRY = Backoff(first_s=0.2, limit_s=10.0)
# A connection that breaks off sooner counts as another failure: a cell that flaps is not dialled five times a second.
_STEADY_S = 10.0


class Links:
    """At most one link for each cell."""

    def __init__(
        self,
        tunnels: Tunnels,
        open_session: OpenSession,
        clock: Clock,
        *,
        socket_dir: Path,
        first_contact_key: str,
        rules: ServiceRules,
        changed: Callable[[str], None],
    ) -> None:
        """`changed(pod_uid)` is called whenever a link reaches another state; `first_contact_key` is the public key
        that every cell has until its own is in use."""
        self._tunnels = tunnels
        self._open_session = open_session
        self._clock = clock
        self._socket_dir = socket_dir
        self._first_contact_key = first_contact_key
        self._rules = rules
        self._changed = changed
        self._links: dict[str, Link] = {}
        self._pushes = Background()
        self._closed = False

    def get(self, cell_name: str) -> Link | None:
        return self._links.get(cell_name)

    def all(self) -> list[Link]:
        return list(self._links.values())

    def ensure(self, cell: Cell, pod: Mapping[str, Any]) -> Link:
        """The cell's link; one that is missing or lost (a little while ago) is dialled again in the background.

        Raises RuntimeError after `close`.
        """
        if self._closed:
            raise RuntimeError(f"{cell.name} is not dialled: all links are closed")
        now = self._clock.monotonic()
        link = self._links.get(cell.name)
        fresh = Link(cell, since=now)
        if link is not None and link.instance_id == cell.instance_id:
            if link.state != "lost" or now < link.retry_at:
                return link
            fresh.since, fresh.failures, fresh.error = link.since, link.failures, link.error
        fresh.task = asyncio.create_task(self._live(fresh, cell, pod, link), name=f"link {cell.name}")
        self._links[cell.name] = fresh
        return fresh

    def trouble(self, link: Link) -> str:
        """Why there is no connection, for people."""
        return self._tunnels.trouble(link.cell_name) or link.error or "no answer yet"

    async def show_pod(self, link: Link) -> bool:
        """After the cell's host key has been recorded: put it to use, and let the kubelet see its pod.

        False if the connection was lost before or by that; the next one does both before it lets the kubelet in.
        """
        tunnel, session = link.tunnel, link.session
        if tunnel is None or session is None or link.state != "contacted":
            return False
        try:
            await tunnel.activate_host_key()
        except Exception as error:
            link.error = f"its host key is not in use: {type(error).__name__}: {error}"
            log.warning("cell not connected", cell=link.cell_name, error=link.error)
            await self._tunnels.drop(link.cell_name)
            return False
        if link.session is not session:
            return False
        session.show_pod()
        link.state = "up"
        log.info("pod shown", cell=link.cell_name)
        return True

    async def drop(self, cell_name: str) -> None:
        """Close everything of this cell; its kubelet sees no API any more."""
        link = self._links.pop(cell_name, None)
        if link is None:
            return
        if link.task is not None:
            link.task.cancel()  # before the connection goes, or it would be dialled again
        await self._tunnels.drop(cell_name)
        await _cancel(link.task)

    async def push_services(self) -> None:
        """Begin to bring the newest service rules to every connected cell; one that fails gets them when redialled.

        Waits for none of them: a cell that does not answer must not keep news from the others.
        """
        for link in self.all():
            # One that is being supplied looks for news when that is done.
            if link.tunnel is not None and not link.supplying.locked():
                self._pushes.start(self._push(link, link.tunnel), name=f"services {link.cell_name}")

    async def _push(self, link: Link, tunnel: Tunnel) -> None:
        try:
            await self._supply(link, tunnel)
        except Exception as error:
            if not link.is_connected:
                return  # the cell went meanwhile
            log.warning("services not brought to a cell", cell=link.cell_name, error=str(error))
            await self._tunnels.drop(link.cell_name)

    async def close(self) -> None:
        """Close all of them, for good; pods go on running."""
        self._closed = True
        self._pushes.cancel()
        outcomes = await asyncio.gather(
            *(self.drop(name) for name in list(self._links)), return_exceptions=True
        )
        for error in outcomes:
            if isinstance(error, Exception):
                log.error("link not closed", exc_info=error)

    async def _live(self, link: Link, cell: Cell, pod: Mapping[str, Any], before: Link | None) -> None:
        """One link's life: connect, then wait for its end."""
        try:
            if before is not None:
                await _cancel(before.task)
            await self._connect(link, cell, pod)
            if link.tunnel is not None:
                self._changed(link.pod_uid)
                await self._watch(link)
            link.error = link.error or "the connection was lost"
        except asyncio.CancelledError:
            raise
        except Exception as error:
            link.error = f"{type(error).__name__}: {error}"
            log.warning("cell not connected", cell=link.cell_name, error=link.error)
            with suppress(Exception):
                await self._tunnels.drop(link.cell_name)
        finally:
            await self._close_session(link)
            now = self._clock.monotonic()
            if link.connected_at is not None:
                link.since = now
                if now - link.connected_at >= _STEADY_S:
                    link.failures = 0
            link.retry_at = now + _RETRY.delay_s(link.failures)
            link.failures += 1
            link.state = "lost"
            self._changed(link.pod_uid)

    async def _connect(self, link: Link, cell: Cell, pod: Mapping[str, Any]) -> None:
        tunnel = await self._tunnels.dial(cell.name, cell.address or "", self._accepted_keys(cell))
        link.reached_at = self._clock.now()
        log.info("cell reachable", cell=link.cell_name, instance=link.instance_id, address=cell.address)
        contact = await tunnel.first_contact()
        session = link.session = await self._open_session(cell, pod, contact.token)
        link.kubelet_socket = self._socket_dir / f"{cell.name}.kubelet"
        prepared = (self._supply(link, tunnel), tunnel.forward_kubelet(link.kubelet_socket))
        if cell.pod_may_run:
            await asyncio.gather(tunnel.activate_host_key(), *prepared)
            session.show_pod()
            await tunnel.forward_api(session.socket_path)
            link.state = "up"
        else:
            await asyncio.gather(tunnel.forward_api(session.socket_path), *prepared)
            link.host_key = contact.host_key
            link.state = "contacted"
        link.tunnel, link.error = tunnel, ""
        link.connected_at = self._clock.monotonic()
        log.info("cell connected", cell=link.cell_name, again=cell.pod_may_run)
        # What was published while the first rules were on their way did not meet a link with a tunnel.
        await self._supply(link, tunnel)

    async def _watch(self, link: Link) -> None:
        """Until the connection ends; meanwhile say what is new of the kubelet."""
        tunnel, session = link.tunnel, link.session
        if tunnel is None or session is None:
            return
        closed = asyncio.create_task(tunnel.wait_closed())
        news = asyncio.create_task(self._tell_news(link, session))
        try:
            await asyncio.wait((closed, news), return_when=asyncio.FIRST_COMPLETED)
            if not closed.done():
                await news
                await closed
        finally:
            closed.cancel()
            news.cancel()

    async def _tell_news(self, link: Link, session: Session) -> None:
        """When the kubelet first asks, and, until it is shown its pod, what it reports of its machine: the pod may wait
        for that."""
        await session.wait_first_request()
        log.info("kubelet asked", cell=link.cell_name)
        self._changed(link.pod_uid)
        while link.state == "contacted":
            await session.wait_node_news()
            if link.state == "contacted":
                self._changed(link.pod_uid)

    async def _supply(self, link: Link, tunnel: Tunnel) -> None:
        """Give the cell the newest rules, one after the other: a change counts only on top of the version before it."""
        async with link.supplying:
            while (supply := self._rules.supply(link.rules_version)) is not None:
                await tunnel.push_services(supply)
                link.rules_version = supply.version

    def _accepted_keys(self, cell: Cell) -> tuple[str, ...]:
        """The host keys that this cell may show.

        The first contact's key is the same for a whole batch and can be read by the pod through the instance metadata: it
        counts only until the pod has been served, for a process that died between recording the cell's key and using it.
        """
        if cell.host_key is None:
            return (self._first_contact_key,)
        if cell.conditions.is_true(SERVING):
            return (cell.host_key,)
        return (cell.host_key, self._first_contact_key)

    async def _close_session(self, link: Link) -> None:
        session, link.session, link.tunnel = link.session, None, None
        if link.volume_task is not None:
            link.volume_task.cancel()
        link.kubelet_socket = None
        if session is not None:
            with suppress(Exception):
                await session.close()


async def _cancel(task: asyncio.Task[None] | None) -> None:
    if task is not None and not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
