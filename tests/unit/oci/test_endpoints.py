"""At which URLs a registry is asked."""

from __future__ import annotations

import pytest

from kip.oci.endpoints import Endpoint, Endpoints
from kip.oci.reference import Repository

APP = Repository("docker.io", "team/app")


def urls(endpoints: Endpoints, repository: Repository) -> list[str]:
    return [each.url(repository, "manifests", "1") for each in endpoints.of(repository.registry)]


@pytest.mark.parametrize(
    ("repository", "url"),
    [
        (APP, "https://registry-1.docker.io/v2/team/app/manifests/1"),
        (Repository("quay.io", "a"), "https://quay.io/v2/a/manifests/1"),
        (Repository("localhost:5000", "a"), "http://localhost:5000/v2/a/manifests/1"),
        (Repository("127.0.0.1:5000", "a"), "http://127.0.0.1:5000/v2/a/manifests/1"),
    ],
)
def test_a_registry_without_mirrors(repository: Repository, url: str) -> None:
    assert urls(Endpoints(), repository) == [url]


def test_mirrors_are_asked_instead_and_hear_which_registry_is_meant() -> None:
    endpoints = Endpoints(
        {
            "docker.io": [
                "https://cache.example.com/",
                "https://harbor.example.com/v2/hub",
                "https://registry-1.docker.io",
            ],
            "*": ["http://10.0.0.1:5000"],
        }
    )
    assert urls(endpoints, APP) == [
        "https://cache.example.com/v2/team/app/manifests/1?ns=docker.io",
        "https://harbor.example.com/v2/hub/team/app/manifests/1?ns=docker.io",
        "https://registry-1.docker.io/v2/team/app/manifests/1",
    ]
    assert endpoints.of("quay.io") == (Endpoint("http://10.0.0.1:5000/v2", "quay.io"),)


@pytest.mark.parametrize("url", ["mirror", "ftp://cache", "https://", "https://cache?x=1"])
def test_a_mirror_is_a_url(url: str) -> None:
    with pytest.raises(ValueError, match="expected a URL like"):
        Endpoints({"docker.io": [url]})
