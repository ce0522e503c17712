"""Keys, certificates and TLS settings, all of them in memory only."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kip.model.clock import Clock

_AUTHORITY_VALID = timedelta(days=3650)
_CLIENT_VALID = timedelta(days=7)
# The clock of a machine that has just booted may be behind.
_SKEW = timedelta(hours=1)
# Part of a certificate's life after which it is replaced.
_REPLACE_AFTER = 0.75

_OPERATOR_NAME = "kip-operator"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate (with its chain) and its private key, both PEM."""

    certificate: bytes
    key: bytes

    @property
    def valid_from(self) -> datetime:
        """Begin of the certificate's life, UTC."""
        return x509.load_pem_x509_certificate(self.certificate).not_valid_before_utc

    @property
    def valid_until(self) -> datetime:
        """End of the certificate's life, UTC."""
        return x509.load_pem_x509_certificate(self.certificate).not_valid_after_utc


def new_key() -> ec.EllipticCurvePrivateKey:
    """ECDSA P-256: what Go and OpenSSL both verify fastest, and what the kubelet takes for itself."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The key in PKCS#8."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def node_subject(node_name: str) -> x509.Name:
    """A node's name in certificates: what the kubelet-serving signer demands."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{node_name}"),
        ]
    )


def alternative_names(addresses: Sequence[str]) -> x509.SubjectAlternativeName:
    """IP addresses as such, everything else as DNS names."""
    names: list[x509.GeneralName] = []
    for address in addresses:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(address)))
        except ValueError:
            names.append(x509.DNSName(address))
    return x509.SubjectAlternativeName(names)


def new_authority(clock: Clock) -> KeyPair:
    """A certificate authority for the operator's client certificates: its certificate is what cells trust."""
    key = new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{_OPERATOR_NAME}-ca")])
    builder = _builder(name, name, key, clock, _AUTHORITY_VALID).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    builder = builder.add_extension(
        x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
    )
    return KeyPair(_pem(builder.sign(key, hashes.SHA256())), key_pem(key))


def issue_client(authority: KeyPair, clock: Clock) -> KeyPair:
    """A client certificate for the operator, for a week."""
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    issuer_key = serialization.load_pem_private_key(authority.key, password=None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
        raise ValueError(
            f"the operator's CA key: expected an elliptic curve key, found {type(issuer_key).__name__}"
        )
    key = new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _OPERATOR_NAME)])
    builder = _leaf(
        _builder(subject, issuer.subject, key, clock, _CLIENT_VALID), ExtendedKeyUsageOID.CLIENT_AUTH
    )
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
    )
    return KeyPair(_pem(builder.sign(issuer_key, hashes.SHA256())), key_pem(key))


def self_signed(node_name: str, addresses: Sequence[str], clock: Clock) -> KeyPair:
    """A serving certificate that nobody vouches for."""
    key = new_key()
    subject = node_subject(node_name)
    builder = _leaf(_builder(subject, subject, key, clock, _CLIENT_VALID), ExtendedKeyUsageOID.SERVER_AUTH)
    builder = builder.add_extension(alternative_names(addresses), critical=False)
    return KeyPair(_pem(builder.sign(key, hashes.SHA256())), key_pem(key))


def server_context(pair: KeyPair, client_ca: bytes | None) -> ssl.SSLContext:
    """TLS settings of the virtual node: HTTP/1.1 only; a client certificate is verified if one is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    _load(context, pair)
    if client_ca is not None:
        context.load_verify_locations(cadata=client_ca.decode())
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def client_context(pair: KeyPair) -> ssl.SSLContext:
    """TLS settings for a cell's kubelet.

    Its certificate is one it signed itself and proves nothing: the connection runs inside the SSH tunnel, whose host key
    is the cell's identity.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    _load(context, pair)
    return context


class CellClient:
    """TLS settings for the cells, with a client certificate that is replaced in time."""

    def __init__(self, authority: KeyPair, clock: Clock) -> None:
        """Raises ValueError when the authority's key or certificate cannot be used."""
        self._authority = authority
        self._clock = clock
        self._renew()

    def context(self) -> ssl.SSLContext:
        """The settings to use for the next connection."""
        if self._clock.now() >= self._replace_at:
            self._renew()
        return self._context

    def _renew(self) -> None:
        pair = issue_client(self._authority, self._clock)
        self._context = client_context(pair)
        self._replace_at = replace_at(pair, _REPLACE_AFTER)


def replace_at(pair: KeyPair, share: float) -> datetime:
    """When this share of the certificate's life is over."""
    begin = pair.valid_from
    return begin + (pair.valid_until - begin) * share


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, clock: Clock, valid: timedelta
) -> x509.CertificateBuilder:
    now = clock.now()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + valid)
    )


def _leaf(builder: x509.CertificateBuilder, purpose: x509.ObjectIdentifier) -> x509.CertificateBuilder:
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
    return builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _load(context: ssl.SSLContext, pair: KeyPair) -> None:
    """OpenSSL reads certificates from files only, so they become files without a name or a disk."""
    with _memory_file(pair.certificate) as certificate, _memory_file(pair.key) as key:
        context.load_cert_chain(certificate, key)


@contextlib.contextmanager
def _memory_file(content: bytes) -> Iterator[str]:
    descriptor = os.memfd_create("kip")
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
