"""Holding one of several names by a Lease, so that exactly one process acts under each.

The rules are client-go's leader election: a Lease is free when its holder gave it up, or when *this* process has
seen it unchanged for the Lease's duration on its own monotonic clock (clocks of two machines are never compared).
The holder counts from the moment it *sent* its last successful renewal, so it knows that it has lost the name before
anybody else can take it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from kip.kube.client import ApiClient
from kip.kube.errors import Conflict, KubeError, NotFound
from kip.model.clock import Clock, to_rfc3339_micro

log = structlog.get_logger(__name__)

# After a renewal that failed at once (connection refused, 429).
_TRY_AGAIN_S = 0.2


@dataclass(frozen=True)
class Timing:
    """Seconds. A spare takes over at most `duration_s + retry_s` after the holder died."""

    duration_s: int = 10
    """How long a Lease counts after its last renewal."""
    give_up_s: float = 7.0
    """How long the holder trusts a renewal of its own; less than `duration_s` by more than a pause and a slow request."""
    renew_s: float = 2.0
    retry_s: float = 1.0
    request_s: float = 3.0
    """How long one renewal may take before it is sent again."""


@dataclass(frozen=True)
class _Seen:
    fingerprint: tuple[Any, ...]
    since: float


class LeaseHolder:
    """One process's part in the contest for the names of some virtual nodes."""

    def __init__(
        self,
        client: ApiClient,
        clock: Clock,
        *,
        namespace: str,
        identity: str,
        timing: Timing | None = None,
        may_renew: Callable[[], bool] = lambda: True,
    ) -> None:
        """`identity` must be this process's alone; one that a process has again after its end (a container that is
        restarted in its pod) lets it go on at once. While `may_renew` is false the Lease is left to run out."""
        self._client = client
        self._clock = clock
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._identity = identity
        self.timing = timing or Timing()
        self._may_renew = may_renew
        self._seen: dict[str, _Seen] = {}
        self._held: dict[str, Any] | None = None
        self._renewed_at = 0.0
        self._acquired = 0
        self.name: str | None = None

    @property
    def holding(self) -> bool:
        """True while nobody else can have taken the name."""
        if self.name is None:
            return False
        return self._clock.monotonic() - self._renewed_at < self.timing.give_up_s

    def grant(self) -> Callable[[], bool]:
        """Whether the name is held that is held now, and without a break.

        Once it was lost, this is false for ever, whatever the process acquires after that: something of the old work may
        still be under way.
        """
        name, acquired = self.name, self._acquired
        return lambda: self.holding and (self.name, self._acquired) == (name, acquired)

    async def acquire(self, names: Sequence[str]) -> str:
        """Wait until one of the names is ours and return it."""
        while True:
            for name in names:
                if await self._try(name):
                    self.name = name
                    self._acquired += 1
                    log.info("lease acquired", lease=name, identity=self._identity)
                    return name
            await self._clock.sleep(self.timing.retry_s)

    async def keep(self) -> str:
        """Renew for ever; returns why the name is lost, early enough to stop before anybody else can take it."""
        name = self.name
        if name is None:
            raise RuntimeError("nothing is held")
        failure = "renewals were too slow"
        while self.holding:
            if not self._may_renew():
                failure = "the process does not get round to its work"
                await self._clock.sleep(_TRY_AGAIN_S)
                continue
            try:
                async with asyncio.timeout(self._patience_s()):
                    if not await self._write(name, self._held):
                        self.name = None
                        return "another process holds it"
            except NotFound:
                # Somebody deleted it. The next renewal makes it anew, or meets the one that another process made.
                self._held = None
                await self._clock.sleep(_TRY_AGAIN_S)
            except KubeError as error:
                failure = str(error)
                await self._clock.sleep(_TRY_AGAIN_S)
            except TimeoutError:
                failure = "the API server did not answer in time"
            else:
                await self._clock.sleep(self.timing.renew_s)
        self.name = None
        return failure

    def _patience_s(self) -> float:
        """For one renewal: a request that got lost must leave time for another."""
        left = self.timing.give_up_s - (self._clock.monotonic() - self._renewed_at)
        return max(0.05, min(left, self.timing.request_s))

    async def release(self) -> None:
        """Give the name up at once, so that a spare need not wait for the Lease to run out."""
        if self.name is None or self._held is None:
            return
        lease = {
            **self._held,
            "spec": {**self._held["spec"], "holderIdentity": "", "leaseDurationSeconds": 1},
        }
        self.name = None
        try:
            async with asyncio.timeout(self.timing.request_s):
                await self._client.replace(f"{self._path}/{lease['metadata']['name']}", lease)
        except (KubeError, TimeoutError) as error:
            log.warning("lease not given up; it runs out", lease=lease["metadata"]["name"], error=str(error))

    async def _try(self, name: str) -> bool:
        try:
            lease = await self._client.get(f"{self._path}/{name}")
        except NotFound:
            lease = None
        except KubeError as error:
            log.warning("lease cannot be read", lease=name, error=str(error))
            return False
        if not self._is_free(name, lease):
            return False
        try:
            return await self._write(name, lease)
        except KubeError as error:
            log.warning("lease cannot be written", lease=name, error=str(error))
            return False

    def _is_free(self, name: str, lease: dict[str, Any] | None) -> bool:
        spec = (lease or {}).get("spec") or {}
        seen = self._seen.get(name)
        if lease is None:
            if seen is None:
                return True
            # Deleted by somebody. Its holder may not know yet.
            duration_s = float(self.timing.duration_s)
        elif spec.get("holderIdentity") in (None, "", self._identity):
            return True  # given up, or ours from a life before this process
        else:
            duration_s = float(spec.get("leaseDurationSeconds") or self.timing.duration_s)
        now = self._clock.monotonic()
        fingerprint = (spec.get("holderIdentity"), spec.get("renewTime"), spec.get("leaseTransitions"))
        if seen is None or seen.fingerprint != fingerprint:
            self._seen[name] = _Seen(fingerprint, now)
            return False
        return now - seen.since >= duration_s

    async def _write(self, name: str, lease: dict[str, Any] | None) -> bool:
        """Write our claim over the version we saw; False if somebody else was faster."""
        sent = self._clock.monotonic()
        now = to_rfc3339_micro(self._clock.now())
        old = (lease or {}).get("spec") or {}
        ours = old.get("holderIdentity") == self._identity and self.name is not None
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self.timing.duration_s,
            "acquireTime": old.get("acquireTime", now) if ours else now,
            "renewTime": now,
            "leaseTransitions": int(old.get("leaseTransitions") or 0) + (0 if ours or lease is None else 1),
        }
        try:
            if lease is None:
                body = {
                    "apiVersion": "coordination.k8s.io/v1",
                    "kind": "Lease",
                    "metadata": {"name": name},
                    "spec": spec,
                }
                self._held = await self._client.create(self._path, body)
            else:
                self._held = await self._client.replace(f"{self._path}/{name}", {**lease, "spec": spec})
        except Conflict:
            return await self._ours_after_all(name, sent) if self.name is not None else False
        self._renewed_at = sent
        return True

    async def _ours_after_all(self, name: str, sent: float) -> bool:
        """A renewal met a newer version: our own lost answer, somebody's label, or another holder?"""
        lease = await self._client.get(f"{self._path}/{name}")
        if (lease.get("spec") or {}).get("holderIdentity") != self._identity:
            return False
        self._held = await self._client.replace(
            f"{self._path}/{name}",
            {**lease, "spec": {**lease["spec"], "renewTime": to_rfc3339_micro(self._clock.now())}},
        )
        self._renewed_at = sent
        return True
