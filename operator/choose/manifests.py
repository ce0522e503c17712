"""Manifests, as one would give them to kubectl → the pods in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from kip.config.problems import dotted

#: Kind → where its pods' template is, and where their number.
_TEMPLATES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Deployment": (("spec", "template"), ("spec", "replicas")),
    "ReplicaSet": (("spec", "template"), ("spec", "replicas")),
    "ReplicationController": (("spec", "template"), ("spec", "replicas")),
    "StatefulSet": (("spec", "template"), ("spec", "replicas")),
    "DaemonSet": (("spec", "template"), ()),
    "Job": (("spec", "template"), ("spec", "parallelism")),
    "CronJob": (("spec", "jobTemplate", "spec", "template"), ("spec", "jobTemplate", "spec", "parallelism")),
    "PodTemplate": (("template",), ()),
}


class _Loader(yaml.SafeLoader):
    """Takes what looks like a time for text, as kubectl does: JSON has no times."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as the base class has it
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class ManifestError(Exception):
    """The text is no manifest; the message says where and what was expected."""


@dataclass(frozen=True)
class Workload:
    """Something that makes pods, or a pod itself."""

    kind: str
    name: str
    namespace: str
    pod: Mapping[str, Any]
    """One of its pods, as far as the manifest says it."""
    count: int = 1

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Skipped:
    """An object without pods."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name} has no pods"


def read(text: str) -> list[Workload | Skipped]:
    """Every object of the documents, in their order; raises ManifestError."""
    return [found for line, document in _documents(text) for found in _objects(document, f"line {line}")]


def _documents(text: str) -> Iterator[tuple[int, Any]]:
    try:
        loader = _Loader(text)
        while loader.check_node():
            node = loader.get_node()
            if node is not None:
                yield node.start_mark.line + 1, loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        raise ManifestError(f"{f'line {mark.line + 1}: ' if mark else ''}is not YAML: {reason}") from error
    except yaml.reader.ReaderError as error:
        raise ManifestError(f"is not YAML: {error.reason}") from error


def _objects(document: Any, place: str) -> Iterator[Workload | Skipped]:
    if document is None:
        return
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        raise ManifestError(f"{place}: expected an object with a kind")
    kind = document["kind"]
    if kind.endswith("List") and isinstance(document.get("items"), list):
        for position, item in enumerate(document["items"]):
            # In a list of one kind the API server leaves the kind of its items out.
            inner = {"kind": kind.removesuffix("List"), **item} if isinstance(item, dict) else item
            yield from _objects(inner, f"{place}: items[{position}]")
        return
    yield _object(kind, document, place)


def _object(kind: str, document: dict[str, Any], place: str) -> Workload | Skipped:
    metadata = document.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise ManifestError(f"{place}: metadata: expected an object")
    name = str(metadata.get("name") or metadata.get("generateName") or "(without name)")
    namespace = str(metadata.get("namespace") or "")
    if kind == "Pod":
        return Workload(kind, name, namespace, _pod(document, name, namespace, f"{place}: {kind} {name}", ()))
    if kind not in _TEMPLATES:
        return Skipped(kind, name)
    at, number = _TEMPLATES[kind]
    place = f"{place}: {kind} {name}"
    template = _dig(document, at, place)
    pod = _pod(template, name, namespace, place, at)
    if kind == "DaemonSet":
        owner = {"controller": True, "kind": kind, "name": name}
        pod = {**pod, "metadata": {**pod["metadata"], "ownerReferences": [owner]}}
    count = _dig(document, number, place) if number else None
    return Workload(kind, name, namespace, pod, count if isinstance(count, int) else 1)


def _dig(value: Any, path: tuple[str, ...], place: str) -> Any:
    for position, key in enumerate(path):
        if value is None:
            return None
        if not isinstance(value, dict):
            raise ManifestError(f"{place}: {'.'.join(path[:position])}: expected an object")
        value = value.get(key)
    return value


def _pod(found: Any, name: str, namespace: str, place: str, at: tuple[str, ...]) -> dict[str, Any]:
    """The pod, checked as far as we look at it: the rest is the API server's business."""
    try:
        _Pod.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = dotted((*at, *first["loc"])) or "the object"
        raise ManifestError(f"{place}: {path}: {_expected(first['type'], first['msg'])}") from error
    metadata = {"name": name, "namespace": namespace or "default", **(found.get("metadata") or {})}
    return {"metadata": metadata, "spec": found["spec"]}


def _expected(kind: str, message: str) -> str:
    match kind:
        case "missing":
            return "missing"
        case "string_type":
            return "expected text (in quotes, if it looks like something else)"
        case "model_type" | "dict_type":
            return "expected an object"
        case "list_type":
            return "expected a list"
        case _:
            return message


class _Part(BaseModel):
    """A part of a pod that is read; what is not named here is not looked at."""

    model_config = ConfigDict(extra="ignore", alias_generator=to_camel)


class _Metadata(_Part):
    annotations: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class _Resources(_Part):
    requests: dict[str, str | int | float] | None = None
    limits: dict[str, str | int | float] | None = None


class _Container(_Part):
    name: str = ""
    resources: _Resources | None = None


class _Expression(_Part):
    key: str
    operator: str
    values: list[str] | None = None


class _SelectorTerm(_Part):
    match_expressions: list[_Expression] | None = None


class _Required(_Part):
    node_selector_terms: list[_SelectorTerm] | None = None


class _NodeAffinity(_Part):
    required_during_scheduling_ignored_during_execution: _Required | None = None


class _Affinity(_Part):
    node_affinity: _NodeAffinity | None = None


class _LabelSelector(_Part):
    match_labels: dict[str, str] | None = None
    match_expressions: list[_Expression] | None = None


class _Spread(_Part):
    max_skew: int = 1
    topology_key: str
    min_domains: int | None = None
    match_label_keys: list[str] | None = None
    label_selector: _LabelSelector | None = None


class _Spec(_Part):
    containers: list[_Container]
    init_containers: list[_Container] | None = None
    resources: _Resources | None = None
    overhead: dict[str, str | int | float] | None = None
    node_selector: dict[str, str] | None = None
    affinity: _Affinity | None = None
    topology_spread_constraints: list[_Spread] | None = None
    volumes: list[dict[str, Any]] | None = None
    resource_claims: list[dict[str, Any]] | None = None
    os: dict[str, Any] | None = None


class _Pod(_Part):
    metadata: _Metadata | None = None
    spec: _Spec
