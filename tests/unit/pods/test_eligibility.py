"""Whose a pod is, and whether a cell can serve it."""

from __future__ import annotations

from typing import Any

import pytest

from kip.bootstrap import layout
from kip.pods import eligibility
from kip.pods.eligibility import Verdict, judge

NODES = ("kip-0", "kip-1")
TOKEN = {"serviceAccountToken": {"path": "token"}}


def pod(
    spec: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "metadata": {"name": "web", "namespace": "shop", **(metadata or {})},
        "spec": {"nodeName": "kip-0", "containers": [{"name": "c"}], **(spec or {})},
        "status": status or {},
    }


def refused(subject: dict[str, Any], **options: Any) -> tuple[str, str] | None:
    return judge(subject, nodes=NODES, **options).refusal


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"hostNetwork": True, "hostPID": True},
        {"os": {"name": "linux"}},
        {
            "volumes": [
                {"name": "v", "persistentVolumeClaim": {"claimName": "c"}},
                {"name": "e", "emptyDir": {}},
                {"name": "t", "projected": {"sources": [TOKEN, {"configMap": {"name": "ca"}}]}},
            ]
        },
        {"containers": [{"name": "c", "resources": {"requests": {"hugepages-2Mi": "4Mi"}}}]},
        {"containers": [{"name": "c", "resources": {"requests": {"hugepages-64Ki": "0"}}}]},
        {"nodeName": "kip-1"},
        {"containers": [{"name": "c", "ports": [{"containerPort": 22}, {"hostPort": 2222}]}]},
        {"containers": [{"name": "c", "ports": [{"hostPort": 22, "protocol": "UDP"}]}]},
    ],
)
def test_served(spec: dict[str, Any]) -> None:
    verdict = judge(pod(spec), nodes=NODES)
    assert verdict == Verdict("serve", "Accepted", "the pod gets a cell")
    assert verdict.refusal is None


@pytest.mark.parametrize(
    ("subject", "reason", "message"),
    [
        (pod({"nodeName": "ip-10-0-0-1"}), "NotOurs", "the pod is bound to ip-10-0-0-1"),
        (pod({"nodeName": None}), "NotOurs", "the pod is bound to no node"),
        (pod(status={"phase": "Succeeded"}), "Finished", "the pod has ended"),
        (pod(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}), "Deleted", "the pod is being deleted"),
        # Nothing is said about pods of others, whatever is wrong with them.
        (pod({"nodeName": "n", "os": {"name": "windows"}}), "NotOurs", "the pod is bound to n"),
    ],
)
def test_ignored(subject: dict[str, Any], reason: str, message: str) -> None:
    assert judge(subject, nodes=NODES) == Verdict("ignore", reason, message)
    assert refused(subject) is None


DAEMON = {"ownerReferences": [{"kind": "DaemonSet", "name": "agent", "controller": True}]}


def test_daemon_sets() -> None:
    assert refused(pod(metadata=DAEMON)) == (
        "DaemonSetPod",
        "pods of DaemonSets get no cell: DaemonSet agent would cost an instance on every virtual node. Keep it off "
        "virtual nodes with a node affinity for type NotIn (virtual-kubelet), or set cells.allowDaemonSets",
    )
    assert refused(pod(metadata=DAEMON), allow_daemon_sets=True) is None


def test_only_the_controller_makes_a_pod_a_daemon_sets() -> None:
    owners = [
        {"kind": "DaemonSet", "name": "agent"},
        {"kind": "ReplicaSet", "name": "web", "controller": True},
    ]
    assert refused(pod(metadata={"ownerReferences": owners})) is None


def with_port(where: str, **port: Any) -> dict[str, Any]:
    return pod({where: [{"name": "jump", "ports": [{"containerPort": 2222}, port]}]})


@pytest.mark.parametrize("where", ["containers", "initContainers"])
@pytest.mark.parametrize("protocol", [{}, {"protocol": "TCP"}])
def test_the_port_by_which_kip_reaches_the_cell_is_not_to_be_had(where: str, protocol: Any) -> None:
    assert refused(with_port(where, containerPort=2222, hostPort=22, **protocol)) == (
        "Unsupported",
        "container jump wants hostPort 22/TCP, by which Kip itself reaches the cell: choose another one",
    )


def test_that_port_is_the_one_that_kip_dials() -> None:
    assert eligibility.SSH_PORT == layout.SSH_PORT


def with_volume(**volume: Any) -> dict[str, Any]:
    return pod({"volumes": [{"name": "data", **volume}]})


@pytest.mark.parametrize(
    ("subject", "reason", "message"),
    [
        (
            pod(metadata={"annotations": {"kubernetes.io/config.mirror": "x"}}),
            "Unsupported",
            "static pods run only where their file is; a virtual node has none",
        ),
        (
            pod(metadata={"annotations": {"kubernetes.io/config.source": "file"}}),
            "Unsupported",
            "static pods run only where their file is; a virtual node has none",
        ),
        (
            pod({"os": {"name": "windows"}}),
            "Unsupported",
            "cells run Linux, and the pod's spec.os.name is windows",
        ),
        (
            pod({"containers": [{"name": "c", "resources": {"requests": {"hugepages-64Ki": "4Mi"}}}]}),
            "Unsupported",
            "cells have huge pages of 2Mi and 1Gi, and the pod requests hugepages-64Ki",
        ),
        (
            with_volume(csi={"driver": "secrets-store.csi.k8s.io"}),
            "Unsupported",
            "volume data needs the CSI driver secrets-store.csi.k8s.io, and cells have no CSI drivers",
        ),
        (
            with_volume(awsElasticBlockStore={"volumeID": "v"}),
            "Unsupported",
            "volume data is of the kind awsElasticBlockStore, which no kubelet supports any more",
        ),
        (
            with_volume(projected={"sources": [TOKEN, {"podCertificate": {"signerName": "s"}}]}),
            "Unsupported",
            "volume data projects a certificate of the pod's own (podCertificate), and cells are not given any",
        ),
        (
            with_volume(projected={"sources": [{"clusterTrustBundle": {"name": "b", "path": "p"}}]}),
            "Unsupported",
            "volume data projects a bundle of the cluster's trusted certificates (clusterTrustBundle), and cells are not "
            "given any",
        ),
        (
            pod({"resourceClaims": [{"name": "gpu"}]}),
            "Unsupported",
            "resource claim gpu needs a device driver, and cells have none",
        ),
        (
            pod(metadata={"annotations": {"pod.elotl.co/launch-type": "cheap"}}),
            "InvalidAnnotation",
            "annotation pod.elotl.co/launch-type: 'cheap' is not allowed: expected on-demand, spot, spot-preferred or "
            "dedicated",
        ),
        (
            pod({"containers": [{"name": "c", "resources": {"requests": {"cpu": "much"}}}]}),
            "Unsupported",
            "cpu: 'much' is not a quantity: expected a number with an optional suffix, like 500m, 2, 1.5Gi",
        ),
    ],
)
def test_refused(subject: dict[str, Any], reason: str, message: str) -> None:
    assert refused(subject) == (reason, message)


def test_all_that_is_not_supported_is_said_at_once() -> None:
    subject = pod({"os": {"name": "windows"}, "resourceClaims": [{"name": "gpu"}]})
    assert refused(subject) == (
        "Unsupported",
        "cells run Linux, and the pod's spec.os.name is windows; resource claim gpu needs a device driver, and cells "
        "have none",
    )


def test_the_source_that_the_api_server_is_is_fine() -> None:
    assert refused(pod(metadata={"annotations": {"kubernetes.io/config.source": "api"}})) is None
