"""Events: what `kubectl describe` tells people of a pod, a Cell or the Node."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

import structlog

from kip.kube.client import ApiClient
from kip.kube.errors import KubeError
from kip.kube.slots import patiently
from kip.model.clock import Clock, to_rfc3339
from kip.model.tokens import TokenBucket

log = structlog.get_logger(__name__)

# client-go's recorder aggregates in a window of ten minutes; the same story is told at most once in that time.
_REPEAT_AFTER_S = 600.0
_REMEMBERED = 4096
# Limits of the API server for these two fields (core/v1 Event, validation).
_MESSAGE_LIMIT = 1024
_REASON_LIMIT = 128
# Of 253 characters, leaving room for what makes the event's name its own.
_NAME_LIMIT = 200


# Events wait behind everything that starts pods: few at a time, and what is too much is dropped, as by client-go's
# recorder (its queue has 1000 places too).
_AT_ONCE = 4
_WAITING = 2000


@dataclass(frozen=True)
class Limit:
    """So many at once, and after that so many a second."""

    burst: int
    per_second: float

    def bucket(self, clock: Clock) -> TokenBucket:
        """What is left of it, all at first."""
        return TokenBucket(self.per_second, self.burst, clock)


# client-go's limit for what one component tells of one object (EventSourceObjectSpamFilter).
PER_OBJECT = Limit(burst=25, per_second=1 / 300)


class EventRecorder:
    """Writes events; never fails its caller, never tells the same twice in ten minutes, nor too much of one object.

    While `run` runs, nor does it keep its caller waiting: a thousand pods at once have a thousand events each step.
    """

    def __init__(
        self, client: ApiClient, clock: Clock, *, component: str, host: str, limit: Limit | None = None
    ) -> None:
        """`limit` is for all objects together: for events that may be left out when there are many."""
        self._client = client
        self._all = limit.bucket(clock) if limit is not None else None
        self._of: OrderedDict[str, TokenBucket] = OrderedDict()
        self._clock = clock
        self._source = {"component": component, "host": host}
        self._told: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._queue: asyncio.Queue[dict[str, Any]] | None = None

    async def run(self) -> None:
        """Write what is told in the background, until cancelled."""
        queue = self._queue = asyncio.Queue(_WAITING)

        async def write() -> None:
            with patiently():
                while True:
                    await self._write(await queue.get())

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(_AT_ONCE):
                    group.create_task(write(), name="events")
        finally:
            self._queue = None

    async def tell(
        self,
        about: Mapping[str, Any],
        kind: Literal["Normal", "Warning"],
        reason: str,
        message: str,
    ) -> None:
        """Record an event about an object (its `kind` and `apiVersion` default to a Pod's)."""
        metadata = about["metadata"]
        reason = reason[:_REASON_LIMIT]
        message = message if len(message) <= _MESSAGE_LIMIT else message[: _MESSAGE_LIMIT - 1] + "…"
        if self._just_told(metadata["uid"], reason, message):
            return
        if not self._within_limits(metadata["uid"]):
            self._told.pop((metadata["uid"], reason, message), None)
            log.debug("event left out: too many", reason=reason, object=metadata["name"])
            return
        now = to_rfc3339(self._clock.now())
        namespace = metadata.get("namespace", "default")
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": _event_name(metadata["name"]), "namespace": namespace},
            "involvedObject": {
                "apiVersion": about.get("apiVersion", "v1"),
                "kind": about.get("kind", "Pod"),
                "name": metadata["name"],
                "namespace": metadata.get("namespace", ""),
                "uid": metadata["uid"],
            },
            "reason": reason,
            "message": message,
            "type": kind,
            "source": self._source,
            "reportingComponent": self._source["component"],
            "reportingInstance": self._source["host"],
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        if self._queue is None:
            await self._write(event)
            return
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self._not_told(event, f"{_WAITING} others wait")

    async def _write(self, event: dict[str, Any]) -> None:
        try:
            await self._client.create(f"/api/v1/namespaces/{event['metadata']['namespace']}/events", event)
        except KubeError as error:
            self._not_told(event, str(error))

    def _not_told(self, event: dict[str, Any], why: str) -> None:
        """It may be told again at once."""
        about = event["involvedObject"]
        self._told.pop((about["uid"], event["reason"], event["message"]), None)
        log.warning("event not recorded", reason=event["reason"], object=about["name"], error=why)

    def _within_limits(self, uid: str) -> bool:
        of_object = self._of.setdefault(uid, PER_OBJECT.bucket(self._clock))
        self._of.move_to_end(uid)
        if len(self._of) > _REMEMBERED:
            self._of.popitem(last=False)
        return of_object.take() and (self._all is None or self._all.take())

    def _just_told(self, uid: str, reason: str, message: str) -> bool:
        key, now = (uid, reason, message), self._clock.monotonic()
        last = self._told.get(key)
        if last is not None and now - last < _REPEAT_AFTER_S:
            return True
        self._told[key] = now
        self._told.move_to_end(key)
        while len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        return False


def _event_name(about: str) -> str:
    """A name of its own for each event, beginning like what it is about."""
    # A DNS subdomain: no part of it may end in a dash, nor be empty, and a cut can leave either.
    return f"{about[:_NAME_LIMIT].rstrip('-.')}.{uuid4().hex[:16]}"
