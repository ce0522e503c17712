"""Certificates that Kubernetes and a strict TLS library accept."""

import base64
import ssl
import subprocess
from ipaddress import IPv4Network
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kip.local.pki import Authority, ControlPlanePki, Pair
from kip.local.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    state = tmp_path / "unit"
    state.mkdir()
    return World("unit", state, IPv4Network("10.78.0.0/24"), True, {"apiserver": 6443})


def load(pair: Pair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate.read_bytes())


def names(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> list[object]:
    return [attribute.value for attribute in certificate.subject.get_attributes_for_oid(oid)]


def test_an_authority_is_made_once(tmp_path: Path) -> None:
    first = Authority(tmp_path, "ca").pair.certificate.read_text()
    assert Authority(tmp_path, "ca").pair.certificate.read_text() == first


def test_a_client_certificate_carries_user_and_groups(tmp_path: Path) -> None:
    certificate = load(Authority(tmp_path, "ca").client("node", "system:node:a", ["system:nodes", "other"]))
    assert names(certificate, NameOID.COMMON_NAME) == ["system:node:a"]
    assert names(certificate, NameOID.ORGANIZATION_NAME) == ["system:nodes", "other"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_the_api_server_is_known_under_all_its_names(world: World) -> None:
    certificate = load(ControlPlanePki(world).apiserver())
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "kubernetes.default.svc" in found.get_values_for_type(x509.DNSName)
    assert {str(address) for address in found.get_values_for_type(x509.IPAddress)} == {
        "10.78.0.1",
        "127.0.0.1",
        "10.96.0.1",
    }


def test_authorities_do_not_vouch_for_each_other(world: World) -> None:
    pki = ControlPlanePki(world)
    proxy = pki.front_proxy.client("front-proxy-client", "front-proxy-client")
    load(proxy).verify_directly_issued_by(load(pki.front_proxy.pair))
    for other in (pki.cluster, pki.etcd):
        with pytest.raises(ValueError, match="Issuer"):
            load(proxy).verify_directly_issued_by(load(other.pair))


@pytest.mark.parametrize("purpose", ["sslserver", "sslclient"])
def test_strict_verification_passes(world: World, purpose: str) -> None:
    pki = ControlPlanePki(world)
    pair = pki.apiserver() if purpose == "sslserver" else pki.administrator()
    command = [
        "openssl",
        "verify",
        "-x509_strict",
        "-purpose",
        purpose,
        "-CAfile",
        str(pki.cluster.pair.certificate),
    ]
    done = subprocess.run([*command, str(pair.certificate)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_keys_are_for_their_owner_alone(world: World) -> None:
    pki = ControlPlanePki(world)
    pki.apiserver(), pki.administrator(), pki.service_accounts()
    modes = {path.name: path.stat().st_mode & 0o777 for path in world.pki.glob("*.key")}
    assert len(modes) >= 6
    assert set(modes.values()) == {0o600}


def test_a_kubeconfig_holds_all_it_needs(world: World) -> None:
    pki = ControlPlanePki(world)
    path = pki.kubeconfig(world.state / "a.kubeconfig", "alice", ["staff"])
    found = yaml.safe_load(path.read_text())
    assert found["clusters"][0]["cluster"]["server"] == "https://10.78.0.1:6443"
    user = found["users"][0]["user"]
    certificate = base64.b64decode(user["client-certificate-data"])
    assert names(x509.load_pem_x509_certificate(certificate), NameOID.COMMON_NAME) == ["alice"]
    context = ssl.create_default_context()
    (world.state / "c").write_bytes(certificate)
    (world.state / "k").write_bytes(base64.b64decode(user["client-key-data"]))
    context.load_cert_chain(world.state / "c", world.state / "k")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_components_client_certificate_is_not_its_serving_one(world: World) -> None:
    pki = ControlPlanePki(world)
    serving = pki.cluster.server("scheduler", "kube-scheduler", ["127.0.0.1"])
    path = pki.kubeconfig(world.pki / "scheduler.kubeconfig", "system:kube-scheduler")
    assert base64.b64encode(serving.certificate.read_bytes()).decode() not in path.read_text()
