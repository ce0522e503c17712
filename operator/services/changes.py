"""From one ruleset to the next: what to tell a cell that has the former, instead of everything again."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from kip.services.ruleset import TABLE, Ruleset, frontend_key, target_rule, verdict


class Flow(NamedTuple):
    """UDP traffic as conntrack remembers it: a client of `address`:`port` is sent to `backend`."""

    address: str
    port: int
    backend: str


def delta(before: Ruleset, after: Ruleset) -> str:
    """Text for `nft -f -` that turns a cell's table from `before` into `after`; empty if nothing differs.

    One transaction. Chains that are no longer used are emptied and stay until the next full ruleset: nft frees what
    refers to them only after the transaction, and kernels differ in whether they may go in the same one.
    """
    return "".join(f"{line}\n" for line in _lines(before, after))


def stale_flows(before: Ruleset, after: Ruleset) -> tuple[Flow, ...]:
    """UDP flows to backends that a service no longer has.

    The kernel goes on sending an established flow to where it began, and a client that keeps its port (a resolver, a
    metrics client) keeps the flow alive for ever, whatever ruleset is loaded. TCP notices by itself.
    """
    return tuple(
        Flow(address, port, gone)
        for (address, protocol, port), name in sorted(before.frontends.items())
        if protocol == "udp"
        for gone in sorted(
            _backends(before, name) - _backends(after, after.frontends.get((address, protocol, port)))
        )
    )


def _lines(before: Ruleset, after: Ruleset) -> Iterator[str]:
    table = f"ip {TABLE}"
    for name, target in after.targets.items():
        old = before.targets.get(name)
        if old == target:
            continue
        # It may still be there, empty, from an earlier change.
        yield f"add chain {table} {name}"
        yield f"flush chain {table} {name}"
        yield f"add rule {table} {name} {target_rule(target)}"

    gone = [key for key, name in before.frontends.items() if after.frontends.get(key) != name]
    new = [key for key, name in after.frontends.items() if before.frontends.get(key) != name]
    yield from _elements(
        f"delete element {table} frontends", [verdict(key, before.frontends[key]) for key in gone]
    )
    yield from _elements(
        f"add element {table} frontends", [verdict(key, after.frontends[key]) for key in new]
    )
    yield from _set_changes(f"{table} cluster-ips", before.cluster_ips, after.cluster_ips)
    yield from _set_changes(
        f"{table} refused", {*map(frontend_key, before.refused)}, {*map(frontend_key, after.refused)}
    )
    for name in before.targets:
        if name not in after.targets:
            yield f"flush chain {table} {name}"


def _set_changes(name: str, before: Collection[str], after: Collection[str]) -> Iterator[str]:
    yield from _elements(f"delete element {name}", [entry for entry in before if entry not in after])
    yield from _elements(f"add element {name}", [entry for entry in after if entry not in before])


def _elements(command: str, elements: list[str]) -> Iterator[str]:
    if elements:
        yield f"{command} {{ {', '.join(sorted(elements))} }}"


def _backends(rules: Ruleset, name: str | None) -> set[str]:
    target = rules.targets.get(name) if name else None
    return {address for address, _ in target.backends} if target else set()
