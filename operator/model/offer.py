"""What can be asked of EC2 for a pod."""

from __future__ import annotations

from dataclasses import dataclass

from kip.model.instance_type import InstanceType
from kip.model.requirements import LaunchType, Market


@dataclass(frozen=True, slots=True)
class Offer:
    """One instance type in one zone on one market."""

    instance_type: InstanceType
    zone: str
    market: Market
    usd_per_hour: float | None
    """None when it is not known: so for spot and dedicated tenancy, unless the price was given."""
    dedicated: bool = False
    """On hardware that no other account uses."""
    surplus_usd_per_hour: float = 0.0
    """CPU credits of a burstable type, on top of the price, if the pod always uses the CPU that it requests."""

    @property
    def ranked_usd(self) -> float | None:
        """What it was ranked by: its price, or the on-demand price in its place, and the surplus credits."""
        known = self.usd_per_hour if self.usd_per_hour is not None else self.instance_type.usd_per_hour
        return None if known is None else known + self.surplus_usd_per_hour

    @property
    def price(self) -> str:
        """The price in words; what is not known is said to be so."""
        on_demand = self.instance_type.usd_per_hour
        if self.usd_per_hour is not None:
            text = usd(self.usd_per_hour)
        elif on_demand is None:
            return "price unknown"
        else:
            text = (
                f"price unknown, shared on-demand {usd(on_demand)}"
                if self.dedicated
                else (f"price unknown, on-demand {usd(on_demand)}")
            )
        if self.surplus_usd_per_hour:
            text += f" and up to {usd(self.surplus_usd_per_hour)} for CPU credits"
        return text

    @property
    def launch_type(self) -> LaunchType:
        """As the annotation `launch-type` has it."""
        return "dedicated" if self.dedicated else self.market

    def __str__(self) -> str:
        return f"{self.instance_type.name} in {self.zone}, {self.launch_type} {self.price}"


def usd(amount: float) -> str:
    """Dollars an hour, with as many digits as matter: `$0.0104/h`, `$1.232/h`."""
    return f"${amount:.4g}/h"
