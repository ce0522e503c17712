"""What can be asked of EC2 for a pod."""

from __future__ import annotations

from dataclasses import dataclass

from kip.model.instance_type import InstanceType
from kip.model.requirements import Market


@dataclass(frozen=True, slots=True)
class Offer:
    """One instance type in one zone on one market."""

    instance_type: InstanceType
    zone: str
    market: Market
    usd_per_hour: float | None
    """None when it is not known: so for spot, unless its price was given."""

    def __str__(self) -> str:
        price = f"${self.usd_per_hour:.4g}/h" if self.usd_per_hour is not None else "price unknown"
        return f"{self.instance_type.name} in {self.zone}, {self.market}, {price}"
