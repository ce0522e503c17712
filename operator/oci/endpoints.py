"""At which URLs a registry is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from kip.oci.reference import DOCKER_HUB, Repository

#: Stands for all registries that have no mirrors of their own.
ALL = "*"

# Where Docker Hub's API is; containerd and Docker have it built in too.
_HOSTS = {DOCKER_HUB: "registry-1.docker.io"}
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server that may have a registry's images."""

    root: str
    """URL up to and with /v2, or what a proxy has in its place."""
    namespace: str = ""
    """The registry that is meant, where the server is that of another one."""

    def url(self, repository: Repository, kind: str, what: str) -> str:
        """Of a manifest or blob of the repository."""
        url = f"{self.root}/{repository.path}/{kind}/{what}"
        return f"{url}?ns={quote(self.namespace)}" if self.namespace else url


class Endpoints:
    """Which servers are asked for which registry."""

    def __init__(self, mirrors: Mapping[str, Sequence[str]] | None = None) -> None:
        """`mirrors`: URLs to ask in their order, in place of the registry itself, by its name or ALL."""
        self._mirrors = {
            registry: tuple(_mirror(registry, url) for url in urls)
            for registry, urls in (mirrors or {}).items()
        }

    def of(self, registry: str) -> tuple[Endpoint, ...]:
        """At least one. Mirrors get told which registry is meant, as containerd tells its mirrors (`ns`)."""
        for name in (registry, ALL):
            if name in self._mirrors:
                return tuple(
                    endpoint
                    if _host(endpoint.root) == _HOSTS.get(registry, registry)
                    else Endpoint(endpoint.root, registry)
                    for endpoint in self._mirrors[name]
                )
        host = _HOSTS.get(registry, registry)
        # Plain HTTP for the machine itself, as with Docker and containerd.
        scheme = "http" if host.partition(":")[0] in _LOOPBACK else "https"
        return (Endpoint(f"{scheme}://{host}/v2"),)


def _mirror(registry: str, url: str) -> Endpoint:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"mirror of {registry}: {url!r}: expected a URL like https://cache.example.com")
    path = parts.path.rstrip("/")
    # A proxy like Harbor's has the registry's content under a path of its own: https://harbor.example.com/v2/dockerhub.
    if "v2" not in path.split("/"):
        path += "/v2"
    return Endpoint(f"{parts.scheme}://{parts.netloc}{path}")


def _host(root: str) -> str:
    return urlsplit(root).netloc
