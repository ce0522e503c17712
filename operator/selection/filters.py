"""One filter for each reason why an instance type cannot be a pod's machine.

A filter keeps some candidates and gives one reason for all that it rejects. When it keeps none it explains
itself: what was wanted, and what comes nearest.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from kip.model.placement import ARCHITECTURE
from kip.model.quantity import MIB, human_bytes
from kip.model.requirements import Requirements
from kip.selection.candidates import Candidate
from kip.selection.labels import allows_type, is_gpu, names_gpus, names_types

#: A cell has its own address and the pod's on one network interface.
ADDRESSES = 2
#: Left to a pod that asks for less: its image's pages and its log have to be somewhere.
LEAST_MEMORY_BYTES = 128 * MIB
#: What images are built for when nothing says it.
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
    instead: Callable[[Candidate], str] | None = None
    """What a rejected candidate has in the place of what was wanted: `leaves 1.93 of 2 CPUs`."""
    amount: Callable[[Candidate], int] | None = None
    """How much that is: the more, the nearer it comes."""

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


def by_system(found: Candidates, needs: Requirements) -> Filtered:
    """A cell runs Linux."""
    kept = [c for c in found if c.type.linux]
    return Filtered(
        "system", kept, found, "a Mac", lambda: f"{_what_matches(found)} of Apple's, without Linux"
    )


def by_configuration(allowed: tuple[str, ...], excluded: tuple[str, ...]) -> Filter:
    """What `cells.instanceTypes` leaves, whatever a pod asks for by name."""

    def only_configured(found: Candidates, needs: Requirements) -> Filtered:
        kept = found
        if allowed or excluded:
            kept = [
                c
                for c in found
                if not (allowed and not _listed(c, allowed)) and not (excluded and _listed(c, excluded))
            ]
        reason = "not allowed by cells.instanceTypes"
        return Filtered("configuration", kept, found, reason, lambda: f"{_what_matches(found)} {reason}")

    return only_configured


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
    if not kept and needs.architectures_inferred and needs.instance_type is not None:
        kept = list(found)
    names = " or ".join(sorted(wanted)) or "an architecture that EC2 does not have"

    def explain() -> str:
        there = " and ".join(sorted({c.type.architecture for c in found}))
        return f"{needs.architectures_from} {names}, and {_what_matches(found)} {there}"

    return Filtered("architecture", kept, found, f"not {names}", explain)


def by_labels(found: Candidates, needs: Requirements) -> Filtered:
    """What the pod's node selector and affinity say about the type."""
    kept: Candidates = found
    if any(rule.of_type for term in needs.terms for rule in term):
        kept = [c for c in found if any(allows_type(term, c.type) for term in needs.terms)]
    rules = " or ".join(
        " and ".join(str(rule) for rule in term if rule.of_type and rule.label not in ARCHITECTURE)
        for term in needs.terms
    )
    return Filtered(
        "labels",
        kept,
        found,
        "not what the node selector or affinity wants",
        lambda: f"the pod's node selector or affinity wants {rules}, and {_what_matches(found)} otherwise",
    )


def by_addresses(found: Candidates, needs: Requirements) -> Filtered:
    """Room for the pod's address."""
    kept = [c for c in found if c.type.max_ipv4_per_eni >= ADDRESSES]
    reason = "no second address for the pod"
    return Filtered(
        "addresses", kept, found, reason, lambda: f"{_what_matches(found)} without a second address"
    )


def by_zone(zones: tuple[str, ...], offered: Mapping[str, frozenset[str]]) -> Filter:
    """Types that at least one of the zones has, as far as that is known (`MarketData.offered`)."""
    somewhere = frozenset().union(*(offered.get(zone, ()) for zone in zones))
    all_known = bool(zones) and all(zone in offered for zone in zones)

    def only_offered(found: Candidates, needs: Requirements) -> Filtered:
        kept = [c for c in found if c.type.name in somewhere] if all_known else found
        reason = f"not offered in {', '.join(zones)}"
        return Filtered("zone", kept, found, reason, lambda: f"{_what_matches(found)} {reason}")

    return only_offered


def by_market(found: Candidates, needs: Requirements) -> Filtered:
    """Types that are rented out on the pod's market at all."""
    kept = found if needs.market != "spot" else [c for c in found if c.type.spot]
    return Filtered(
        "market", kept, found, "never spot", lambda: f"{_what_matches(found)} never offered as spot"
    )


