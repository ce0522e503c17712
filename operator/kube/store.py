"""What is known of a set of objects, and who wants to hear of changes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

Object = dict[str, Any]
Event = tuple[str, Object]

# Of the objects that are gone. Old news of one comes within seconds, if at all.
_REMEMBERED = 10_000


class Store:
    """Objects by UID, with their latest resourceVersion, and queues that hear of every change.

    A subscriber never misses a change between looking and listening, because neither awaits.
    """

    def __init__(self) -> None:
        self.synced = False
        self.resource_version = "0"
        self._objects: dict[str, Object] = {}
        self._removed: dict[str, int] = {}
        self._listed = 0
        self._one: dict[str, set[asyncio.Queue[Event]]] = {}
        self._all: set[asyncio.Queue[Event]] = set()

    def get(self, uid: str) -> Object | None:
        return self._objects.get(uid)

    def items(self) -> list[Object]:
        return list(self._objects.values())

    def __len__(self) -> int:
        return len(self._objects)

    def find(self, namespace: str | None, name: str) -> Object | None:
        """The newest object of this name; a slow look through all of them, for rare questions.

        There are two while news of the first one's end is still on its way.
        """
        found = [
            obj
            for obj in self._objects.values()
            if obj["metadata"]["name"] == name and namespace in (None, obj["metadata"].get("namespace"))
        ]
        return max(found, key=_version, default=None)

    def put(self, obj: Object) -> bool:
        """Take this version unless a newer one is known; True if something changed.

        An object that was removed does not come back: UIDs are never used again, so this is old news on a slower way.
        """
        uid = obj["metadata"]["uid"]
        if uid in self._removed:
            return False
        known = self._objects.get(uid)
        if known is not None and _version(obj) <= _version(known):
            return False
        self._objects[uid] = obj
        self._advance(obj)
        self._tell(uid, "MODIFIED" if known is not None else "ADDED", obj)
        return True

    def remove(self, obj: Object) -> bool:
        """Forget the object, telling its last state; True if it was known."""
        uid = obj["metadata"]["uid"]
        known = self._objects.pop(uid, None)
        self._removed[uid] = max(_version(obj), int(self.resource_version))
        if len(self._removed) > _REMEMBERED:
            del self._removed[next(iter(self._removed))]
        self._advance(obj)
        if known is None:
            return False
        self._tell(uid, "DELETED", obj)
        return True

    def replace(self, items: list[Object], resource_version: str) -> None:
        """Make a whole list the truth: what is missing from it is gone, unless it is newer than the list."""
        listed = {obj["metadata"]["uid"]: obj for obj in items}
        for uid in [u for u in self._objects if u not in listed]:
            if _version(self._objects[uid]) <= int(resource_version):
                self.remove(self._objects[uid])
        for obj in items:
            self.put(obj)
        # No list from now on has what had gone before the list before this one.
        self._removed = {uid: v for uid, v in self._removed.items() if v > self._listed}
        self._listed = int(resource_version)
        self.bookmark(resource_version)
        self.synced = True

    def bookmark(self, resource_version: str) -> None:
        """Everything up to this resourceVersion has been seen."""
        if int(resource_version) > int(self.resource_version):
            self.resource_version = resource_version

    @contextmanager
    def subscribe(self, uid: str | None = None) -> Iterator[asyncio.Queue[Event]]:
        """A queue of (type, object) for every later change of one object, or of all."""
        queue: asyncio.Queue[Event] = asyncio.Queue()
        audience = self._all if uid is None else self._one.setdefault(uid, set())
        audience.add(queue)
        try:
            yield queue
        finally:
            audience.discard(queue)
            if uid is not None and not audience:
                self._one.pop(uid, None)

    def _advance(self, obj: Object) -> None:
        self.bookmark(obj["metadata"]["resourceVersion"])

    def _tell(self, uid: str, kind: str, obj: Object) -> None:
        for queue in (*self._one.get(uid, ()), *self._all):
            queue.put_nowait((kind, obj))


class PodStore(Store):
    """The pods bound to one virtual node."""


def _version(obj: Object) -> int:
    """resourceVersions of one resource are ordered integers (documented since Kubernetes 1.35, true for etcd always)."""
    return int(obj["metadata"]["resourceVersion"])
