"""Where no registry may lead us: whoever names an image in a pod names a host that the operator then talks to."""

from __future__ import annotations

import socket
from ipaddress import ip_address

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver
from yarl import URL

from kip.oci.errors import Denied

# EC2's instance metadata and credential services of pods; by IPv4 they are link-local.
_METADATA = frozenset((ip_address("fd00:ec2::254"), ip_address("fd00:ec2::23")))


def refused(host: str) -> bool:
    """Whether it is an address at which an instance keeps its credentials."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_link_local or address in _METADATA


def check(url: URL) -> URL:
    """The URL. Raises Denied for one of an address as `refused` has it, and for what is not HTTP at all."""
    if url.scheme not in ("http", "https") or not url.host or refused(url.host):
        raise Denied(f"{url.scheme}://{url.host} is not asked: expected the address of a registry")
    return url


class GuardedResolver(AbstractResolver):
    """The system's names, without those that stand for such an address."""

    def __init__(self) -> None:
        self._resolver = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        allowed = [result for result in found if not refused(result["host"])]
        if found and not allowed:
            raise OSError(None, f"{host} stands for an address that is not asked")
        return allowed

    async def close(self) -> None:
        await self._resolver.close()
