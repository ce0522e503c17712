"""The control plane's certificates: authorities, serving and client certificates, kubeconfigs.

Made once per world and kept, so that a world that is repaired keeps its trust. Keys are ECDSA P-256: made in
under a millisecond, where RSA costs the start of a world several tenths of a second.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kip.local.world import World, write_atomically

KUBELET_CLIENT = "kube-apiserver-kubelet-client"
ADMINISTRATOR = "kubernetes-admin"

_VALID = datetime.timedelta(days=365)
_SKEW = datetime.timedelta(hours=1)  # a cell's clock may be behind
_SECRET = 0o600

_SERVER = [ExtendedKeyUsageOID.SERVER_AUTH]
_CLIENT = [ExtendedKeyUsageOID.CLIENT_AUTH]
_PEER = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, each a PEM file."""

    certificate: Path
    key: Path

    @property
    def exists(self) -> bool:
        """Whether both were written."""
        return self.certificate.exists() and self.key.exists()


class Authority:
    """A certificate authority kept in `<directory>/<name>.crt` and `.key`; made when it is not there."""

    def __init__(self, directory: Path, name: str) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self.pair = Pair(directory / f"{name}.crt", directory / f"{name}.key")
        if not self.pair.exists:
            _make_authority(self.pair, f"kip-local-{name}")
        self._certificate = x509.load_pem_x509_certificate(self.pair.certificate.read_bytes())
        key = serialization.load_pem_private_key(self.pair.key.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{self.pair.key}: expected an elliptic curve key, found {type(key).__name__}")
        self._key = key

    def server(self, name: str, common_name: str, hosts: Iterable[str], *, peer: bool = False) -> Pair:
        """A serving certificate for those names and addresses; with `peer` usable as a client's, too."""
        return self._issued(name, common_name, (), hosts, _PEER if peer else _SERVER)

    def client(self, name: str, user: str, groups: Sequence[str] = ()) -> Pair:
        """A client certificate: to Kubernetes the common name is the user, organisations are groups."""
        return self._issued(name, user, groups, (), _CLIENT)

    def _issued(
        self,
        name: str,
        user: str,
        groups: Sequence[str],
        hosts: Iterable[str],
        usages: list[x509.ObjectIdentifier],
    ) -> Pair:
        pair = Pair(self._directory / f"{name}.crt", self._directory / f"{name}.key")
        if pair.exists:
            return pair
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _begin(_subject(user, groups), self._certificate.subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            # Python's strict verification (the default from 3.13 on) wants the authority's key named.
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        )
        if names := [_general_name(host) for host in hosts]:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        _write(pair, builder.sign(self._key, hashes.SHA256()), key)
        return pair


def _make_authority(pair: Pair, name: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(name, ())
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        _begin(subject, subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    _write(pair, builder.sign(key, hashes.SHA256()), key)


def _begin(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _VALID)
    )


def _subject(user: str, groups: Sequence[str]) -> x509.Name:
    organisations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*organisations, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(pair: Pair, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    write_atomically(pair.key, _private_pem(key), _SECRET)
    write_atomically(pair.certificate, certificate.public_bytes(serialization.Encoding.PEM).decode())


def _private_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


class ControlPlanePki:
    """Every certificate of one world's control plane, below `<state>/pki`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.cluster = Authority(world.pki, "ca")
        # Of its own, as whoever holds a certificate of it may name any user (request headers).
        self.front_proxy = Authority(world.pki, "front-proxy-ca")
        # Of its own, as whoever holds a certificate of it reads and writes everything.
        self.etcd = Authority(world.pki, "etcd-ca")

    def apiserver(self) -> Pair:
        """The API server's serving certificate, good for every name by which it is reached."""
        names = (
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        )
        addresses = (str(self._world.host_address), "127.0.0.1", str(self._world.service_cidr[1]))
        return self.cluster.server("apiserver", "kube-apiserver", (*names, "localhost", *addresses))

    def kubelet_client(self) -> Pair:
        """What the API server shows to kubelets, the virtual node's :10250 among them."""
        return self.cluster.client(
            "apiserver-kubelet-client", "kube-apiserver-kubelet-client", ["system:masters"]
        )

    def service_accounts(self) -> Pair:
        """The key that signs service account tokens, and its public half in `certificate`."""
        pair = Pair(self._world.pki / "service-accounts.pub", self._world.pki / "service-accounts.key")
        if not pair.exists:
            key = ec.generate_private_key(ec.SECP256R1())
            public = key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            write_atomically(pair.key, _private_pem(key), _SECRET)
            write_atomically(pair.certificate, public.decode())
        return pair

    def administrator(self) -> Pair:
        """A client certificate that may do everything."""
        return self.cluster.client("admin-client", ADMINISTRATOR, ["system:masters"])

    def kubeconfig(self, path: Path, user: str, groups: Sequence[str] = ()) -> Path:
        """Writes a kubeconfig for that user, once; everything it needs is in it. Returns its path."""
        if not path.exists():
            pair = self.cluster.client(f"{path.stem}-client", user, groups)
            authority = self.cluster.pair.certificate.read_text()
            text = kubeconfig(
                self._world.url("apiserver", "https"),
                authority,
                pair.certificate.read_text(),
                pair.key.read_text(),
            )
            write_atomically(path, text, _SECRET)
        return path


def kubeconfig(server: str, authority: str, certificate: str, key: str) -> str:
    """A kubeconfig of one cluster, user and context, with the PEM texts in it."""
    encoded = {
        "cluster": {"server": server, "certificate-authority-data": _base64(authority)},
        "user": {"client-certificate-data": _base64(certificate), "client-key-data": _base64(key)},
    }
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "local", "cluster": encoded["cluster"]}],
            "users": [{"name": "user", "user": encoded["user"]}],
            "contexts": [{"name": "local", "context": {"cluster": "local", "user": "user"}}],
            "current-context": "local",
        },
        sort_keys=False,
    )


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
