"""SSH keys in OpenSSH's encodings, as they stand in user data, Secrets and Cells."""

from __future__ import annotations

import functools

import asyncssh


class InvalidKey(ValueError):
    """A text that is no usable key; the message does not contain it."""


def generate() -> str:
    """A new ed25519 private key in OpenSSH's format, without passphrase."""
    return asyncssh.generate_private_key("ssh-ed25519").export_private_key("openssh").decode()


def public_half(private_key: str) -> str:
    """`ssh-ed25519 AAAA…`: the public key of a private one, without comment. Raises InvalidKey."""
    return encoded(load_private(private_key))


def normalized(public_key: str) -> str:
    """A public key without its comment, so that equal keys are equal texts. Raises InvalidKey."""
    return encoded(load_public(public_key))


# A machine that boots is dialled several times a second, each time with the same keys.
@functools.lru_cache(maxsize=8)
def load_private(private_key: str) -> asyncssh.SSHKey:
    """Raises InvalidKey."""
    try:
        return asyncssh.import_private_key(private_key)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise InvalidKey(f"not a private key in OpenSSH's format: {error}") from None


@functools.lru_cache(maxsize=4096)
def load_public(public_key: str) -> asyncssh.SSHKey:
    """Raises InvalidKey."""
    try:
        return asyncssh.import_public_key(public_key)
    except asyncssh.KeyImportError as error:
        raise InvalidKey(f"not a public key in OpenSSH's format: {error}") from None


def encoded(key: asyncssh.SSHKey) -> str:
    """The public half on one line, without comment."""
    kind, data, *_ = key.export_public_key("openssh").decode().split()
    return f"{kind} {data}"
