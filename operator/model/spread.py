"""A pod's wish to be spread with its like over zones (`topologySpreadConstraints`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneSpread:
    """One constraint whose topology are zones, and where the pods are that it counts."""

    max_skew: int
    required: bool
    """`DoNotSchedule`; otherwise it is a wish (`ScheduleAnyway`)."""
    min_domains: int = 1
    """With fewer zones to choose from, the emptiest counts as empty."""
    counts_itself: bool = True
    """Whether the pod is one of those that it counts."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Zone → pods that it counts there."""

    def skew(self, zone: str, zones: Iterable[str]) -> int:
        """By how much `zone` would have more such pods than the emptiest of `zones`, with this pod in it.

        As the scheduler's PodTopologySpread: a zone without such pods counts as empty.
        """
        domains = list(zones)
        fewest = min(self.counts.get(domain, 0) for domain in domains)
        if len(domains) < self.min_domains:
            fewest = 0
        return self.counts.get(zone, 0) + self.counts_itself - fewest

    def allows(self, zone: str, zones: Iterable[str]) -> bool:
        """Whether the pod may be in `zone`, where `zones` are all that it could be in."""
        return not self.required or self.skew(zone, zones) <= self.max_skew
