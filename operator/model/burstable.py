"""What a burstable instance type gives for ever, and what it costs beyond: AWS's numbers, which no API tells.

EC2 User Guide, "Key concepts for burstable performance instances" (credits an hour, baseline utilisation per vCPU) and
"Unlimited mode for burstable performance instances" (price of surplus credits, the same in all regions and markets).
"""

from __future__ import annotations

# CPU credits an hour: one is a vCPU at full speed for a minute.
_CREDITS = {
    "t2": {
        "nano": 3.0,
        "micro": 6.0,
        "small": 12.0,
        "medium": 24.0,
        "large": 36.0,
        "xlarge": 54.0,
        "2xlarge": 81.6,
    },
    "t3": {
        "nano": 6.0,
        "micro": 12.0,
        "small": 24.0,
        "medium": 24.0,
        "large": 36.0,
        "xlarge": 96.0,
        "2xlarge": 192.0,
    },
}
_CREDITS["t3a"] = _CREDITS["t4g"] = _CREDITS["t3"]

#: Of a type whose baseline is not known: the weakest of all, so that it is never made cheaper than it is.
LEAST_PER_MILLE = 50.0
#: US dollars for a vCPU-hour beyond the baseline, Linux.
_SURPLUS_USD = {"t4g": 0.04}
_SURPLUS_USD_DEFAULT = 0.05
# T2 starts in standard mode: throttled to its baseline when its credits are spent. All later families start in
# unlimited mode: never throttled, and paid for beyond ("Unlimited mode concepts").
_THROTTLED = frozenset({"t2"})


def baseline_per_mille(family: str, size: str, vcpus: int) -> float | None:
    """What it gives for ever of each vCPU, in thousandths; None when AWS's number is not known here."""
    credits_per_hour = _CREDITS.get(family, {}).get(size)
    return None if credits_per_hour is None else round(credits_per_hour / 60 / vcpus * 1000, 1)


def surplus_usd(family: str) -> float:
    """US dollars for a vCPU-hour beyond the baseline."""
    return _SURPLUS_USD.get(family, _SURPLUS_USD_DEFAULT)


def throttled(family: str) -> bool:
    """Whether it slows down to its baseline, rather than costing more, when its credits are spent."""
    return family in _THROTTLED
