"""What is known of EC2's market at one moment: prices and what is offered where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

#: In the place of a zone: all of which nothing else is said.
ANY_ZONE = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketData:
    """Facts that replace those of the catalogue. What is not in here is not known, and nothing is made up for it.

    A value: whoever learns something newer makes another one and a new `Chooser` with it.
    """

    as_of: datetime | None = None
    """When EC2 was asked; None for nothing but the catalogue."""
    on_demand: Mapping[str, float] = field(default_factory=dict)
    """Instance type → US dollars an hour, the same in all zones of a region."""
    spot: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """(instance type, zone or `ANY_ZONE`) → US dollars an hour."""
    dedicated: Mapping[str, float] = field(default_factory=dict)
    """Instance type → US dollars an hour on hardware of one's own; the region's hourly fee for that is not in it."""
    offered: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Zone → every instance type that it has. Of a zone that is not named nothing is known, and all are tried."""
    memory_bytes: Mapping[str, int] = field(default_factory=dict)
    """Instance type → memory that a kubelet on one reported as its node's capacity."""

    def spot_price(self, instance_type: str, zone: str) -> float | None:
        """US dollars an hour; None when it is not known."""
        price = self.spot.get((instance_type, zone))
        return self.spot.get((instance_type, ANY_ZONE)) if price is None else price


NOTHING_KNOWN = MarketData()
