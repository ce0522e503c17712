"""What a pod's node selector and required node affinity say about its machine: architecture, type, zone, market.

The scheduler compares them with the virtual node's labels; the machine is chosen by them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kip.model.placement import ARCHITECTURE, GPU_KIND_PREFIX, MARKETS, Rule, Term, decides_machine
from kip.model.requirements import Market
from kip.pods.selectors import rule_of
from kip.pods.tree import Pod, entries, items

_TERMS = ("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")

#: Architectures that EC2 has machines of.
ARCHITECTURES = frozenset({"amd64", "arm64"})


def terms(pod: Pod) -> tuple[Term, ...]:
    """What the pod says about its machine: one of these must hold; none when it says nothing.

    Expressions about other labels have been the scheduler's business. A term without any about the machine
    allows every machine, and with it so does the whole affinity.
    """
    alternatives = _alternatives(pod)
    return alternatives if all(alternatives) else ()


def architectures(pod: Pod) -> frozenset[str] | None:
    """The architectures that the pod may run on: None if it says nothing, an empty set if it wants others."""
    found = [[rule for rule in term if rule.label in ARCHITECTURE] for term in _alternatives(pod)]
    if not any(found):
        return None
    return frozenset(a for a in ARCHITECTURES if any(all(rule.allows(a) for rule in term) for term in found))


def markets(wanted: Iterable[Term]) -> frozenset[Market] | None:
    """The markets that the labels of Karpenter and EKS leave; None when nothing is said about them."""
    found = [[rule for rule in term if rule.label in MARKETS] for term in wanted]
    if not any(found):
        return None
    both: tuple[Market, ...] = ("on-demand", "spot")
    return frozenset(m for m in both if any(all(_allows_market(rule, m) for rule in term) for term in found))


def _allows_market(rule: Rule, market: Market) -> bool:
    value = next(value for value, meant in MARKETS[rule.label].items() if meant == market)
    return rule.allows(value)


def _alternatives(pod: Pod) -> tuple[Term, ...]:
    """The selector with each term of the affinity; a term may be empty."""
    selected = tuple(
        _selected(label, value)
        for label, value in sorted(entries(pod, "spec", "nodeSelector").items())
        if decides_machine(label)
    )
    affinity = [_rules(term) for term in items(pod, "spec", *_TERMS)]
    return tuple(dict.fromkeys(selected + term for term in affinity or [()]))


def _selected(label: str, value: Any) -> Rule:
    if label.startswith(GPU_KIND_PREFIX):  # the kind is in the label; the first Kip did not look at the value
        return Rule(label, "Exists")
    return Rule(label, "In", (str(value),))


def _rules(term: Mapping[str, Any]) -> Term:
    return tuple(
        rule_of(e)
        for e in items(term, "matchExpressions")
        if decides_machine(e["key"]) and not _says_nothing(e)
    )


def _says_nothing(expression: Mapping[str, Any]) -> bool:
    """Who wants a node without such a label wants no Karpenter node, say; the machine behind the virtual node is none.

    Every node has an architecture: who wants one without it has asked for what is not there.
    """
    return expression["operator"] == "DoesNotExist" and expression["key"] not in ARCHITECTURE
