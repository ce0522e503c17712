"""Services as an nft ruleset: computed once, the same text for every cell.

What kube-proxy does, in the part that matters to a machine with one pod:

- cluster IPs, external IPs and load balancers' addresses lead to a ready endpoint, chosen at random; if none is
  ready, to one that is terminating and still serves;
- a Service without endpoints, and a port that a cluster IP has not, are refused at once;
- a pod that reaches itself through a Service is masqueraded, or it would answer itself directly;
- `sessionAffinity: ClientIP` by a hash of the client instead of a memory of it (see `_SLOTS`).

Not done: `internalTrafficPolicy: Local` and topology (a cell has no neighbours: all endpoints are used), node ports
(the node's address is the operator's), load balancers' source ranges, IPv6.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kip.services.model import EndpointSlice, Service, ServicePort

TABLE = "kip-services"
# The cell's end of the pod's veth, as its CNI plugin calls it. By it, and not by the pod's address, the text
# knows a pod that calls itself, so that one text serves all cells.
POD_INTERFACE = "kip0"

# With affinity each client's hash falls into one of these slots, and each slot belongs to an endpoint (the one that
# scores highest for it). When an endpoint comes or goes only its share of the slots changes hands, so most clients
# stay where they are; nothing has to be remembered on the cell, where every replacement of the table would forget it.
_SLOTS = 256

Frontend = tuple[str, str, int]
Backend = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Target:
    """Where one port of one Service leads to: a chain of its own."""

    name: str
    protocol: str
    backends: tuple[Backend, ...]
    sticky: bool


@dataclass(frozen=True, slots=True)
class Ruleset:
    """All that a cell has to know, in a fixed order."""

    targets: Mapping[str, Target]
    """By chain name; each has backends."""
    frontends: Mapping[Frontend, str]
    """Address, protocol and port to the chain's name."""
    refused: frozenset[Frontend]
    """External addresses and ports that lead nowhere at present."""
    cluster_ips: frozenset[str]


def compute(services: Iterable[Service], slices: Iterable[EndpointSlice]) -> Ruleset:
    """What these Services and endpoints mean for a cell. The order of both does not matter."""
    by_service: dict[tuple[str, str], list[EndpointSlice]] = defaultdict(list)
    for part in slices:
        by_service[part.namespace, part.service].append(part)
    targets: dict[str, Target] = {}
    frontends: dict[Frontend, str] = {}
    refused: set[Frontend] = set()
    cluster_ips: set[str] = set()
    # Of two Services with the same external address and port the first by name has it, as long as both exist.
    for service in sorted(services, key=lambda s: (s.namespace, s.name)):
        cluster_ips.update(service.cluster_ips)
        parts = by_service.get((service.namespace, service.name), ())
        for port in service.ports:
            target = _target(service, port, parts)
            if target.backends:
                targets[target.name] = target
            for address in (*service.cluster_ips, *service.external_ips):
                frontend = (address, port.protocol.lower(), port.port)
                if frontend in frontends or frontend in refused:
                    continue
                if target.backends:
                    frontends[frontend] = target.name
                elif address not in service.cluster_ips:
                    refused.add(frontend)
    used = set(frontends.values())
    return Ruleset(
        targets={name: target for name, target in targets.items() if name in used},
        frontends=frontends,
        refused=frozenset(refused),
        cluster_ips=frozenset(cluster_ips),
    )


def render(rules: Ruleset) -> str:
    """The ruleset as text for `nft -f -`: replaces the whole table in one transaction.

    nft 1.0.4 and kernel 5.10 are enough for it.
    """
    return "\n".join(_lines(rules)) + "\n"


def ruleset(services: Iterable[Service], slices: Iterable[EndpointSlice]) -> str:
    """`render` of `compute`."""
    return render(compute(services, slices))


def _target(service: Service, port: ServicePort, parts: Sequence[EndpointSlice]) -> Target:
    return Target(
        name=f"svc/{service.namespace}/{service.name}/{port.protocol.lower()}/{port.port}",
        protocol=port.protocol.lower(),
        backends=_backends(port, parts),
        sticky=service.sticky,
    )


