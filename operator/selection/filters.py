"""One filter for each reason why an instance type cannot be a pod's machine.

A filter keeps some candidates and gives one reason for all that it rejects. When it keeps none it explains
itself: what was wanted, and what comes nearest.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from kip.model.quantity import MIB, human_bytes
from kip.model.requirements import Requirements
from kip.selection.candidates import Candidate

#: A cell has its own address and the pod's on one network interface.
ADDRESSES = 2
#: Left to a pod that asks for less: its image's pages and its log have to be somewhere.
LEAST_MEMORY_BYTES = 128 * MIB
#: What images are built for when a pod does not say it.
DEFAULT_ARCHITECTURE = "amd64"
# Amazon Linux 2023 needs Graviton2 or x86-64-v2 ("AL2023 system requirements"): it starts neither on A1 nor, for sure,
# on the oldest Intel machines.
_TOO_OLD = frozenset({"a1", "c1", "m1", "m2", "t1"})

Candidates = Sequence[Candidate]


@dataclass(frozen=True, slots=True)
class Filtered:
    """The outcome of one filter."""

    name: str
    kept: Candidates
    before: Candidates
    reason: str
    """Why each of `rejected` is rejected: `less than 4 CPUs for the pod`."""
    explain: Callable[[], str]
    """A sentence for when nothing is kept."""

    @property
    def rejected(self) -> list[Candidate]:
        """What it did not keep."""
        kept = set(self.kept)
        return [candidate for candidate in self.before if candidate not in kept]


Filter = Callable[[Candidates, Requirements], Filtered]


def by_name(found: Candidates, needs: Requirements) -> Filtered:
    """The type or the pattern that the pod asks for."""
    wanted = needs.instance_type
    kept = found
    if wanted is not None:
        matches = _pattern(wanted).fullmatch
        kept = [c for c in found if matches(c.type.name)]

    def explain() -> str:
        if not found:
            return "no instance type is known"
        # The first letter is seldom the wrong one, and comparing with all names takes ten times as long.
        alike = [c.name for c in found if wanted and c.name[0] == wanted[0]]
        near = difflib.get_close_matches(wanted or "", alike, n=2, cutoff=0.75)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        verb = "matches" if is_pattern(wanted) else "is called"
        return f"none of {len(found):,} instance types {verb} {wanted}{hint}"

    return Filtered("name", kept, found, f"not {wanted}", explain)


def by_architecture(found: Candidates, needs: Requirements) -> Filtered:
    """What the pod's image is built for."""
    wanted = needs.architectures
    if wanted is None:
        # Who asks for types by name means their architecture too.
        return _unless_asked_for(
            "of another architecture",
            [c for c in found if c.type.architecture == DEFAULT_ARCHITECTURE],
            found,
            needs,
        )
    kept = [c for c in found if c.type.architecture in wanted]
    names = " or ".join(sorted(wanted)) or "an architecture that EC2 does not have"

    def explain() -> str:
        there = " and ".join(sorted({c.type.architecture for c in found}))
        return f"the pod's node selector or affinity wants {names}, and {_what_matches(found)} {there}"

    return Filtered("architecture", kept, found, f"not {names}", explain)


def by_addresses(found: Candidates, needs: Requirements) -> Filtered:
    """Room for the pod's address."""
    kept = [c for c in found if c.type.max_ipv4_per_eni >= ADDRESSES]
    reason = "no second address for the pod"
    return Filtered(
        "addresses", kept, found, reason, lambda: f"{_what_matches(found)} without a second address"
    )


def by_age(found: Candidates, needs: Requirements) -> Filtered:
    """Processors that start the cells' usual image; with an image of one's own others may do, if asked for by name."""
    kept = [c for c in found if c.type.family not in _TOO_OLD]
    return _unless_asked_for("too old for Amazon Linux 2023", kept, found, needs)


def by_market(found: Candidates, needs: Requirements) -> Filtered:
    """Types that are rented out on the pod's market at all."""
    kept = found if needs.market != "spot" else [c for c in found if c.type.spot]
    return Filtered(
        "market", kept, found, "never spot", lambda: f"{_what_matches(found)} never offered as spot"
    )


