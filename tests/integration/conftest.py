"""What integration tests share: one real control plane for the whole session."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from kip.local import build, lifecycle
from kip.local.pki import ControlPlanePki
from kip.local.progress import ConsoleProgress
from kip.local.world import World

_SESSIONS = 9  # test sessions that can run at the same time on one machine


@dataclass(frozen=True)
class ControlPlane:
    """etcd, API server, controller manager and scheduler, with Kip's types and permissions in the cluster."""

    world: World

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.world.kubeconfig

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self.world.url("apiserver", "https")

    @property
    def certificate_authority(self) -> Path:
        """The PEM file of the cluster's authority."""
        return ControlPlanePki(self.world).cluster.pair.certificate

    def client_kubeconfig(self, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig for that user in those groups, by client certificate."""
        digest = hashlib.sha256("\0".join([user, *groups]).encode()).hexdigest()[:12]
        path = self.world.state / f"test-{digest}.kubeconfig"
        return ControlPlanePki(self.world).kubeconfig(path, user, groups)


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """The control plane of world `kiptest`, made anew: what a killed session left is removed first."""
    with ExitStack() as stack:
        name = _reserve(stack)
        lifecycle.down(name)
        stack.callback(lifecycle.down, name)
        yield ControlPlane(lifecycle.up(name, ConsoleProgress(), only=["cluster", "scheduler"]))


def _reserve(stack: ExitStack) -> str:
    """A world's name that no other running session uses; the lock ends with this process."""
    directory = build.cache_directory()
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(1, _SESSIONS + 1):
        name = "kiptest" if number == 1 else f"kiptest{number}"
        if _lock(stack.enter_context((directory / f"{name}.lock").open("w"))):
            return name
    pytest.fail(f"{_SESSIONS} other sessions of these tests run on this machine")


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
