"""The kubelet's own cases (k8s.io/kubernetes/pkg/credentialprovider/keyring_test.go tells the rules)."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from kip.oci.credentials import Credential, CredentialError, Keyring, from_docker_config, from_secrets
from kip.oci.reference import parse


def found(keyring: Keyring, image: str) -> list[str]:
    return [credential.username for credential in keyring.lookup(parse(image).repository)]


@pytest.mark.parametrize(
    ("entry", "image", "matches"),
    [
        ("quay.io", "quay.io/team/app", True),
        ("https://quay.io", "quay.io/team/app", True),
        ("http://quay.io/v1/", "quay.io/team/app", True),
        ("quay.io/v2/", "quay.io/team/app", True),
        ("quay.io/team", "quay.io/team/app", True),
        ("quay.io/te", "quay.io/team/app", True),
        ("quay.io/other", "quay.io/team/app", False),
        ("quay.io", "quay.io:5000/app", False),
        ("quay.io:5000", "quay.io:5000/app", True),
        ("*.io", "quay.io/app", True),
        ("*.*", "quay.io/app", True),
        ("*.dkr.ecr.*.amazonaws.com", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/app", True),
        ("*.io", "a.quay.io/app", False),
        ("q*y.io", "quay.io/app", True),
        ("docker.io", "nginx", True),
        ("https://index.docker.io/v1/", "nginx", True),
        ("https://index.docker.io/v1/", "team/app:1", True),
        ("https://index.docker.io/v1/", "quay.io/app", False),
        ("docker.io/library", "nginx", True),
        ("docker.io/team", "nginx", False),
    ],
)
def test_which_entries_are_for_an_image(entry: str, image: str, *, matches: bool) -> None:
    keyring = Keyring([(entry, Credential("ann", "x"))])
    assert found(keyring, image) == (["ann"] if matches else [])


def test_the_most_specific_entry_comes_first() -> None:
    names = ("*.io", "quay.io", "quay.io/team", "quay.io/team/app")
    keyring = Keyring([(name, Credential(name, "x")) for name in names])
    assert found(keyring, "quay.io/team/app") == ["quay.io/team/app", "quay.io/team", "quay.io", "*.io"]


def test_an_old_login_to_docker_hub_counts_only_without_a_better_one() -> None:
    keyring = Keyring(
        [("index.docker.io", Credential("old", "x")), ("docker.io/team", Credential("new", "x"))]
    )
    assert found(keyring, "team/app") == ["new"]
    assert found(keyring, "nginx") == ["old"]


def secret(kind: str, key: str, content: Any) -> dict[str, Any]:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    data = {key: base64.b64encode(text).decode()}
    return {"metadata": {"namespace": "shop", "name": "pull"}, "type": kind, "data": data}


def auth(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_secrets_of_both_kinds() -> None:
    keyring = from_secrets(
        [
            secret(
                "kubernetes.io/dockerconfigjson",
                ".dockerconfigjson",
                {
                    "auths": {
                        "quay.io": {"auth": auth("ann:a:b")},
                        "ghcr.io": {"auth": auth("cat:y").rstrip("=")},
                    }
                },
            ),
            secret(
                "kubernetes.io/dockercfg", ".dockercfg", {"quay.io": {"username": "bob", "password": "z"}}
            ),
            secret(
                "Opaque", ".dockerconfigjson", {"auths": {"quay.io": {"username": "eve", "password": "z"}}}
            ),
        ]
    )
    assert keyring.lookup(parse("quay.io/x").repository) == (Credential("ann", "a:b"), Credential("bob", "z"))
    assert keyring.lookup(parse("ghcr.io/x").repository) == (Credential("cat", "y"),)


@pytest.mark.parametrize(
    "content",
    [
        b"no json",
        b"[]",
        {"auths": []},
        {"auths": {"quay.io": "hunter2"}},
        {"auths": {"quay.io": {"auth": "hunter2"}}},
    ],
)
def test_a_malformed_secret_is_named_and_not_told(content: Any) -> None:
    with pytest.raises(CredentialError, match="secret shop/pull") as caught:
        from_secrets([secret("kubernetes.io/dockerconfigjson", ".dockerconfigjson", content)])
    assert "hunter2" not in str(caught.value)


def test_a_credential_does_not_show_its_password() -> None:
    assert "hunter2" not in repr(Credential("ann", "hunter2"))
    assert Credential("a", "bc").fingerprint != Credential("ab", "c").fingerprint


def test_a_file_of_docker_login() -> None:
    content = json.dumps({"auths": {"https://index.docker.io/v1/": {"auth": auth("ann:x")}}}).encode()
    assert found(from_docker_config(content, "config.json"), "nginx") == ["ann"]
    with pytest.raises(CredentialError, match="credential helper"):
        from_docker_config(b'{"credsStore": "desktop"}', "config.json")
