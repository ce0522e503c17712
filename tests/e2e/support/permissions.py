"""What was allowed and what of it was used: RBAC by the API server's audit log, IAM by the local AWS's list of calls."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Object = Mapping[str, Any]


@dataclass(frozen=True, order=True)
class Permission:
    """A verb on a resource; in one namespace, or everywhere."""

    verb: str
    group: str
    resource: str
    """With its subresource: `pods/status`."""
    namespace: str = ""

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.resource}{'.' + self.group if self.group else ''}{where}"


@dataclass
class Used:
    """What a service account has asked for."""

    permissions: set[Permission] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)


def audit_policy(namespace: str, account: str) -> str:
    """Notes every request of that service account, and no other; without bodies."""
    user = f"system:serviceaccount:{namespace}:{account}"
    rules = [{"level": "Metadata", "users": [user], "omitStages": ["RequestReceived"]}, {"level": "None"}]
    return json.dumps({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules})


def used(audit_log: Path, granted: Iterable[Permission]) -> Used:
    """What the log says was asked for; a request that is allowed in its namespace counts as that."""
    known, found = set(granted), Used()
    for line in audit_log.read_text().splitlines():
        event = json.loads(line)
        for permission in _asked(event):
            everywhere = Permission(permission.verb, permission.group, permission.resource)
            found.permissions.add(permission if permission in known else everywhere)
        if (event.get("responseStatus") or {}).get("code") == 403:
            found.refused.append(f"{event['verb']} {event['requestURI']}")
    return found


def _asked(event: Object) -> Iterator[Permission]:
    """Requests that the rules of RBAC are about; `/version` and its like are everybody's."""
    if (acting := event.get("impersonatedUser")) is not None:
        yield Permission("impersonate", "", "users")
        if acting.get("groups"):
            yield Permission("impersonate", "", "groups")
        return
    about = event.get("objectRef") or {}
    if "resource" in about:
        resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
        yield Permission(event["verb"], about.get("apiGroup", ""), resource, about.get("namespace", ""))


def granted(objects: Iterable[Object]) -> set[Permission]:
    """What ClusterRoles and Roles allow."""
    return {
        Permission(verb, group, resource, o["metadata"].get("namespace", ""))
        for o in objects
        if o["kind"] in ("ClusterRole", "Role")
        for rule in o["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
