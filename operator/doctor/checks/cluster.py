"""Of the cluster: its API server, the type Cell, permissions, DNS, the virtual nodes' names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import yaml

from kip.doctor.access import Access, Permission
from kip.doctor.checks.remedies import not_known
from kip.doctor.facts import ClusterVersion, Facts, Unanswered
from kip.doctor.finding import Finding, Remedy, failure, ok, warning
from kip.model.names import GROUP, VERSION, provider_id

#: The oldest Kubernetes that Kip is made for (docs/installation.md), as (major, minor).
OLDEST = (1, 32)
#: Missing permissions that get a line each; after so many they are summed up.
_MOST_LINES = 12

_TYPE = "the type Cell"
_RBAC = "RBAC"
_APPLY_CRDS = Remedy(
    text="apply the type that belongs to this version of Kip",
    command="kubectl apply --server-side --force-conflicts -f crds/cells.yaml",
)


def configuration(facts: Facts) -> Iterator[Finding]:
    """provider.yaml could be read, or there would be no facts."""
    for text in facts.config_warnings:
        yield warning("configuration", text, Remedy(command=f"kip config check {facts.config_file}"))
    if facts.user_data_trouble:
        yield failure(
            "configuration",
            facts.user_data_trouble,
            Remedy(text="mend or shorten the file of cells.cloudInitFile"),
        )
    if not facts.config_warnings and not facts.user_data_trouble:
        yield ok("configuration", f"{facts.config_file} is right")


def api_server(facts: Facts) -> Iterator[Finding]:
    """Everything else about the cluster needs it."""
    what = "API server"
    match facts.version:
        case Unanswered(why=why):
            remedy = Remedy(
                text="the kubeconfig or the service account has to lead to a running API server",
                command="kubectl get --raw /version",
            )
            yield failure(what, why, remedy)
        case ClusterVersion(version=version, minor=minor) if parsed(minor) < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            why = f"{version}, and Kip is made for {oldest} and newer"
            yield warning(what, why, Remedy(text=f"bring the cluster to {oldest} or newer"))
        case ClusterVersion(version=version):
            yield ok(what, f"{version} at {facts.server}")


def parsed(minor: str) -> tuple[int, int]:
    """`1.36` as numbers."""
    major, _, rest = minor.partition(".")
    return int(major), int(rest)


def cell_type(facts: Facts) -> Iterator[Finding]:
    """Kip keeps all that it knows in Cells."""
    found = facts.cell_type
    if isinstance(found, Unanswered):
        if found.reason == "missing":
            yield failure(_TYPE, f"{GROUP}/{VERSION} is not served: {found.why}", _APPLY_CRDS)
        else:
            yield not_known(facts, _TYPE, found)
        return
    lacking = list(_lacking(shipped_schema(), found.schema, ""))
    if lacking:
        some = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3} more" if len(lacking) > 3 else "")
        yield failure(_TYPE, f"what is installed is of an older Kip: it lacks {some}", _APPLY_CRDS)
    else:
        yield ok(_TYPE, f"{GROUP}/{VERSION} is served and has all fields")


def shipped_schema() -> Mapping[str, Any]:
    definition = yaml.safe_load((files("kip") / "crds" / "cells.yaml").read_text(encoding="utf-8"))
    (version,) = (v for v in definition["spec"]["versions"] if v["name"] == VERSION)
    schema: Mapping[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def _lacking(ours: Mapping[str, Any], theirs: Mapping[str, Any], path: str) -> Iterator[str]:
    """Fields and values of ours that the other schema does not know. More than ours is fine: a newer one serves us too."""
    for value in ours.get("enum") or ():
        if "enum" in theirs and value not in theirs["enum"]:
            yield f"{path}={value}"
    if "items" in ours:
        yield from _lacking(ours["items"], theirs.get("items") or {}, f"{path}[]")
    for name, schema in (ours.get("properties") or {}).items():
        if not path and name in ("apiVersion", "kind", "metadata"):
            continue  # every type has them, and they are published in another way
        below = f"{path}.{name}".lstrip(".")
        if name not in (theirs.get("properties") or {}):
            yield below
        else:
            yield from _lacking(schema, theirs["properties"][name], below)


def rbac(facts: Facts) -> Iterator[Finding]:
    """What deploy/kustomize/base/rbac.yaml gives, for the configured namespace and nodes."""
    access = facts.access
    if isinstance(access, Unanswered):
        yield not_known(facts, _RBAC, access)
        return
    if not access.missing:
        yield ok(_RBAC, f"{access.subject} has all {access.asked} permissions")
        return
    by_rule = _by_rule(access)
    if len(by_rule) > _MOST_LINES:
        why = f"{access.subject} lacks {len(access.missing)} of {access.asked} permissions"
        yield failure(_RBAC, why, _apply_rbac(facts))
        return
    for missing in by_rule:
        yield failure(_RBAC, f"{access.subject} may not {_told(missing)}", _grant(facts, missing))


def _by_rule(access: Access) -> list[list[Permission]]:
    """Together what differs by the verb or the name only."""
    found: dict[tuple[str, str, str, str], list[Permission]] = {}
    for permission in access.missing:
        # The rules with names have one for each virtual node.
        key = (
            permission.group,
            permission.resource,
            permission.namespace,
            "named" if permission.name else "",
        )
        found.setdefault(key, []).append(permission)
    return list(found.values())


def _told(missing: list[Permission]) -> str:
    first = missing[0]
    verbs = ", ".join(dict.fromkeys(p.verb for p in missing))
    names = ", ".join(dict.fromkeys(p.name for p in missing if p.name))
    resource = f"{first.resource}.{first.group}" if first.group else first.resource
    return f"{verbs} {resource}{f' {names}' if names else ''}{f' in {first.namespace}' if first.namespace else ''}"


def _apply_rbac(facts: Facts) -> Remedy:
    fallback = (
        " deploy/kustomize/base/rbac-fallback.yaml" if not facts.settings.cluster.impersonate_node else ""
    )
    return Remedy(
        text=f"apply deploy/kustomize/base/rbac.yaml{fallback and ' and' + fallback} for the namespace "
        f"{facts.settings.cluster.namespace}; deploy.sh and the chart do",
        command=f"kubectl apply -f deploy/kustomize/base/rbac.yaml{fallback and ' -f' + fallback}",
    )


def _grant(facts: Facts, missing: list[Permission]) -> Remedy:
    """The rule that is lacking; the shipped file has it, unless it is about nodes that the file does not name."""
    first = missing[0]
    rule: dict[str, Any] = {
        "apiGroups": [first.group],
        "resources": [first.resource],
        "verbs": sorted({p.verb for p in missing}),
    }
    names = sorted({p.name for p in missing if p.name})
    if names:
        rule["resourceNames"] = names
    kind = (
        f"the Role kip-provider in {first.namespace}" if first.namespace else "the ClusterRole kip-provider"
    )
    text = f"add to {kind}: {yaml.safe_dump(rule, default_flow_style=True, width=10_000, sort_keys=False).strip()}"
    return Remedy(text=text, command=_apply_rbac(facts).command)


def dns(facts: Facts) -> Iterator[Finding]:
    """Pods on cells are told where it is."""
    what = "cluster DNS"
    if not isinstance(facts.dns, Unanswered):
        yield (
            ok(what, ", ".join(facts.dns))
            if facts.dns
            else failure(
                what,
                "the Service kube-system/kube-dns has no IPv4 address",
                Remedy(text="set cluster.dns in provider.yaml"),
            )
        )
    elif facts.dns.reason in ("missing", "refused"):
        remedy = Remedy(
            text="set cluster.dns in provider.yaml to its addresses",
            command="kubectl get services --all-namespaces -l k8s-app=kube-dns",
        )
        yield failure(what, facts.dns.why, remedy)
    else:
        yield not_known(facts, what, facts.dns)


def virtual_nodes(facts: Facts) -> Iterator[Finding]:
    """A Node of that name which somebody else made is not Kip's to write."""
    what = "virtual nodes"
    if isinstance(facts.nodes, Unanswered) or isinstance(facts.cluster, Unanswered):
        missing = next(fact for fact in (facts.nodes, facts.cluster) if isinstance(fact, Unanswered))
        yield not_known(facts, what, missing)
        return
    foreign = {
        name: found for name, found in facts.nodes.items() if found != provider_id(facts.cluster, name)
    }
    for name, found in foreign.items():
        yield failure(
            what,
            f"there is a Node {name} with the provider ID {found or '(none)'}, not {provider_id(facts.cluster, name)}",
            Remedy(
                text="it is another machine's, or of a Kip with another cluster.name: set kubelet.nodeNamePrefix or "
                "cluster.name in provider.yaml, or remove the Node if nothing uses it",
                command=f"kubectl get node {name} -o wide",
            ),
        )
    if not foreign:
        names = facts.settings.kubelet.node_names
        yield ok(
            what, f"{', '.join(names)}: {len(facts.nodes)} of {len(names)} there, the rest is made by Kip"
        )
