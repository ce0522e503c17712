from __future__ import annotations

import asyncio
import ssl
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kip.kubelet import pki


def test_a_client_certificate_is_one_that_a_kubelet_accepts(clock: Any) -> None:
    authority = pki.new_authority(clock)
    leaf = x509.load_pem_x509_certificate(pki.issue_client(authority, clock).certificate)
    root = x509.load_pem_x509_certificate(authority.certificate)
    leaf.verify_directly_issued_by(root)
    assert leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "kip-operator"
    assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.CLIENT_AUTH
    ]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert leaf.not_valid_before_utc < clock.now() - timedelta(minutes=30)


def test_names_of_a_serving_certificate(clock: Any) -> None:
    certificate = x509.load_pem_x509_certificate(
        pki.self_signed("kip-0", ["10.0.0.1", "fd00::1", "host.example"], clock).certificate
    )
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1", "fd00::1"]
    assert names.get_values_for_type(x509.DNSName) == ["host.example"]
    assert certificate.subject.rfc4514_string() == "CN=system:node:kip-0,O=system:nodes"


def test_the_client_certificate_is_replaced_in_time(clock: Any) -> None:
    client = pki.CellClient(pki.new_authority(clock), clock)
    first = client.context()
    clock.advance(5 * 24 * 3600)
    assert client.context() is first
    clock.advance(0.3 * 24 * 3600)
    assert client.context() is not first


def test_a_key_of_another_kind_is_named(clock: Any) -> None:
    pem = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(ValueError, match="Ed25519"):
        pki.CellClient(pki.KeyPair(pki.new_authority(clock).certificate, pem), clock)


async def test_a_kubelets_side_believes_our_authority_only(clock: Any) -> None:
    authority = pki.new_authority(clock)
    context = pki.server_context(pki.self_signed("cell", ["127.0.0.1"], clock), authority.certificate)
    context.verify_mode = ssl.CERT_REQUIRED

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]

    async def ask(client: pki.CellClient) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client.context())
        try:
            return await reader.read()
        except OSError:
            return b"refused"
        finally:
            writer.close()

    assert await ask(pki.CellClient(authority, clock)) == b"hello"
    # With TLS 1.3 a client learns of the refusal after its handshake; asyncio shows that as an end.
    assert await ask(pki.CellClient(pki.new_authority(clock), clock)) in (b"refused", b"")
    server.close()
