"""EC2's quotas of vCPUs, which new accounts run into first.

Codes and what counts against each: "Amazon EC2 On-Demand Instance quotas" and "Spot Instance limits" of EC2's guide.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from kip.cloud import catalogue
from kip.config import Settings
from kip.model.requirements import GPU

SERVICE = "ec2"


@dataclass(frozen=True)
class Quota:
    """One quota of a region."""

    code: str
    name: str
    """As Service Quotas calls it."""
    families: re.Pattern[str]
    """Of the instance types that count against it."""
    spot: bool = False


# "Standard" goes by the first letter: `im4gn` and `x` are not one letter and a digit, but the first is an I.
_STANDARD = re.compile(r"(?:[acdhmrtz]|is|im|i)\d.*")
_GRAPHICS = re.compile(r"(?:g|gr|vt)\d.*")

ON_DEMAND = Quota("L-1216C47A", "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", _STANDARD)
SPOT = Quota(
    "L-34B43A08", "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests", _STANDARD, spot=True
)
GRAPHICS = Quota("L-DB2E81BA", "Running On-Demand G and VT instances", _GRAPHICS)
QUOTAS: Mapping[str, Quota] = {quota.code: quota for quota in (ON_DEMAND, SPOT, GRAPHICS)}


def watched(settings: Settings) -> tuple[Quota, ...]:
    """Those that matter for what the virtual nodes offer."""
    return (ON_DEMAND, SPOT, GRAPHICS) if GPU in settings.kubelet.capacity else (ON_DEMAND, SPOT)


def quota_of(instance: Mapping[str, Any]) -> str | None:
    """Code of the quota that an instance, as EC2 describes it, counts against; None for those not watched."""
    spot = instance.get("InstanceLifecycle") == "spot"
    return next(
        (
            quota.code
            for quota in QUOTAS.values()
            if quota.spot == spot and quota.families.fullmatch(instance["InstanceType"])
        ),
        None,
    )


def vcpus(instance: Mapping[str, Any]) -> int:
    """Of an instance as EC2 describes it; where that says nothing, those that its type has unless told otherwise."""
    options = instance.get("CpuOptions") or {}
    if "CoreCount" in options:
        return int(options["CoreCount"]) * int(options.get("ThreadsPerCore", 1))
    return _usual_vcpus().get(instance["InstanceType"], 0)


@cache
def _usual_vcpus() -> Mapping[str, int]:
    return {kind.name: kind.vcpus for kind in catalogue.everything()}
