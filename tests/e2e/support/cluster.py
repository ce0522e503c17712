"""The world's cluster as a user sees it: kubectl, and the API for looks that are repeated often."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kip.local.api import Api
from kip.local.build import KUBERNETES, program
from kip.local.world import World

Object = dict[str, Any]

_PATIENCE = 60.0  # seconds for one kubectl command
_NOT_FOUND = 404
_GROUPS = {
    "api/v1": "configmaps endpoints events namespaces nodes pods secrets serviceaccounts services",
    "apis/apps/v1": "deployments replicasets statefulsets daemonsets",
    "apis/batch/v1": "jobs",
    "apis/coordination.k8s.io/v1": "leases",
    "apis/discovery.k8s.io/v1": "endpointslices",
    "apis/certificates.k8s.io/v1": "certificatesigningrequests",
    "apis/kip.elotl.co/v1beta1": "cells",
}
_BASES = {resource: base for base, resources in _GROUPS.items() for resource in resources.split()}


class KubectlError(AssertionError):
    """kubectl ended with another code than 0; the message has what it printed."""


class Cluster:
    """One cluster, as its administrator."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._api = Api(world)

    @property
    def environment(self) -> dict[str, str]:
        """For programs of one's own that shall speak to the cluster."""
        return {**os.environ, "KUBECONFIG": str(self._world.kubeconfig)}

    @staticmethod
    def kubectl_program() -> Path:
        """kubectl of the cluster's version."""
        return program(KUBERNETES, "kubectl")

    def kubectl(
        self,
        *arguments: str,
        input: str | None = None,  # noqa: A002 (subprocess's word)
        check: bool = True,
        timeout: float = _PATIENCE,
    ) -> subprocess.CompletedProcess[str]:
        """Runs kubectl; `timeout` in seconds. Raises KubectlError unless it ends with 0 or `check` is false."""
        done = subprocess.run(
            [str(self.kubectl_program()), *arguments],
            input=input if input is not None else "",
            capture_output=True,
            text=True,
            errors="replace",
            env=self.environment,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode != 0:
            command = " ".join(["kubectl", *arguments])
            raise KubectlError(f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    @contextlib.contextmanager
    def going_on(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """kubectl as a process that goes on until the block's end; its standard streams are pipes."""
        with subprocess.Popen(
            [str(self.kubectl_program()), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=self.environment,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def get(self, resource: str, name: str, namespace: str | None = None) -> Object | None:
        """The object, e.g. `get("pods", "web", "shop")`; None when there is none."""
        return self._ask(resource, namespace, f"/{name}")

    def list(self, resource: str, namespace: str | None = None) -> list[Object]:
        """The objects of a namespace, or all of them."""
        found = self._ask(resource, namespace, "")
        assert found is not None, f"the cluster has no {resource}"
        items: list[Object] = found["items"]
        return items

    def apply(self, *manifests: Mapping[str, Any]) -> None:
        """Applies the manifests as they are, with kubectl."""
        bundle = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.kubectl("apply", "-f", "-", input=json.dumps(bundle))

    def events(self, namespace: str, about: str | None = None) -> list[Object]:
        """The namespace's events, oldest first; only those about the object of this name if one is given."""
        found = self.list("events", namespace)
        found.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
        return [event for event in found if about in (None, event["involvedObject"].get("name"))]

    def raw(self, path: str) -> tuple[int, str]:
        """Status and body of a GET of the API server."""
        return self._api.get(path)

    def _ask(self, resource: str, namespace: str | None, rest: str) -> Object | None:
        within = f"/namespaces/{namespace}" if namespace else ""
        path = f"/{_BASES[resource]}{within}/{resource}{rest}"
        status, body = self._api.get(path)
        if status == _NOT_FOUND:
            return None
        assert status < 400, f"GET {path}: {status} {body}"
        found: Object = json.loads(body)
        return found


def owned(objects: Iterable[Object], key: str, value: str) -> list[Object]:
    """The objects with this label."""
    return [found for found in objects if found["metadata"].get("labels", {}).get(key) == value]
