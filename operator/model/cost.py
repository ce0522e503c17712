"""What an instance has cost so far."""

from __future__ import annotations

from datetime import datetime

#: EC2 bills Linux instances by the second, and a minute at least (https://aws.amazon.com/ec2/pricing/on-demand/).
BILLED_AT_LEAST_S = 60.0


def cost_usd(usd_per_hour: float, since: datetime, now: datetime) -> float:
    """US dollars by list price, for an instance that was launched at `since` and runs, or has just ended, `now`."""
    return usd_per_hour / 3600 * max(BILLED_AT_LEAST_S, (now - since).total_seconds())
