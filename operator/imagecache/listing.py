"""What is cached, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from kip.imagecache.inventory import Inventory
from kip.images.format import Image
from kip.model.clock import age, to_rfc3339
from kip.model.quantity import human_bytes

_HEAD = ("REFERENCE", "PLATFORM", "DIGEST", "SIZE", "LAYERS", "CACHED", "USED")


@dataclass(frozen=True)
class Row:
    """An image under one of its names."""

    reference: str
    """Empty if no reference leads to it any more."""
    image: Image
    file_bytes: int
    missing: int
    """Layers whose files are not there."""
    used: datetime

    def to_dict(self) -> dict[str, object]:
        """For `-o json`."""
        return {
            "reference": self.reference,
            "platform": self.image.platform,
            "digest": self.image.digest,
            "bytes": self.file_bytes,
            "blobBytes": self.image.blob_bytes,
            "layers": len(self.image.layers),
            "missingLayers": self.missing,
            "cached": to_rfc3339(self.image.created),
            "used": to_rfc3339(self.used),
            "creator": self.image.creator,
        }


def rows(inventory: Inventory) -> list[Row]:
    """By reference and platform; what no reference leads to comes last."""
    images = {image.digest: image for image in inventory.images}
    named = [
        (reference.reference, images[digest])
        for reference in inventory.references
        for _, digest in sorted(reference.platforms.items())
        if digest in images
    ]
    nameless = images.keys() - {image.digest for _, image in named}
    return [
        _row(inventory, *each) for each in (*named, *(("", images[digest]) for digest in sorted(nameless)))
    ]


def _row(inventory: Inventory, reference: str, image: Image) -> Row:
    used = inventory.used.get(image.digest, image.created)
    return Row(reference, image, inventory.file_bytes(image), len(inventory.missing(image)), used)


def table(found: list[Row], now: datetime) -> Iterator[str]:
    """Lines with columns."""
    lines = [_HEAD, *(_cells(row, now) for row in found)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def summary(inventory: Inventory) -> str:
    """One line about all of it."""
    needed = {layer.file_id for image in inventory.images for layer in image.layers}
    idle = [layer.file_bytes for layer in inventory.layers if layer.file_id not in needed]
    usage, count = inventory.usage, len(inventory.images)
    parts = [
        f"{count} image{'' if count == 1 else 's'}",
        f"{usage.layers} layers of {human_bytes(usage.layers_bytes)}",
        f"{human_bytes(usage.free_bytes)} free",
    ]
    if idle:
        parts.insert(2, f"{len(idle)} of them ({human_bytes(sum(idle))}) needed by no image")
    if usage.temporary_bytes:
        parts.insert(2, f"{human_bytes(usage.temporary_bytes)} in the making")
    return ", ".join(parts)


def _cells(row: Row, now: datetime) -> tuple[str, ...]:
    layers = f"{len(row.image.layers) - row.missing}/{len(row.image.layers)}"
    return (
        row.reference or "(none)",
        row.image.platform,
        row.image.digest.removeprefix("sha256:")[:12],
        human_bytes(row.file_bytes),
        layers,
        _ago(row.image.created, now),
        _ago(row.used, now),
    )


def _ago(moment: datetime, now: datetime) -> str:
    return age(max(0.0, (now - moment).total_seconds()))
