"""What is put into the cluster once its API server answers: Kip's types, its namespace, its permissions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from kip.local.api import Api, Object
from kip.local.parts import Part
from kip.local.pki import KUBELET_CLIENT, ControlPlanePki
from kip.local.world import World, WorldError

OPERATOR_NAMESPACE = "kip"
OPERATOR_ACCOUNT = "kip-provider"

_CRD = "CustomResourceDefinition"
# Kinds that others refer to come first; the rest follows in the order of the files.
_FIRST = ("Namespace", _CRD, "ServiceAccount")

_NAMESPACE: Object = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR_NAMESPACE}}
_DEFAULT_ACCOUNT: Object = {
    "apiVersion": "v1",
    "kind": "ServiceAccount",
    "metadata": {"name": "default", "namespace": "default"},
}
_APISERVER_TO_KUBELETS: Object = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "kip-local:apiserver-to-kubelets"},
    "roleRef": {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole",
        "name": "system:kubelet-api-admin",
    },
    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": KUBELET_CLIENT}],
}


class Access(Part):
    """What the local cluster itself needs: the API server may ask kubelets, and pods may be made."""

    name = "access"
    needs = ("apiserver", "controller-manager")

    def __init__(self, world: World) -> None:
        self.world = world

    def start(self) -> None:
        """Applies the one binding."""
        Api(self.world).apply(_APISERVER_TO_KUBELETS)

    def missing(self) -> str | None:
        """Pods of the default namespace are refused until its service account is there."""
        there = Api(self.world).read(_DEFAULT_ACCOUNT)
        return None if there else "the service account default/default has not been made"


class Cluster(Part):
    """Kip's own objects, from the same files that a real cluster gets."""

    name = "cluster"
    needs = ("access",)

    def __init__(self, world: World) -> None:
        self.world = world
        self._manifests = [_NAMESPACE, *sorted(read_manifests(_directories()), key=_rank)]

    def start(self) -> None:
        """Applies everything and writes the operator's kubeconfig."""
        api = Api(self.world)
        for manifest in self._manifests:
            api.apply(manifest)
        user = f"system:serviceaccount:{OPERATOR_NAMESPACE}:{OPERATOR_ACCOUNT}"
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{OPERATOR_NAMESPACE}"]
        ControlPlanePki(self.world).kubeconfig(self.world.operator_kubeconfig, user, groups)

    def missing(self) -> str | None:
        """Types that are not served yet."""
        api = Api(self.world)
        for manifest in self._manifests:
            if manifest["kind"] == _CRD and (seen := unestablished(api.read(manifest))):
                return f"{manifest['metadata']['name']}: {seen}"
        return None


def _rank(manifest: Object) -> int:
    return _FIRST.index(manifest["kind"]) if manifest["kind"] in _FIRST else len(_FIRST)


def _directories() -> Iterator[Path]:
    """`crds/` and `deploy/kustomize/base/`: beside the package in a checkout, inside it when installed."""
    package = Path(str(resources.files("kip.local"))).resolve().parent
    for name in ("crds", "deploy/kustomize/base"):
        yield next(
            (path for path in (package.parent / name, package / name) if path.is_dir()), package / name
        )


def read_manifests(directories: Iterable[Path]) -> Iterator[Object]:
    """The types in `crds/`, the operator's account and permissions in `deploy/kustomize/base/`, where there.

    Raises:
        WorldError: a file is not YAML, or holds something that is no Kubernetes object.
    """
    for directory in directories:
        for path in sorted(found for found in directory.glob("*.yaml") if _is_wanted(found)):
            try:
                documents = [document for document in yaml.safe_load_all(path.read_text()) if document]
            except yaml.YAMLError as error:
                raise WorldError(f"{path} is not YAML: {error}") from error
            for document in documents:
                _check(document, path)
                yield document


def _is_wanted(path: Path) -> bool:
    if path.parent.name == "base":
        return path.name in {"rbac.yaml", "serviceaccount.yaml"}
    return path.name != "kustomization.yaml"


def _check(document: Any, path: Path) -> None:
    if not (isinstance(document, dict) and {"apiVersion", "kind", "metadata"} <= document.keys()):
        raise WorldError(
            f"{path}: expected Kubernetes objects, found {json.dumps(document, default=str)[:80]}"
        )


def unestablished(definition: Object | None) -> str | None:
    """Why a CustomResourceDefinition is not served yet; None when it is."""
    if definition is None:
        return "not there"
    conditions = {found["type"]: found for found in definition.get("status", {}).get("conditions", [])}
    established = conditions.get("Established", {})
    if established.get("status") == "True":
        return None
    told = conditions.get("NamesAccepted", established).get("message")
    return told or "not established yet"
