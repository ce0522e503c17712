"""What integration tests share: one real control plane for the whole session."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from kip.local import build, lifecycle
from kip.local.pki import ControlPlanePki
from kip.local.progress import ConsoleProgress, Silent
from kip.local.world import World


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
def control_plane(reserved: Callable[[str], str]) -> Iterator[ControlPlane]:
    """The control plane of world `kiptest`, made anew: what a killed session left is removed first."""
    name = reserved("kiptest")
    with ExitStack() as stack:
        lifecycle.down(name)
        stack.callback(lifecycle.down, name)
        yield ControlPlane(lifecycle.up(name, ConsoleProgress(), only=["cluster", "scheduler"]))


Kubectl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def programs() -> Path:
    """Where kubectl is."""
    return build.ensure(build.KUBERNETES, Silent())


@pytest.fixture
def kubectl(control_plane: ControlPlane, programs: Path) -> Kubectl:
    """`kubectl("get", "pods", stdin=…)`, as the administrator; the caller looks at how it ended."""

    def run(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [programs / "kubectl", "--kubeconfig", control_plane.kubeconfig, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run