def by_bare_metal(found: Candidates, needs: Requirements) -> Filtered:
    """Bare metal boots for many minutes: only when asked for by name."""
    return _unless_asked_for("bare metal", [c for c in found if not c.type.bare_metal], found, needs)


def by_gpus(found: Candidates, needs: Requirements) -> Filtered:
    """GPUs for pods that request them; types with GPUs for nobody else, unless asked for by name."""
    if not needs.gpus:
        return _unless_asked_for("with GPUs", [c for c in found if not c.type.gpus], found, needs)
    wanted = f"{needs.gpus} NVIDIA GPU{'s' if needs.gpus > 1 else ''}"
    kept = [c for c in found if c.type.gpus >= needs.gpus and c.type.gpu_manufacturer == "NVIDIA"]

    def explain() -> str:
        best = max(found, key=lambda c: (c.type.gpu_manufacturer == "NVIDIA", c.type.gpus, c.name)).type
        return f"no instance type has {wanted}: the most of {len(found):,} that match is {best.gpus}, in {best.name}"

    return Filtered("gpus", kept, found, f"less than {wanted}", explain)


def by_cpu(found: Candidates, needs: Requirements) -> Filtered:
    """CPU left to the pod."""
    wanted, text = needs.cpu_millis, _cpus(needs.cpu_millis)
    kept = [c for c in found if c.cpu_millis >= wanted]

    def explain() -> str:
        best = max(found, key=lambda c: (c.cpu_millis, c.name))
        return (
            f"no instance type has {text} for a pod: the largest of {len(found):,} that match is {best.name}, which "
            f"leaves {_decimal(best.cpu_millis)} of {_cpus(best.type.vcpus * 1000)}"
        )

    return Filtered("cpu", kept, found, f"less than {text} for the pod", explain)


def by_memory(found: Candidates, needs: Requirements) -> Filtered:
    """Memory left to the pod."""
    wanted = max(needs.memory_bytes, LEAST_MEMORY_BYTES)
    text = f"{human_bytes(wanted)} memory"
    kept = [c for c in found if c.memory_bytes >= wanted]

    def explain() -> str:
        best = max(found, key=lambda c: (c.memory_bytes, c.name))
        enough = " and have CPU enough" if needs.cpu_millis else ""
        return (
            f"no instance type has {text} for a pod: the largest of {len(found):,} that match{enough} is {best.name}, "
            f"which leaves {human_bytes(best.memory_bytes)} of {human_bytes(best.type.memory_mib * MIB)}"
        )

    return Filtered("memory", kept, found, f"less than {text} for the pod", explain)


#: What the machine must be.
KIND: tuple[Filter, ...] = (by_name, by_architecture, by_addresses, by_market, by_age, by_bare_metal, by_gpus)
#: How large it must be.
SIZE: tuple[Filter, ...] = (by_cpu, by_memory)


def apply(filters: Iterable[Filter], found: Candidates, needs: Requirements) -> list[Filtered]:
    """The outcome of each filter on what the one before it kept; the last one is the first that keeps nothing."""
    outcomes: list[Filtered] = []
    for one in filters:
        outcomes.append(one(found, needs))
        found = outcomes[-1].kept
        if not found:
            break
    return outcomes


def is_pattern(instance_type: str | None) -> bool:
    """Whether more than one type can match it."""
    return instance_type is None or "*" in instance_type


def _unless_asked_for(
    what: str, without: list[Candidate], found: Candidates, needs: Requirements
) -> Filtered:
    """Rejects what is special, unless all that the pod asks for by name is: then it means it."""
    kept = found if needs.instance_type is not None and not without else without
    return Filtered(what, kept, found, f"{what}, not asked for", lambda: f"{_what_matches(found)} {what}")


def _what_matches(found: Candidates) -> str:
    return "the only type that matches is" if len(found) == 1 else f"all {len(found):,} types that match are"


@lru_cache(maxsize=256)
def _pattern(glob: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, glob.split("*"))))


def _decimal(millis: int) -> str:
    return f"{millis / 1000:g}"


def _cpus(millis: int) -> str:
    return "1 CPU" if millis == 1000 else f"{_decimal(millis)} CPUs"
