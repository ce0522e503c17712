"""What an instance type costs for a pod, and which of several is the better one."""

from __future__ import annotations

from collections.abc import Iterable

from kip.model.requirements import Requirements
from kip.selection.candidates import Candidate

#: How much cheaper a type of a previous generation must be to be preferred: it is slower for the same vCPUs, and
#: AWS has less of it every year.
OLD_GENERATION_FACTOR = 1.2

# CPU that a burstable type gives for ever, in thousandths of all its vCPUs, and the price of a vCPU-hour beyond (EC2
# User Guide, "Key concepts for burstable performance instances" and "Unlimited mode").
_BASELINE_PER_MILLE = {
    "t2": {
        "nano": 50,
        "micro": 100,
        "small": 200,
        "medium": 200,
        "large": 300,
        "xlarge": 225,
        "2xlarge": 168,
    },
    "*": {"nano": 50, "micro": 100, "small": 200, "medium": 200, "large": 300, "xlarge": 400, "2xlarge": 400},
}
_SURPLUS_USD = {"t4g": 0.04}
_SURPLUS_USD_DEFAULT = 0.05

Rank = tuple[bool, float, int, int, str]


def ranked(found: Iterable[Candidate], needs: Requirements) -> list[Candidate]:
    """Best first."""
    return sorted(found, key=lambda candidate: rank(candidate, needs))


def rank(candidate: Candidate, needs: Requirements) -> Rank:
    """Sorts the better one first: known prices, cheap, then with more memory and CPU left, then by name."""
    kind = candidate.type
    cost = hourly_cost(candidate, needs) if kind.burstable else kind.usd_per_hour
    if cost is None:
        return True, 0.0, -candidate.memory_bytes, -candidate.cpu_millis, kind.name
    if not kind.current_generation:
        cost *= OLD_GENERATION_FACTOR
    return False, cost, -candidate.memory_bytes, -candidate.cpu_millis, kind.name


def hourly_cost(candidate: Candidate, needs: Requirements) -> float | None:
    """US dollars an hour, with what a burstable type costs beyond its baseline if the pod uses all the CPU that
    it requests; None when the price is not known."""
    kind = candidate.type
    if kind.usd_per_hour is None or not kind.burstable:
        return kind.usd_per_hour
    beyond = needs.cpu_millis - baseline_millis(candidate)
    surplus = _SURPLUS_USD.get(kind.family, _SURPLUS_USD_DEFAULT)
    return kind.usd_per_hour + max(beyond, 0) / 1000 * surplus


def baseline_millis(candidate: Candidate) -> int:
    """CPU that a burstable type gives for ever; an unknown size is taken for the weakest."""
    kind = candidate.type
    sizes = _BASELINE_PER_MILLE.get(kind.family, _BASELINE_PER_MILLE["*"])
    return kind.vcpus * sizes.get(kind.size, 50)
