"""Addresses at which an instance keeps its credentials are no registries."""

from __future__ import annotations

import pytest

from kip.oci.guard import GuardedResolver, refused


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.170.23",
        "::ffff:169.254.169.254",
        "fe80::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
    ],
)
def test_refused(host: str) -> None:
    assert refused(host)


@pytest.mark.parametrize("host", ["quay.io", "10.0.0.1", "127.0.0.1", "fd00::1"])
def test_allowed(host: str) -> None:
    assert not refused(host)


async def test_a_name_for_such_an_address_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver = GuardedResolver()

    class Names:
        async def resolve(self, host: str, port: int, family: object) -> list[dict[str, str]]:
            return [
                {"host": address} for address in {"evil": ["169.254.169.254"], "good": ["10.0.0.1"]}[host]
            ]

    monkeypatch.setattr(resolver, "_resolver", Names())
    with pytest.raises(OSError, match="evil"):
        await resolver.resolve("evil")
    assert await resolver.resolve("good") == [{"host": "10.0.0.1"}]
