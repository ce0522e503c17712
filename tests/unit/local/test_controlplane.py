"""The control plane's flags: what a real cluster has on is on."""

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from kip.local.controlplane import ApiServer, ControllerManager, Etcd, Scheduler
from kip.local.world import World

PORTS = {"etcd": 1, "etcd-peer": 2, "apiserver": 3, "controller-manager": 4, "scheduler": 5}


def world(tmp_path: Path, *, rooted: bool = True) -> World:
    return World("unit", tmp_path, IPv4Network("10.78.0.0/24"), rooted, PORTS)


def flags(part: ApiServer | ControllerManager | Etcd | Scheduler) -> dict[str, str]:
    pairs = (flag.removeprefix("--").partition("=") for flag in part.flags())
    return {name: value for name, _, value in pairs}


def test_the_api_server_authorises_nodes_and_verifies_kubelets(tmp_path: Path) -> None:
    found = flags(ApiServer(world(tmp_path)))
    assert found["authorization-mode"] == "Node,RBAC"
    assert "NodeRestriction" in found["enable-admission-plugins"]
    assert found["kubelet-certificate-authority"] == found["client-ca-file"]
    assert found["kubelet-preferred-address-types"] == "InternalIP"
    assert found["requestheader-client-ca-file"] != found["client-ca-file"]


def test_as_root_cells_reach_it_and_it_tells_its_address(tmp_path: Path) -> None:
    part = ApiServer(world(tmp_path))
    assert flags(part)["bind-address"] == flags(part)["advertise-address"] == "10.78.0.1"
    assert "network" in part.needs


def test_without_root_it_is_on_the_loopback_and_needs_no_network(tmp_path: Path) -> None:
    part = ApiServer(world(tmp_path, rooted=False))
    assert flags(part)["bind-address"] == "127.0.0.1"
    assert flags(part)["endpoint-reconciler-type"] == "none"
    assert "network" not in part.needs


def test_requests_are_noted_where_a_policy_says_which(tmp_path: Path) -> None:
    made = world(tmp_path)
    assert not [flag for flag in flags(ApiServer(made)) if flag.startswith("audit")]
    made.audit_policy.write_text("{}")
    found = flags(ApiServer(made))
    assert found["audit-policy-file"] == str(made.audit_policy)
    assert found["audit-log-path"] == str(made.audit_log)


def test_the_controller_manager_signs_what_the_api_server_trusts(tmp_path: Path) -> None:
    manager, server = flags(ControllerManager(world(tmp_path))), flags(ApiServer(world(tmp_path)))
    assert manager["cluster-signing-cert-file"] == server["kubelet-certificate-authority"]
    assert manager["service-account-private-key-file"] == server["service-account-signing-key-file"]


def test_etcd_answers_nobody_without_a_certificate(tmp_path: Path) -> None:
    etcd, server = flags(Etcd(world(tmp_path))), flags(ApiServer(world(tmp_path)))
    assert "client-cert-auth" in etcd
    assert etcd["trusted-ca-file"] == server["etcd-cafile"] != server["client-ca-file"]
    assert etcd["listen-client-urls"] == server["etcd-servers"] == "https://127.0.0.1:1"


@pytest.mark.parametrize("part", [Etcd, ApiServer, ControllerManager, Scheduler])
def test_every_file_on_a_command_line_is_there(
    tmp_path: Path, part: type[Etcd | ApiServer | ControllerManager | Scheduler]
) -> None:
    files = {
        value for value in flags(part(world(tmp_path))).values() if value.startswith(str(tmp_path / "pki"))
    }
    assert files
    assert [path for path in sorted(files) if not Path(path).is_file()] == []
