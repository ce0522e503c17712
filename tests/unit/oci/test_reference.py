"""Image names are read as Docker, containerd and the kubelet read them."""

from __future__ import annotations

import pytest

from kip.oci.reference import InvalidName, Reference, Repository, parse, split_repository


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.29", "docker.io/library/nginx:1.29"),
        ("team/app:1", "docker.io/team/app:1"),
        ("demo.kip.local/web:1", "demo.kip.local/web:1"),
        ("localhost/kubernetes/pause", "localhost/kubernetes/pause:latest"),
        ("localhost:5000/a/b:c", "localhost:5000/a/b:c"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/nginx:1", "docker.io/library/nginx:1"),
        ("quay.io/a/b@sha256:" + "0" * 64, "quay.io/a/b@sha256:" + "0" * 64),
        ("quay.io/a/b:1@sha256:" + "0" * 64, "quay.io/a/b@sha256:" + "0" * 64),
    ],
)
def test_full_name(name: str, full: str) -> None:
    assert str(parse(name)) == full


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Nginx",
        "a//b",
        "../etc",
        "a:",
        "a:b:c",
        "quay.io/../x",
        "host:port/x",
        "a" * 256,
        "x:" + "t" * 129,
        "x@",
        "x@sha256:0",
        "x@sha512:" + "0" * 128,
    ],
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        parse(name)


def test_a_registry_is_told_by_a_dot_a_port_or_localhost() -> None:
    assert split_repository("quay.io/a", default="own.local") == Repository("quay.io", "a")
    assert split_repository("quay/a", default="own.local") == Repository("own.local", "quay/a")


@pytest.mark.parametrize("registry", ["..", "a/b", "host:123456", "-a"])
def test_a_registry_names_a_host(registry: str) -> None:
    with pytest.raises(InvalidName, match="expected a host name"):
        Repository(registry, "a")


def test_a_digest_is_asked_for_rather_than_a_tag() -> None:
    digest = "sha256:" + "0" * 64
    tagged = parse("nginx:1.29")
    assert tagged.target == "1.29"
    assert tagged.at(digest) == Reference(tagged.repository, digest=digest)
    assert tagged.at(digest).target == digest
