"""The doctor's look at a real cluster, whole and broken."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "doubles"))

from patient import told

from kip.config import Settings
from kip.doctor.asking import Asking
from kip.doctor.facts import Facts
from kip.doctor.look.cluster import look_at_cluster
from kip.kube.client import ApiClient
from kip.kube.errors import NotFound
from kip.kube.waiting import when_available
from kip.model.clock import SystemClock
from kip.model.names import GROUP, VERSION

pytestmark = pytest.mark.integration

OPERATOR = "system:serviceaccount:kip:kip-provider"
CRD = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/cells.{GROUP}"
CHECKS = {"api-server", "cell-type", "rbac", "virtual-nodes", "clock"}


async def look(
    kubeconfig: Path, *, in_cluster: bool = False, **kubelet: Any
) -> list[tuple[str, str, str, str]]:
    """What is said against the cluster, as far as these tests are about it."""
    settings = Settings.model_validate({"cluster": {"name": "blue"}, "kubelet": kubelet})
    api = await ApiClient.connect(kubeconfig)
    try:
        facts = Facts(settings=settings, in_cluster=in_cluster)
        facts = await look_at_cluster(facts, Asking(30), api, SystemClock())
    finally:
        await api.close()
    return [line for line in told(facts) if line[0] in CHECKS]


@pytest.fixture
async def admin(control_plane: Any) -> AsyncIterator[ApiClient]:
    client = await ApiClient.connect(control_plane.kubeconfig)
    await until_served(client)
    yield client
    await client.close()


async def until_served(client: ApiClient) -> None:
    """Wait until Cells are served, and their schema is published.

    A definition that has just been changed is not served for a while: the API server answers 429, or 404.
    """
    clock = SystemClock()
    deadline = clock.monotonic() + 60
    for path in (f"/apis/{GROUP}/{VERSION}/cells", f"/openapi/v3/apis/{GROUP}/{VERSION}"):
        while (
            reply := await when_available(partial(client.request, "GET", path), clock, what=path)
        ).status != 200:
            assert clock.monotonic() < deadline, f"{path} is not served: {reply.status}"
            await clock.sleep(0.1)


async def test_the_operator_finds_all_that_it_needs(control_plane: Any, admin: ApiClient) -> None:
    assert await look(control_plane.world.operator_kubeconfig, in_cluster=True, nodes=4) == []


async def test_somebody_else_finds_all_that_the_operator_needs(control_plane: Any, admin: ApiClient) -> None:
    assert await look(control_plane.kubeconfig, nodes=4) == []


async def test_more_nodes_than_the_permissions_name(control_plane: Any, admin: ApiClient) -> None:
    found = await look(control_plane.kubeconfig, nodes=6)
    assert {(check, status) for check, status, *_ in found} == {("rbac", "failure")}
    (status_line,) = [line for line in found if "nodes/status" in line[2]]
    assert f"{OPERATOR} may not patch nodes/status kip-provider-4, kip-provider-5" in status_line[2]
    assert "resourceNames: [kip-provider-4, kip-provider-5]" in status_line[3]
    assert any("impersonate users system:node:kip-provider-4" in line[2] for line in found)


async def test_somebody_without_rights_is_told_their_own(control_plane: Any, admin: ApiClient) -> None:
    found = await look(control_plane.client_kubeconfig("a-nobody"))
    ((_, status, text, mend),) = [line for line in found if line[0] == "rbac"]
    assert status == "failure"
    assert text.startswith("RBAC: a-nobody lacks ")
    assert "kubectl apply -f deploy/kustomize/base/rbac.yaml" in mend
    # What may not be looked at is not known.
    assert {line[1] for line in found if line[0] == "virtual-nodes"} == {"unknown"}


async def test_a_node_of_somebody_elses(control_plane: Any, admin: ApiClient) -> None:
    node = {"metadata": {"name": "edge-0"}, "spec": {"providerID": "aws:///us-east-1a/i-0123"}}
    await admin.create("/api/v1/nodes", node)
    try:
        found = await look(control_plane.kubeconfig, nodeNamePrefix="edge")
    finally:
        with suppress(NotFound):
            await admin.delete("/api/v1/nodes/edge-0")
    (line,) = [line for line in found if line[0] == "virtual-nodes"]
    assert "a Node edge-0 with the provider ID aws:///us-east-1a/i-0123, not kip://blue/edge-0" in line[2]


@pytest.fixture
async def definition(admin: ApiClient) -> AsyncIterator[Callable[[list[dict[str, Any]]], Awaitable[None]]]:
    """Changes the definition of Cell; it is put back, and served, afterwards."""
    before = (await admin.get(CRD))["spec"]["versions"]

    async def change(operations: list[dict[str, Any]]) -> None:
        await admin.patch(CRD, operations, content_type="application/json-patch+json")

    yield change
    await change([{"op": "replace", "path": "/spec/versions", "value": before}])
    await until_served(admin)


async def until_told(kubeconfig: Path, words: str) -> tuple[str, str, str, str]:
    """The line about the type, once what is published has followed the change."""
    clock = SystemClock()
    deadline = clock.monotonic() + 60
    while True:
        lines = [line for line in await look(kubeconfig) if line[0] == "cell-type"]
        if lines and words in lines[0][2]:
            return lines[0]
        assert clock.monotonic() < deadline, lines
        await clock.sleep(0.25)


async def test_the_type_of_an_older_kip(control_plane: Any, definition: Any) -> None:
    path = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/cloudRoutes"
    await definition([{"op": "remove", "path": path}])
    _, status, text, mend = await until_told(control_plane.kubeconfig, "status.cloudRoutes")
    assert status == "failure"
    assert "is of an older Kip: it lacks status.cloudRoutes" in text
    assert "kubectl apply --server-side --force-conflicts -f crds/cells.yaml" in mend


async def test_a_type_that_is_not_served(control_plane: Any, definition: Any) -> None:
    await definition([{"op": "replace", "path": "/spec/versions/0/served", "value": False}])
    _, status, text, _ = await until_told(control_plane.kubeconfig, "is not served")
    assert status == "failure"
    assert f"{GROUP}/{VERSION} is not served" in text


def test_the_command_as_an_init_container_runs_it(
    control_plane: Any, admin: ApiClient, tmp_path: Path
) -> None:
    provider = tmp_path / "provider.yaml"
    provider.write_text(
        "cloud: {aws: {region: us-east-1, vpcID: vpc-1, endpointURL: 'http://127.0.0.1:9', accessKeyID: a, "
        "secretAccessKey: b}}\ncluster: {name: blue, dns: [10.96.0.10]}\nkubelet: {nodeIP: 127.0.0.1}\n"
    )
    command = [
        sys.executable, "-m", "kip.cli", "doctor", "--in-cluster", "--config", str(provider), "--timeout", "20",
        "--kubeconfig", str(control_plane.world.operator_kubeconfig), "-o", "json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    found = {line["check"]: line["status"] for line in json.loads(done.stdout)["findings"]}
    assert (done.returncode, done.stderr) == (0, "")
    for check in ("configuration", "api-server", "cell-type", "rbac", "dns", "virtual-nodes", "place"):
        assert found[check] == "ok", done.stdout
