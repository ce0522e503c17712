"""What machines are chosen by, kept up to date: asked of AWS now and then, and learnt from cells.

Nothing waits for it. The catalogue that comes with Kip serves from the first moment on; each answer goes on top of it
when it has come, and what AWS does not tell, for want of a permission or because it cannot be reached, stays as it was.
All of it is in memory: another process asks again, and until then is no worse off than this one was.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from typing import Any, Literal

import structlog

from kip.cloud import catalogue
from kip.cloud.base import Offerings, PriceList
from kip.cloud.errors import CloudError, NotAuthorized
from kip.model.backoff import Backoff
from kip.model.clock import Clock
from kip.model.instance_type import InstanceType
from kip.model.market import NOTHING_KNOWN, MarketData
from kip.model.quantity import MIB
from kip.model.reserve import is_memory_of
from kip.observe.metrics import CatalogueMetrics

log = structlog.get_logger(__name__)

Source = Literal["types", "offerings", "prices", "spot"]
Tell = Callable[[MarketData, tuple[InstanceType, ...] | None], None]
"""(what is known of the market, every type that EC2 has; None while it has not said so)"""

# Seconds between two questions.
_EVERY: dict[Source, float] = {
    # AWS brings out some types a month, and nobody waits for one.
    "types": 12 * 3600,
    # Zones get types more often. One that a zone has lost is refused by EC2 and avoided like one without capacity.
    "offerings": 6 * 3600,
    # They change a few times a year; Karpenter asks as often.
    "prices": 12 * 3600,
    # AWS moves them slowly, "based on long-term trends" (EC2 User Guide, "Spot Instance pricing history"), a type in a zone
    # some times a day. A sweep over a large region takes some 80 calls, 40 seconds and one of CPU time.
    "spot": 30 * 60,
}
# What is known without the answer, for the log.
_WITHOUT: dict[Source, str] = {
    "types": "the instance types of this version of Kip are chosen from",
    "offerings": "which zone has which type is taken from this version of Kip",
    "prices": "the on-demand prices of this version of Kip count",
    "spot": "spot is ranked by on-demand prices",
}
# Somebody may give the permission, and expects it to work within the day. Until then the question is an error in the
# account's CloudTrail.
_REFUSED_S = 3600.0
_FAILED = Backoff(first_s=60.0, limit_s=3600.0)
# Machines of one type differ by some pages; without rounding each would be news.
_MEMORY_STEP = 16 * MIB


@dataclass(frozen=True)
class _Question:
    source: Source
    learn: Callable[[], Awaitable[None]]


class MarketWatch:
    """Asks, remembers, and tells when something has changed."""

    def __init__(
        self,
        offerings: Offerings,
        prices: PriceList | None,
        clock: Clock,
        *,
        region: str,
        tell: Tell,
        metrics: CatalogueMetrics,
    ) -> None:
        """`prices` is None where there is no price list to ask."""
        self._offerings = offerings
        self._prices = prices
        self._clock = clock
        self._region = region
        self._tell = tell
        self._metrics = metrics
        self._market = NOTHING_KNOWN
        self._types: tuple[InstanceType, ...] | None = None
        self._failures: Counter[Source] = Counter()
        self._refused: set[Source] = set()
        self._unbelieved: set[str] = set()

    async def run(self) -> None:
        """Ask for ever. Raises nothing."""
        built_in = catalogue.prices_as_of(self._region)
        if built_in is not None:
            self._metrics.known("prices", datetime.combine(built_in, time(), UTC))
        async with asyncio.TaskGroup() as group:
            for question in self._questions():
                group.create_task(self._keep(question), name=f"market: {question.source}")

    def memory_seen(self, instance_type: str, seen_bytes: int, *, advertised_bytes: int) -> None:
        """A kubelet on such a machine reported this capacity.

        The least counts: machines differ a little, and what is chosen by it must fit each. And a cell is not to be
        believed everything, as its pod may be root on it: an amount that no machine of the type can have is no news.
        """
        if not is_memory_of(advertised_bytes, seen_bytes):
            if instance_type not in self._unbelieved:
                self._unbelieved.add(instance_type)
                log.warning("no such machine has this memory", type=instance_type, seen_bytes=seen_bytes)
            return
        seen = seen_bytes // _MEMORY_STEP * _MEMORY_STEP
        known = self._market.memory_bytes.get(instance_type)
        if known is None or seen < known:
            self._put(memory_bytes={**self._market.memory_bytes, instance_type: seen})

    def _questions(self) -> list[_Question]:
        questions = [
            _Question("offerings", self._learn_offerings),
            _Question("types", self._learn_types),
            _Question("spot", self._learn_spot),
        ]
        if (prices := self._prices) is not None:
            questions.append(_Question("prices", lambda: self._learn_prices(prices)))
        return questions

    async def _keep(self, question: _Question) -> None:
        while True:
            await self._clock.sleep(await self._ask(question))

    async def _ask(self, question: _Question) -> float:
        """Ask once; seconds until it is to be asked again."""
        source, began = question.source, self._clock.now()
        try:
            await question.learn()
        except NotAuthorized as error:
            self._metrics.asked(source, error.reason)
            self._say_refused(source, error)
            return _REFUSED_S
        except Exception as error:
            self._metrics.asked(source, getattr(error, "reason", type(error).__name__))
            # Not only CloudError: an answer that nobody has foreseen must not end the serving of pods.
            log.warning(
                "market not learnt",
                source=source,
                error=str(error),
                exc_info=not isinstance(error, CloudError),
            )
            self._failures[source] += 1
            return _FAILED.delay_s(self._failures[source] - 1)
        self._metrics.asked(source, "ok")
        self._metrics.known(source, began)
        self._failures.pop(source, None)
        self._refused.discard(source)
        return _EVERY[source]

    def _say_refused(self, source: Source, error: NotAuthorized) -> None:
        """Once: it is a choice that somebody may have made."""
        if source not in self._refused:
            self._refused.add(source)
            log.warning(
                "not allowed to ask; Kip works without",
                source=source,
                permission=error.permission,
                meanwhile=_WITHOUT[source],
                error=str(error),
            )

    async def _learn_types(self) -> None:
        types = _some(await self._offerings.types(), "DescribeInstanceTypes")
        self._put(types=catalogue.completed(types, self._region))

    async def _learn_offerings(self) -> None:
        self._put(offered=_some(await self._offerings.offered(), "DescribeInstanceTypeOfferings"))

    async def _learn_spot(self) -> None:
        self._put(spot=_some(await self._offerings.spot_prices(), "DescribeSpotPriceHistory"))

    async def _learn_prices(self, prices: PriceList) -> None:
        self._put(on_demand=_some(await prices.on_demand(), "GetProducts"))

    def _put(self, *, types: tuple[InstanceType, ...] | None = None, **facts: Any) -> None:
        """Take what was learnt; tell it only if it is new, because what was prepared for choosing is lost by that."""
        market, types = replace(self._market, **facts), types or self._types
        if market == self._market and types == self._types:
            return
        self._market, self._types = replace(market, as_of=self._clock.now()), types
        self._tell(self._market, self._types)


def _some(answer: Any, action: str) -> Any:
    """An empty answer is none: by it no pod could be served."""
    if not answer:
        raise CloudError("the answer is empty", action=action)
    return answer
