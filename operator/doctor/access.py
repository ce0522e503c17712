"""What the operator must be allowed to do in the cluster: by deploy/kustomize/base/rbac.yaml, for this configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

from kip.config import Settings

#: As the manifests and the chart call it.
SERVICE_ACCOUNT = "kip-provider"
_SHIPPED_NAMESPACE = "kip"
_SHIPPED_PREFIX = "kip-provider-"
_SIGNERS = "signers"


@dataclass(frozen=True, order=True)
class Permission:
    """One thing that is asked of the API server."""

    group: str
    resource: str
    """With its subresource, like `pods/status`."""
    verb: str
    namespace: str = ""
    """Empty for all, and for what is in none."""
    name: str = ""
    """Empty for any."""

    @property
    def attributes(self) -> dict[str, str]:
        """As a review of access wants it."""
        resource, _, subresource = self.resource.partition("/")
        return {
            "group": self.group,
            "resource": resource,
            "subresource": subresource,
            "verb": self.verb,
            "namespace": self.namespace,
            "name": self.name,
        }


@dataclass(frozen=True)
class Access:
    """Who was asked about, and what they may not do."""

    subject: str
    asked: int
    """How many permissions."""
    missing: tuple[Permission, ...]


def service_account(settings: Settings) -> str:
    """The operator's user name."""
    return f"system:serviceaccount:{settings.cluster.namespace}:{SERVICE_ACCOUNT}"


def needed(settings: Settings) -> tuple[Permission, ...]:
    """Every permission that deploy/kustomize/base/rbac.yaml gives, for the namespace and nodes of this configuration."""
    names = ["rbac.yaml"] if settings.cluster.impersonate_node else ["rbac.yaml", "rbac-fallback.yaml"]
    manifests = files("kip") / "deploy" / "kustomize" / "base"
    found: set[Permission] = set()
    for name in names:
        for document in yaml.safe_load_all((manifests / name).read_text(encoding="utf-8")):
            for rule in document.get("rules") or ():
                found.update(_of_rule(rule, _namespace(document, settings), settings))
    return tuple(sorted(found))


def _namespace(document: Mapping[str, Any], settings: Settings) -> str:
    shipped: str = document["metadata"].get("namespace", "")
    return settings.cluster.namespace if shipped == _SHIPPED_NAMESPACE else shipped


def _of_rule(rule: Mapping[str, Any], namespace: str, settings: Settings) -> Iterator[Permission]:
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            for verb in rule["verbs"]:
                if verb == "impersonate" and not settings.cluster.impersonate_node:
                    continue
                for name in _names(rule, resource, settings):
                    yield Permission(group, resource, verb, namespace, name)


def _names(rule: Mapping[str, Any], resource: str, settings: Settings) -> list[str]:
    """The names that a rule is about: those of the shipped virtual nodes stand for those of the configured ones."""
    if resource == _SIGNERS:
        return [settings.kubelet.serving_certificate.signer_name]
    shipped: list[str] = rule.get("resourceNames") or [""]
    first = next((name for name in shipped if _SHIPPED_PREFIX in name), None)
    if first is None:
        return shipped
    before = first.partition(_SHIPPED_PREFIX)[0]
    return [f"{before}{node}" for node in settings.kubelet.node_names]
