"""The loop that counts one node's cells and tells AWS, each hour once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from kip.cloud.base import TIMESTAMP_OUT_OF_BOUNDS, Marketplace
from kip.cloud.errors import CloudError, TokenConflict, Unreachable
from kip.kube.client import ApiClient
from kip.kube.errors import Conflict, KubeError, NotFound
from kip.metering.ledger import (
    HOUR,
    Ledger,
    Record,
    added,
    doubted,
    due,
    mine,
    refused,
    settled,
    too_late,
)
from kip.metering.use import Use
from kip.model.clock import Clock
from kip.model.names import GROUP
from kip.observe.metrics import MeteringMetrics

log = structlog.get_logger(__name__)

#: What a process that dies has counted and not written is given away.
TICK_S = 300.0
#: After the end of the hour: the other nodes' processes shall have counted it too.
_AFTER_THE_HOUR_S = 60.0
_ATTEMPTS = 5
_NAME = "kip-metering"
_ANNOTATION = f"{GROUP}/metering"


@dataclass(frozen=True)
class Product:
    """What is sold, and how its use is measured."""

    code: str
    dimension: str


class Metering:
    """One virtual node's share in the ledger, which is an annotation of the Lease `kip-metering`.

    A Lease, because each process may write those of Kip's namespace anyway, and writes them with care for others.
    """

    def __init__(
        self,
        client: ApiClient,
        clock: Clock,
        market: Marketplace,
        use: Use,
        product: Product,
        *,
        namespace: str,
        node: str,
        identity: str,
        metrics: MeteringMetrics,
    ) -> None:
        self._client = client
        self._clock = clock
        self._market = market
        self._use = use
        self._product = product
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._node = node
        self._identity = identity
        self._metrics = metrics

    async def run(self) -> None:
        """Count and tell for ever. Raises nothing of the cluster's or AWS's: pods do not depend on it."""
        while True:
            try:
                await self.tick()
            except KubeError as error:
                log.warning("use not written down; it is counted further", error=str(error))
            except ValueError as error:
                log.error(
                    "the ledger of use cannot be read; nothing is counted", lease=_NAME, error=str(error)
                )
            await self._clock.sleep(self._pause_s())

    def _pause_s(self) -> float:
        now = self._clock.now()
        into_hour_s = (now.minute * 60 + now.second - _AFTER_THE_HOUR_S) % HOUR.total_seconds()
        return min(TICK_S, HOUR.total_seconds() - into_hour_s)

    async def tick(self) -> None:
        """Write down what has been used, and send the record of the last hour if it is due. Raises KubeError, ValueError."""
        # The ledger has whole seconds.
        now = self._clock.now().replace(microsecond=0)

        def count(ledger: Ledger) -> Ledger:
            seconds = self._use.between(ledger.up_to.get(self._node, now), now)
            ledger = added(ledger, self._node, now, seconds)
            product = self._product
            ledger = due(ledger, now, by=self._identity, product=product.code, dimension=product.dimension)
            return mine(ledger, now, by=self._identity)

        ledger = await self._change(count)
        self._use.forget(now)
        record = ledger.sending
        if record is not None and record.by == self._identity:
            await self._send(record)

    async def _send(self, record: Record) -> None:
        if not record.unsure:
            await self._change(lambda ledger: doubted(ledger, record))
        product = self._product
        try:
            await self._market.meter(
                product.code, product.dimension, record.timestamp, record.quantity, record.token
            )
        except CloudError as error:
            self._metrics.told(error.reason)
            log.warning("use not told to AWS Marketplace", hour=str(record.timestamp), error=str(error))
            await self._not_taken(record, error)
        else:
            self._metrics.told("ok")
            log.info("use told to AWS Marketplace", hour=str(record.timestamp), cell_hours=record.quantity)
            await self._change(lambda ledger: settled(ledger, record))

    async def _not_taken(self, record: Record, error: CloudError) -> None:
        """Unless it is not known, AWS does not have it, and it is sent again; or never, if AWS takes it no more."""
        if isinstance(error, Unreachable):
            return
        if isinstance(error, TokenConflict):
            # AWS has another one for that hour; it takes no second one, and what there is was paid for.
            await self._change(lambda ledger: settled(ledger, record))
        elif error.code == TIMESTAMP_OUT_OF_BOUNDS:
            await self._change(lambda ledger: too_late(ledger, record))
        else:
            await self._change(lambda ledger: refused(ledger, record))

    async def _change(self, change: Callable[[Ledger], Ledger]) -> Ledger:
        """Read, change, write; again if somebody else has written meanwhile. Raises KubeError, ValueError."""
        for attempt in range(_ATTEMPTS):
            lease = await self._read()
            before = _ledger(lease)
            after = change(before)
            try:
                if after != before:
                    await self._write(lease, after)
            except Conflict:
                if attempt == _ATTEMPTS - 1:
                    raise
                continue
            self._show(after)
            return after
        raise AssertionError("not reached")

    async def _read(self) -> dict[str, Any] | None:
        try:
            lease: dict[str, Any] = await self._client.get(f"{self._path}/{_NAME}")
        except NotFound:
            return None
        return lease

    async def _write(self, lease: dict[str, Any] | None, ledger: Ledger) -> None:
        text = json.dumps(ledger.to_dict(), separators=(",", ":"))
        if lease is None:
            metadata = {
                "name": _NAME,
                "labels": {"app.kubernetes.io/name": "kip"},
                "annotations": {_ANNOTATION: text},
            }
            await self._client.create(
                self._path,
                {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {}},
            )
            return
        annotations = {**(lease["metadata"].get("annotations") or {}), _ANNOTATION: text}
        changed = {**lease, "metadata": {**lease["metadata"], "annotations": annotations}}
        await self._client.replace(f"{self._path}/{_NAME}", changed)

    def _show(self, ledger: Ledger) -> None:
        until = ledger.told + HOUR if ledger.told is not None else ledger.began
        waiting_s = ledger.cell_seconds + (ledger.sending.quantity * 3600 if ledger.sending else 0)
        self._metrics.stands(until or self._clock.now(), untold_hours=waiting_s / 3600)


def _ledger(lease: dict[str, Any] | None) -> Ledger:
    text = ((lease or {}).get("metadata", {}).get("annotations") or {}).get(_ANNOTATION)
    if text is None:
        return Ledger()
    try:
        return Ledger.from_dict(json.loads(text))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"annotation {_ANNOTATION} of Lease {_NAME}: {type(error).__name__}: {error}; what has not been told is in "
            "it: mend it, or delete it to begin anew"
        ) from error
