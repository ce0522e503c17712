"""Cluster DNS answers for the cluster, and for nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from kip.local import lifecycle
from kip.local.dns import ask
from kip.local.world import World

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="listens in the world's network: needs root"),
]

NOERROR, NXDOMAIN = 0, 3


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, reserved: Callable[[str], str]) -> Iterator[World]:
    name = reserved("kipdns")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KIP_LOCAL_STATE", str(tmp_path_factory.mktemp("dns") / "states"))
        try:
            yield lifecycle.up(name, only=["dns"])
        finally:
            lifecycle.down(name)


def test_services_have_names(world: World) -> None:
    assert ask(world.address("dns"), "kubernetes.default.svc.cluster.local") == (NOERROR, ["10.96.0.1"])
    assert ask(world.address("dns"), "kube-dns.kube-system.svc.cluster.local") == (NOERROR, ["10.96.0.10"])


@pytest.mark.parametrize("name", ["nothing.default.svc.cluster.local", "example.com", "kubernetes"])
def test_any_other_name_does_not_exist(world: World, name: str) -> None:
    code, addresses = ask(world.address("dns"), name)
    assert code == NXDOMAIN
    assert addresses == []