def _backends(port: ServicePort, parts: Sequence[EndpointSlice]) -> tuple[Backend, ...]:
    ready: set[Backend] = set()
    terminating: set[Backend] = set()
    for part in parts:
        numbers = [p.port for p in part.ports if p.name == port.name and p.protocol == port.protocol]
        for endpoint in part.endpoints:
            backends = ((address, number) for address in endpoint.addresses for number in numbers)
            if endpoint.ready:
                ready.update(backends)
            elif endpoint.serving_while_terminating:
                terminating.update(backends)
    return tuple(sorted(ready or terminating))


def _lines(rules: Ruleset) -> Iterator[str]:
    yield f"table ip {TABLE}"
    yield f"delete table ip {TABLE}"
    yield f"table ip {TABLE} {{"
    for name, target in rules.targets.items():
        yield f"chain {name} {{"
        yield target_rule(target)
        yield "}"
    yield from _map("frontends", "ipv4_addr . inet_proto . inet_service : verdict", _verdicts(rules))
    yield from _set("cluster-ips", "ipv4_addr", sorted(rules.cluster_ips))
    yield from _set(
        "refused", "ipv4_addr . inet_proto . inet_service", map(frontend_key, sorted(rules.refused))
    )
    yield _HOOKS.rstrip("\n")
    yield "}"


# `reject` is not allowed in nat chains, and what dnat has rewritten is no longer for a cluster IP: so whatever still
# is leads nowhere. Established connections pass on, above all answers to a client that calls from such an address.
_HOOKS = f"""\
chain prerouting {{
type nat hook prerouting priority dstnat
ip daddr . meta l4proto . th dport vmap @frontends
}}
chain output {{
type nat hook output priority -100
ip daddr . meta l4proto . th dport vmap @frontends
}}
chain postrouting {{
type nat hook postrouting priority srcnat
iifname {POD_INTERFACE} oifname {POD_INTERFACE} ct status dnat masquerade
}}
chain refuse {{
ct state new ip daddr @cluster-ips reject
ct state new ip daddr . meta l4proto . th dport @refused reject
}}
chain forward {{
type filter hook forward priority filter
jump refuse
}}
chain local {{
type filter hook output priority filter
jump refuse
}}
"""


def _verdicts(rules: Ruleset) -> Iterator[str]:
    for frontend, chain in sorted(rules.frontends.items()):
        yield verdict(frontend, chain)


def verdict(frontend: Frontend, chain: str) -> str:
    """An element of the map `frontends`."""
    return f"{frontend_key(frontend)} : goto {chain}"


def frontend_key(frontend: Frontend) -> str:
    """A frontend as nft concatenates it."""
    address, protocol, port = frontend
    return f"{address} . {protocol} . {port}"


def target_rule(target: Target) -> str:
    """The only rule of a target's chain."""
    return f"meta l4proto {target.protocol} dnat ip {_choice(target)}"


def _map(name: str, kind: str, elements: Iterable[str]) -> Iterator[str]:
    yield f"map {name} {{"
    yield f"type {kind}"
    yield from _elements(elements)
    yield "}"


def _set(name: str, kind: str, elements: Iterable[str]) -> Iterator[str]:
    yield f"set {name} {{"
    yield f"type {kind}"
    yield from _elements(elements)
    yield "}"


def _elements(elements: Iterable[str]) -> Iterator[str]:
    # An empty list of elements is a syntax error to nft.
    if listed := ",\n".join(elements):
        yield f"elements = {{ {listed} }}"


def _choice(target: Target) -> str:
    backends = target.backends
    if len(backends) == 1:
        address, port = backends[0]
        return f"to {address}:{port}"
    if target.sticky:
        chosen = [_owner(slot, target) for slot in range(_SLOTS)]
        return f"addr . port to jhash ip saddr mod {_SLOTS} seed 0x6b6970 map {{ {_numbered(chosen)} }}"
    return f"addr . port to numgen random mod {len(backends)} map {{ {_numbered(backends)} }}"


def _numbered(backends: Sequence[Backend]) -> str:
    return ", ".join(f"{number} : {address} . {port}" for number, (address, port) in enumerate(backends))


def _owner(slot: int, target: Target) -> Backend:
    """Rendezvous hashing: of all backends the one with the highest score for this slot."""

    def score(backend: Backend) -> bytes:
        return hashlib.blake2b(f"{slot} {target.name} {backend}".encode(), digest_size=8).digest()

    return max(target.backends, key=score)
