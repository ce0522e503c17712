"""Which API servers are trusted."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kubernetes_asyncio import client as k8s

from kip.app.process import _login
from kip.kube.client import ApiClient, _ssl_context


def certificate(
    name: str, key: ec.EllipticCurvePrivateKey, by: str, signer: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    """As in EKS clusters: no key identifiers, neither in the CA's certificate nor in what it signs."""
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        issuer_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, by)]),
        subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - timedelta(hours=1),
        not_valid_after=now + timedelta(hours=1),
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=name == by, path_length=None), critical=True)
    if name != by:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    return builder.sign(signer, hashes.SHA256())


def write(path: Path, *parts: bytes) -> Path:
    path.write_bytes(b"".join(parts))
    return path


@pytest.fixture(autouse=True)
def _as_python_3_13(monkeypatch: pytest.MonkeyPatch) -> None:
    """Default contexts are strict, also where Python is older."""
    make = ssl.create_default_context

    def strict(*arguments: object, **options: object) -> ssl.SSLContext:
        context = make(*arguments, **options)  # type: ignore[arg-type]
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)


@pytest.fixture
def eks(tmp_path: Path) -> tuple[k8s.Configuration, ssl.SSLContext]:
    """A client's configuration, and an API server that it should trust."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    ca = write(tmp_path / "ca.crt", certificate("kubernetes", ca_key, "kubernetes", ca_key).public_bytes(pem))
    chain = write(
        tmp_path / "server.pem",
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        certificate("server", key, "kubernetes", ca_key).public_bytes(pem),
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain)
    configuration = k8s.Configuration(host="https://server")
    configuration.ssl_ca_cert = str(ca)
    return configuration, server


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str = "server") -> None:
    """Raises ssl.SSLError of whichever side refuses the other."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(back, there, server_hostname=name),
        server.wrap_bio(there, back, server_side=True),
    ]
    while sides:
        for side in list(sides):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            sides.remove(side)


def test_a_strict_client_would_refuse_it(eks: tuple[k8s.Configuration, ssl.SSLContext]) -> None:
    configuration, server = eks
    with pytest.raises(ssl.SSLError, match="Missing Authority Key Identifier"):
        shake_hands(ssl.create_default_context(cafile=configuration.ssl_ca_cert), server)


def test_a_ca_without_key_identifiers_is_trusted(eks: tuple[k8s.Configuration, ssl.SSLContext]) -> None:
    configuration, server = eks
    shake_hands(_ssl_context(configuration), server)


def test_a_server_of_another_name_is_not(eks: tuple[k8s.Configuration, ssl.SSLContext]) -> None:
    configuration, server = eks
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(_ssl_context(configuration), server, "another")


async def test_kopf_trusts_the_same(eks: tuple[k8s.Configuration, ssl.SSLContext]) -> None:
    configuration, server = eks

    class Client(ApiClient):
        def __init__(self) -> None:
            self._configuration = configuration

    connection = await _login(Client())
    assert connection.server == "https://server"
    shake_hands(connection.as_ssl_context(), server)
