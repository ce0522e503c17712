"""Keeps the volume in bounds: marks what is used, takes away what nobody needs, and says what is there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from kip.imagecache import eviction
from kip.imagecache.eviction import Limits, Plan, Removal, Use
from kip.imagecache.inventory import Inventory, forget_images, take
from kip.images.errors import VolumeFull
from kip.images.volume import Volume
from kip.kube.errors import KubeError
from kip.model.clock import Clock
from kip.model.quantity import human_bytes
from kip.observe.imagecache import ImageCacheMetrics

log = structlog.get_logger(__name__)

# An image's last use is known no better than this; each mark is a write to the volume.
_MARK_AFTER = timedelta(minutes=10)
_UNKNOWN = Plan(blocked="the cells cannot be asked what they have")


@dataclass(frozen=True)
class Tidied:
    """What a round has found and done."""

    inventory: Inventory
    plan: Plan
    no_room: str = ""
    """Why nothing more should be fetched now; empty if there is room."""


class Keeper:
    """One round after the other; whoever calls says when."""

    def __init__(
        self,
        volume: Volume,
        clock: Clock,
        limits: Limits,
        metrics: ImageCacheMetrics,
        *,
        held: Callable[[], Mapping[str, str] | None],
        ask: Callable[[], Awaitable[Mapping[str, str]]],
        wanted: Callable[[], Iterable[tuple[str, str]]],
    ) -> None:
        """`held` has the digests that Cells were given, with the Cell's name, as far as news of them have come; None while
        not all is known that is used. `ask` has the same from the cluster itself, or raises KubeError. `wanted` has the
        references and platforms that are wanted now."""
        self._volume = volume
        self._clock = clock
        self._limits = limits
        self._metrics = metrics
        self._held = held
        self._ask = ask
        self._wanted = wanted
        self._told = ""

    async def tidy(self, *, need_bytes: int = 0) -> Tidied:
        """One round; `need_bytes` is what an image takes that did not find room. Raises VolumeUnavailable."""
        swept = await self._volume.sweep()
        if swept:
            log.info("files of conversions that never ended removed", number=len(swept))
            self._metrics.evicted("temporary", len(swept))
        inventory = await take(self._volume)
        wanted = inventory.images_of(self._wanted())
        plan = await self._plan(inventory, wanted, need_bytes)
        await self._mark(inventory, wanted)
        await carry_out(self._volume, inventory, plan, self._removed)
        self._tell(inventory, plan)
        return Tidied(inventory, plan, self._no_room(inventory, plan))

    async def _plan(self, inventory: Inventory, wanted: frozenset[str], need_bytes: int) -> Plan:
        # After the volume: a Cell says what it has before that is looked for there.
        held = self._held()
        if held is None:
            return _UNKNOWN
        plan = self._decide(inventory, Use(held, wanted), need_bytes)
        if not plan.images and not plan.layers:
            return plan
        # A watch that is cut off looks like one without news, for longer than any grace.
        try:
            return self._decide(inventory, Use(await self._ask(), wanted), need_bytes)
        except KubeError as error:
            return replace(_UNKNOWN, blocked=f"{_UNKNOWN.blocked}: {error}")

    def _decide(self, inventory: Inventory, use: Use, need_bytes: int) -> Plan:
        def within(limits: Limits) -> Plan:
            return eviction.plan(
                inventory.cached_images(),
                inventory.layers,
                use,
                limits,
                free_bytes=inventory.usage.free_bytes,
                now=self._clock.now(),
            )

        if need_bytes:
            decided = within(replace(self._limits, min_free_bytes=self._limits.min_free_bytes + need_bytes))
            # For what would not fit into an empty cache either, nothing has to go.
            if not decided.short:
                return decided
        return within(self._limits)

    async def _mark(self, inventory: Inventory, in_use: frozenset[str]) -> None:
        before = self._clock.now() - _MARK_AFTER
        stale = [digest for digest in in_use if inventory.used.get(digest, before) <= before]
        try:
            await self._volume.mark_used(stale)
        except VolumeFull as error:
            # Some file systems write even that to a new place. It must not keep us from making room.
            log.warning("use of images not marked", error=str(error))

    def _removed(self, what: str, removal: Removal) -> None:
        size = human_bytes(removal.bytes)
        log.info(
            f"{what} removed",
            name=removal.name or removal.what,
            digest=removal.what,
            size=size,
            reason=removal.why,
        )
        self._metrics.evicted(what)

    def _tell(self, inventory: Inventory, plan: Plan) -> None:
        usage = inventory.usage
        self._metrics.volume_is(
            images=len(inventory.images),
            layers=usage.layers,
            layers_bytes=usage.layers_bytes,
            temporary_bytes=usage.temporary_bytes,
            free_bytes=usage.free_bytes,
        )
        self._metrics.blocked("evicting", by=plan.blocked)
        for trouble in filter(None, (plan.blocked, plan.short)):
            if trouble not in self._told:
                log.warning("the cache cannot be kept in bounds", reason=trouble)
        self._told = f"{plan.blocked} {plan.short}"

    def _no_room(self, inventory: Inventory, plan: Plan) -> str:
        free, least = inventory.usage.free_bytes, self._limits.min_free_bytes
        if free < least:
            return f"{human_bytes(free)} are free on the volume, and {human_bytes(least)} have to be"
        return plan.short


async def carry_out(
    volume: Volume,
    inventory: Inventory,
    plan: Plan,
    removed: Callable[[str, Removal], None] = lambda *_: None,
) -> None:
    """Does what was decided; `removed` hears of each `image` and `layer` that has gone. Raises VolumeUnavailable."""
    await forget_images(volume, inventory, {removal.what for removal in plan.images})
    for removal in plan.images:
        removed("image", removal)
    for removal in plan.layers:
        if await volume.remove_layer(removal.what):
            removed("layer", removal)
