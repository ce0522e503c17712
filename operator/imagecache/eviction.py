"""Which images and layers have to go: a decision with reasons, made from what is there and who needs it.

It goes in steps, because taking a file away on NFS takes it from whoever reads it. First the image: from then on no cell
begins to use it. Its layers go when so much time has passed that no cell can be about to mount them, and nobody needs them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from kip.images.volume import LayerFile

#: For which a layer that nobody needs is kept. Whoever converts an image has made some of its layers long before the image
#: is there; and whoever began to seed from an image that is gone now has long ended (cells.imageCache.deadline is seconds).
GRACE = timedelta(hours=1)
#: The same when space is short: still far more than a seeding takes, and than news of a Cell need to reach us.
SHORT_GRACE = timedelta(minutes=15)
# How far below the limit it goes, so that the next image need not evict again.
_ENOUGH = 0.9


@dataclass(frozen=True)
class CachedImage:
    """An image as eviction sees it."""

    digest: str
    layers: frozenset[str]
    """Ids of the layers' files."""
    last_used: datetime
    roots: frozenset[str] = frozenset()
    """Digests of indexes by which references lead to it."""
    name: str = ""
    """A reference that leads to it, for people."""


@dataclass(frozen=True)
class Use:
    """Who needs what."""

    held: Mapping[str, str] = field(default_factory=dict)
    """Digests that Cells say they were given (of manifests or indexes), each with the name of such a Cell."""
    wanted: frozenset[str] = frozenset()
    """Digests of images that pods or the configuration name now."""


@dataclass(frozen=True)
class Limits:
    """What the cache may take. Sizes in bytes."""

    max_bytes: int | None = None
    min_free_bytes: int = 0
    keep_unused: timedelta | None = None


@dataclass(frozen=True)
class Removal:
    """Something that goes, and why."""

    what: str
    why: str
    bytes: int = 0
    name: str = ""


@dataclass(frozen=True)
class Plan:
    """What is to be done now."""

    images: tuple[Removal, ...] = ()
    """By their digests; `bytes` is what their going will set free."""
    layers: tuple[Removal, ...] = ()
    """By their files' ids."""
    blocked: str = ""
    """Why no layer goes at all, though some might; empty if nothing is in the way."""
    short: str = ""
    """Why space is short and stays so when all this has gone; empty if it is not."""


def plan(
    images: Sequence[CachedImage],
    layers: Sequence[LayerFile],
    use: Use,
    limits: Limits,
    *,
    free_bytes: int,
    now: datetime,
    grace: timedelta | None = None,
) -> Plan:
    """What goes now. Never an image that is in use, nor a layer that a remaining image or one in use needs.

    `grace` is for how long layers that nobody needs are kept; without it GRACE, or SHORT_GRACE when space is short.
    """
    sizes = {layer.file_id: layer.file_bytes for layer in layers}
    in_use = {image.digest for image in images if _in_use(image, use)}
    idle = sorted((i for i in images if i.digest not in in_use), key=lambda i: (i.last_used, i.digest))
    old = _unused(idle, limits, now)
    excess = _excess(sizes, _needed(i for i in images if i.digest not in old), limits, free_bytes)
    large = _least_recently_used(images, [i for i in idle if i.digest not in old], old, sizes, excess)
    gone = {**old, **large}
    remaining = [image for image in images if image.digest not in gone]
    needed = _needed(remaining)
    removals = _image_removals(images, gone, sizes, needed)
    left = excess - _bytes(sizes, _needed(i for i in images if i.digest in large) - needed)
    short = f"{left} bytes too many are left: what remains is in use" if excess > 0 and left > 0 else ""
    blocked = _stranger(images, use)
    if grace is None:
        grace = SHORT_GRACE if excess > 0 or _tight(limits, free_bytes) else GRACE
    # The layers of images that go now are needed until the next time: somebody may be about to mount them.
    orphans = (
        ()
        if blocked
        else _orphans(layers, needed | _needed(i for i in images if i.digest in gone), now - grace)
    )
    return Plan(removals, tuple(orphans), blocked, short)


def _in_use(image: CachedImage, use: Use) -> bool:
    names = {image.digest, *image.roots}
    return bool(names & use.held.keys()) or image.digest in use.wanted


def _needed(images: Iterable[CachedImage]) -> frozenset[str]:
    return frozenset(layer for image in images for layer in image.layers)


def _bytes(sizes: Mapping[str, int], layers: Collection[str]) -> int:
    return sum(sizes.get(layer, 0) for layer in layers)


def _unused(idle: Sequence[CachedImage], limits: Limits, now: datetime) -> dict[str, str]:
    if limits.keep_unused is None:
        return {}
    return {
        image.digest: f"not used since {image.last_used:%Y-%m-%d %H:%M}"
        for image in idle
        if now - image.last_used > limits.keep_unused
    }


def _excess(sizes: Mapping[str, int], needed: frozenset[str], limits: Limits, free_bytes: int) -> int:
    """Bytes of needed layers that should not be. Those that nobody needs go anyway."""
    going = _bytes(sizes, sizes.keys() - needed)
    too_large = too_full = 0
    if limits.max_bytes is not None and _bytes(sizes, needed) > limits.max_bytes:
        too_large = _bytes(sizes, needed) - int(limits.max_bytes * _ENOUGH)
    if _tight(limits, free_bytes + going):
        too_full = limits.min_free_bytes - free_bytes - going
    return max(too_large, too_full, 0)


def _tight(limits: Limits, free_bytes: int) -> bool:
    return free_bytes < limits.min_free_bytes


def _least_recently_used(
    images: Sequence[CachedImage],
    candidates: Sequence[CachedImage],
    old: Mapping[str, str],
    sizes: Mapping[str, int],
    excess: int,
) -> dict[str, str]:
    """Images that go because there is too much, and only such as set something free."""
    staying = {image.digest: image for image in images if image.digest not in old}
    chosen: list[CachedImage] = []
    freed = 0
    before = _bytes(sizes, _needed(staying.values()))
    for image in candidates:
        if freed >= excess:
            break
        del staying[image.digest]
        chosen.append(image)
        freed = before - _bytes(sizes, _needed(staying.values()))
    needed = _needed(staying.values())
    return {
        image.digest: f"too much is cached, and it was last used at {image.last_used:%Y-%m-%d %H:%M}"
        for image in chosen
        if _bytes(sizes, image.layers - needed)
    }


def _image_removals(
    images: Sequence[CachedImage], gone: Mapping[str, str], sizes: Mapping[str, int], needed: frozenset[str]
) -> tuple[Removal, ...]:
    counted: set[str] = set()
    removals = []
    for image in images:
        if image.digest in gone:
            own = image.layers - needed - counted
            counted |= own
            removals.append(Removal(image.digest, gone[image.digest], _bytes(sizes, own), image.name))
    return tuple(removals)


def _stranger(images: Sequence[CachedImage], use: Use) -> str:
    """A Cell may be reading layers of an image that is not known any more: nobody can tell which."""
    known = {name for image in images for name in (image.digest, *image.roots)}
    for digest, cell in sorted(use.held.items()):
        if digest not in known:
            return f"cell {cell} was given image {digest}, which is not known any more; it has to end first"
    return ""


def _orphans(layers: Sequence[LayerFile], needed: frozenset[str], before: datetime) -> Iterable[Removal]:
    for layer in layers:
        if layer.file_id not in needed and layer.modified < before:
            why = f"no image has it, since {layer.modified:%Y-%m-%d %H:%M}"
            yield Removal(layer.file_id, why, layer.file_bytes)
