"""Keys in OpenSSH's encodings."""

from __future__ import annotations

import subprocess
from pathlib import Path

import asyncssh
import pytest

from kip.tunnel import keys


def test_openssh_understands_our_keys(tmp_path: Path) -> None:
    private = keys.generate()
    path = tmp_path / "key"
    path.write_text(private)
    path.chmod(0o600)
    told = subprocess.run(["ssh-keygen", "-y", "-f", path], capture_output=True, text=True, check=True).stdout
    assert told.strip() == keys.public_half(private)


def test_we_understand_openssh_s_keys(tmp_path: Path) -> None:
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "x", "-f", path], check=True)
    public = path.with_suffix(".pub").read_text()
    assert keys.public_half(path.read_text()) == keys.normalized(public) == public.rsplit(" ", 1)[0]


def test_two_keys_are_different() -> None:
    assert keys.generate() != keys.generate()


@pytest.mark.parametrize("text", ["", "nonsense", "-----BEGIN OPENSSH PRIVATE KEY-----\nsecret\n"])
def test_a_bad_private_key_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(keys.InvalidKey) as caught:
        keys.public_half(text)
    assert "secret" not in str(caught.value)


def test_a_key_with_a_passphrase_is_refused() -> None:
    locked = asyncssh.generate_private_key("ssh-ed25519").export_private_key("pkcs8-pem", passphrase="x")
    with pytest.raises(keys.InvalidKey):
        keys.load_private(locked.decode())


@pytest.mark.parametrize("text", ["", "ssh-ed25519", "ssh-ed25519 AAAA", "nonsense"])
def test_a_bad_public_key_is_refused(text: str) -> None:
    with pytest.raises(keys.InvalidKey):
        keys.normalized(text)