def by_tenancy(found: Candidates, needs: Requirements) -> Filtered:
    """For dedicated tenancy: EC2's list of types that can have a host of their own is the one that it publishes."""
    kept = found if not needs.dedicated else [c for c in found if c.type.dedicated_hosts]
    reason = "never on hardware of one's own"
    return Filtered("tenancy", kept, found, reason, lambda: f"{_what_matches(found)} {reason}")


def by_age(found: Candidates, needs: Requirements) -> Filtered:
    """Processors that start the cells' usual image; with an image of one's own others may do, if asked for by name."""
    kept = [c for c in found if c.type.family not in _TOO_OLD]
    return _unless_asked_for("too old for Amazon Linux 2023", kept, found, needs)


def by_bare_metal(found: Candidates, needs: Requirements) -> Filtered:
    """Bare metal boots for many minutes: only when asked for by name."""
    return _unless_asked_for("bare metal", [c for c in found if not c.type.bare_metal], found, needs)


def by_accelerator(found: Candidates, needs: Requirements) -> Filtered:
    """Inferentia, FPGAs and the like cost extra and are of no use to a pod that cannot request them."""
    return _unless_asked_for(
        "with accelerators other than GPUs", [c for c in found if not c.type.accelerator], found, needs
    )


def by_gpus(found: Candidates, needs: Requirements) -> Filtered:
    """GPUs for pods that request them; types with GPUs for nobody else, unless asked for by name."""
    if not needs.gpus and not needs.gpu_kinds:
        without = found if names_gpus(needs.terms) else [c for c in found if not c.type.gpus]
        return _unless_asked_for("with GPUs", without, found, needs)
    least = max(needs.gpus, 1)
    kinds = f" of the kind {' or '.join(needs.gpu_kinds)}" if needs.gpu_kinds else ""
    wanted = f"{least} NVIDIA GPU{'s' if least > 1 else ''}{kinds}"
    kept = [c for c in found if c.type.gpus >= least and c.type.gpu_manufacturer == "NVIDIA"]
    if needs.gpu_kinds:
        kept = [c for c in kept if any(is_gpu(c.type, kind) for kind in needs.gpu_kinds)]

    def explain() -> str:
        best = max(found, key=lambda c: (c.type.gpu_manufacturer == "NVIDIA", c.type.gpus, c.name)).type
        there = sorted({c.type.gpu_name for c in found if c.type.gpu_manufacturer == "NVIDIA"})
        kinds_there = f"; kinds that match are {', '.join(there)}" if needs.gpu_kinds and there else ""
        return (
            f"no instance type has {wanted}: the most of {len(found):,} that match is {best.gpus}, in "
            f"{best.name}{kinds_there}"
        )

    return Filtered("gpus", kept, found, f"less than {wanted}", explain)


def by_whole_gpus(found: Candidates, needs: Requirements) -> Filtered:
    """A part of a card needs a driver that EKS images do not have (see `InstanceType.gpu_fraction`)."""
    kept = [c for c in found if not c.type.gpu_fraction]
    return _unless_asked_for("with a fraction of a GPU", kept, found, needs)


def by_cpu(found: Candidates, needs: Requirements) -> Filtered:
    """CPU left to the pod."""
    wanted, text = needs.cpu_millis, _cpus(needs.cpu_millis)
    kept = [c for c in found if c.cpu_millis >= wanted]

    def explain() -> str:
        best = max(found, key=lambda c: (c.cpu_millis, c.name))
        if is_exact(needs.instance_type):
            left = f"{_decimal(best.cpu_millis)} of {_cpus(best.type.vcpus * 1000)}"
            return f"{best.name}, which the pod asks for, leaves {left}, and the pod requests {text}"
        return (
            f"no instance type has {text} for a pod: the largest of {len(found):,} that match is {best.name}, which "
            f"leaves {_decimal(best.cpu_millis)} of {_cpus(best.type.vcpus * 1000)}"
        )

    return Filtered(
        "cpu",
        kept,
        found,
        f"less than {text} for the pod",
        explain,
        lambda c: f"leaves {_decimal(c.cpu_millis)} of {_cpus(c.type.vcpus * 1000)}",
        lambda c: c.cpu_millis,
    )


