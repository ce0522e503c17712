"""One resource for all cells: listed and watched once upstream, encoded once, told to every kubelet.

What a cell is shown of it is a view: all objects, or those of its pod's namespace.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from kip.cellapi.listing import ListOptions, WatchStream, bookmark_line, event_line
from kip.cellapi.ports import Informer, Object
from kip.cellapi.problem import expired, unavailable, version_too_large
from kip.cellapi.versions import Signal

#: Whether a cell is shown an object.
Visible = Callable[[Mapping[str, Any]], bool]

# Events kept for watches that resume. A kubelet whose last event is older lists again.
_HISTORY = 512


@dataclass(frozen=True, slots=True)
class _Entry:
    position: int
    """No list made at this resourceVersion or a later one lacks the change."""
    object: Object
    line: bytes


class Feed:
    """Serves list and watch of one resource from an informer.

    What its counters promise, whatever happens between two steps:

    - The history is the entries `_told - len(_history)` … `_told - 1`, in the order of telling; a watch remembers the
      number of the next entry it wants, never an index, because old entries go at the other end.
    - `_position` never falls, and an entry's position is at least its object's resourceVersion: so a list made at a
      version `v` has every change with a position up to `v`, and a watch from `v` needs those above, no other.
    - `_from` is the lowest `v` for which the history has all of those; it only rises, when an entry is dropped.
    - The informer may be further than the history by what is still in its queue, never less far: at worst a watch
      that begins in between is told what its list had already, which does a kubelet no harm.
    """

    def __init__(self, informer: Informer, *, api_version: str, kind: str) -> None:
        self._informer = informer
        self._api_version = api_version
        self._kind = kind
        self._history: deque[_Entry] = deque(maxlen=_HISTORY)
        self._told = 0
        """How many entries there have ever been: the number of the next one."""
        self._from: int | None = None
        """The history is complete for watches that begin at this resourceVersion or later."""
        self._position = 0
        self._changed = Signal()
        self._lists: dict[str, bytes] = {}
        self._lists_at = ""
        self._running = False

    @property
    def synced(self) -> bool:
        """There is something to tell, and `run` sees to it that changes are told."""
        return self._informer.synced and self._running

    async def run(self) -> None:
        """Follow the informer, for ever. Nothing before this call is in the history."""
        with self._informer.subscribe() as queue:
            self._running = True
            try:
                while True:
                    self._append(*await queue.get())
            finally:
                self._running = False

    def _append(self, event: str, obj: Object) -> None:
        metadata = obj["metadata"]
        if event == "DELETED":
            # What a new list of the informer lacked is told in its last known version, which can be older than lists
            # that still had it. The informer may be further than this event by now, but never less far: at worst a
            # watch that begins in between is told a deletion that its list knew of.
            metadata = {**metadata, "resourceVersion": self._informer.resource_version}
        position = max(self._position, int(metadata["resourceVersion"]))
        self._position = position
        obj = {**obj, "kind": self._kind, "apiVersion": self._api_version, "metadata": metadata}
        if len(self._history) == _HISTORY:
            self._from = max(self._from or 0, self._history[0].position)
        self._history.append(_Entry(position, obj, event_line(event, msgspec.json.encode(obj))))
        self._told += 1
        self._changed.fire()

    def _ready(self, options: ListOptions) -> None:
        if not self.synced:
            raise unavailable(f"the list of {self._kind} is not known yet")
        if self._from is None:
            self._from = int(self._informer.resource_version)
        if not options.watch or options.send_initial_events:
            known = self._informer.resource_version
            if (options.resource_version or 0) > int(known):
                raise version_too_large(
                    f"Too large resource version: {options.resource_version}, current: {known}"
                )

    def list(self, options: ListOptions, view: str, visible: Visible) -> bytes:
        """The list as JSON; the same bytes for every cell with the same `view`. Raises Problem (503, 504)."""
        self._ready(options)
        version = self._informer.resource_version
        if version != self._lists_at:
            self._lists.clear()
            self._lists_at = version
        if view not in self._lists:
            self._lists[view] = msgspec.json.encode(
                {
                    "kind": f"{self._kind}List",
                    "apiVersion": self._api_version,
                    "metadata": {"resourceVersion": version},
                    "items": [obj for obj in self._informer.items() if visible(obj)],
                }
            )
        return self._lists[view]

    async def watch(self, options: ListOptions, visible: Visible, stream: WatchStream) -> None:
        """Answer a watch. Raises Problem (410, 503, 504) before the stream is opened, never after."""
        self._ready(options)
        version = self._informer.resource_version
        wanted, initial = options.resource_version or 0, []
        if options.send_initial_events or not wanted:
            initial = [obj for obj in self._informer.items() if visible(obj)]
            wanted = int(version)
        elif wanted > int(version) or wanted < (self._from or 0):
            raise expired(f"resourceVersion {wanted} is unknown here: list again")
        following = self._told - len(self._history)
        await stream.open()
        for obj in initial:
            await stream.send(event_line("ADDED", self._encode(obj)))
        if options.send_initial_events:
            await stream.send(bookmark_line(self._api_version, self._kind, version, initial_events_end=True))
        await self._follow(following, wanted, visible, stream, bookmarks=options.allow_bookmarks)

    async def _follow(
        self, following: int, after: int, visible: Visible, stream: WatchStream, *, bookmarks: bool
    ) -> None:
        """Send every entry from number `following` on that is newer than resourceVersion `after`."""
        sent_up_to = after
        while stream.remaining_s > 0:
            if following < self._told - len(self._history):
                await stream.fail(expired("the watch fell too far behind: list again"))
                return
            if following == self._told:
                await self._changed.wait(stream.remaining_s)
                continue
            entry = self._history[following - self._told]
            following += 1
            if entry.position > after and visible(entry.object):
                await stream.send(entry.line)
            sent_up_to = max(sent_up_to, entry.position)
        # Without it a kubelet in a quiet namespace would come back with an old resourceVersion and have to list.
        if bookmarks:
            version = str(sent_up_to)
            await stream.send(bookmark_line(self._api_version, self._kind, version, initial_events_end=False))

    def _encode(self, obj: Object) -> bytes:
        return msgspec.json.encode({**obj, "kind": self._kind, "apiVersion": self._api_version})


def everything(_: Mapping[str, Any]) -> bool:
    return True


def services_for(namespace: str, *, headless: bool) -> Visible:
    """What a kubelet needs of the Services: those of its pod's namespace, and `kubernetes` in `default`, whose
    addresses it writes into the containers' environment (`kubelet_pods.go`, getServiceEnvVarMap)."""

    def visible(service: Mapping[str, Any]) -> bool:
        metadata = service["metadata"]
        if not headless and service.get("spec", {}).get("clusterIP") == "None":
            return False
        return (metadata["namespace"], metadata["name"]) == ("default", "kubernetes") or bool(
            metadata["namespace"] == namespace
        )

    return visible


async def run_all(feeds: list[Feed]) -> None:
    """Follow all of them; ends only by being cancelled."""
    async with asyncio.TaskGroup() as group:
        for feed in feeds:
            group.create_task(feed.run())