def by_credits(found: Candidates, needs: Requirements) -> Filtered:
    """CPU that the machine keeps up: T2 slows down to its baseline when its credits are spent."""
    wanted, text = needs.cpu_millis, _cpus(needs.cpu_millis)
    kept = found if is_exact(needs.instance_type) else [c for c in found if c.sustained_millis >= wanted]
    return Filtered(
        "credits",
        kept,
        found,
        f"slowed down to less than {text} when its CPU credits are spent",
        lambda: f"{_what_matches(found)} slowed down to less than {text} when CPU credits are spent",
        lambda c: f"keeps up {_cpus(c.sustained_millis)}",
        lambda c: c.sustained_millis,
    )


def by_memory(found: Candidates, needs: Requirements) -> Filtered:
    """Memory left to the pod, huge pages included: the kernel takes them out of the same memory."""
    requested = needs.memory_bytes + needs.huge_pages_bytes
    # Who names a type knows how little it is: only what no kubelet of such a machine would admit is refused.
    exact = is_exact(needs.instance_type)
    wanted = requested if exact else max(requested, LEAST_MEMORY_BYTES)
    text = f"{human_bytes(wanted)} memory"
    kept = [c for c in found if (c.most_memory_bytes if exact else c.memory_bytes) >= wanted]

    def explain() -> str:
        best = max(found, key=lambda c: (c.memory_bytes, c.name))
        if exact:
            left = (
                f"{human_bytes(best.most_memory_bytes)} of {human_bytes(best.type.memory_mib * MIB)} memory"
            )
            return f"{best.name}, which the pod asks for, leaves at most {left}, and the pod requests {human_bytes(wanted)}"
        enough = " and have CPU enough" if needs.cpu_millis else ""
        return (
            f"no instance type has {text} for a pod: the largest of {len(found):,} that match{enough} is {best.name}, "
            f"which leaves {human_bytes(best.memory_bytes)} of {human_bytes(best.type.memory_mib * MIB)}"
        )

    return Filtered(
        "memory",
        kept,
        found,
        f"less than {text} for the pod",
        explain,
        lambda c: f"leaves {human_bytes(max(c.memory_bytes, 0))} of {human_bytes(c.type.memory_mib * MIB)}",
        lambda c: c.memory_bytes,
    )


#: How large the machine must be.
SIZE: tuple[Filter, ...] = (by_cpu, by_credits, by_memory)


def kind_filters(
    *,
    allowed: tuple[str, ...] = (),
    excluded: tuple[str, ...] = (),
    zones: tuple[str, ...] = (),
    offered: Mapping[str, frozenset[str]] | None = None,
) -> tuple[Filter, ...]:
    """What the machine must be. What is not there at all comes before what is only not wanted."""
    return (
        by_name,
        by_system,
        by_configuration(allowed, excluded),
        by_architecture,
        by_labels,
        by_addresses,
        by_zone(zones, offered or {}),
        by_market,
        by_tenancy,
        by_age,
        by_bare_metal,
        by_accelerator,
        by_gpus,
        by_whole_gpus,
    )


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


def is_exact(instance_type: str | None) -> bool:
    """Whether it is the name of one type."""
    return not is_pattern(instance_type)


def _unless_asked_for(what: str, without: Candidates, found: Candidates, needs: Requirements) -> Filtered:
    """Rejects what is special, unless all that the pod asks for by name is: then it means it."""
    by_name_ = needs.instance_type is not None or names_types(needs.terms)
    kept = found if by_name_ and not without else without
    return Filtered(what, kept, found, f"{what}, not asked for", lambda: f"{_what_matches(found)} {what}")


def _what_matches(found: Candidates) -> str:
    return "the only type that matches is" if len(found) == 1 else f"all {len(found):,} types that match are"


def _listed(candidate: Candidate, patterns: tuple[str, ...]) -> bool:
    return any(_lists(pattern, candidate.type.family, candidate.type.name) for pattern in patterns)


def _lists(pattern: str, family: str, name: str) -> bool:
    if "*" not in pattern and "." not in pattern:
        return family == pattern
    return _pattern(pattern).fullmatch(name) is not None


@lru_cache(maxsize=256)
def _pattern(glob: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, glob.split("*"))))


def _decimal(millis: int) -> str:
    return f"{millis / 1000:g}"


def _cpus(millis: int) -> str:
    return "1 CPU" if millis == 1000 else f"{_decimal(millis)} CPUs"
