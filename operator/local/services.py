"""The world's own services beside the control plane: AWS endpoint, image registry, machine room, operator."""

from __future__ import annotations

import socket
import sys
import urllib.request
from urllib.error import HTTPError

from kip.local.build import CONTAINERD, KUBERNETES
from kip.local.network import Network
from kip.local.parts import Part, ProcessPart
from kip.local.processes import Command
from kip.local.world import World

_ANSWER = 5.0  # seconds


class NetworkPart(Part):
    """The VPC."""

    name = "network"
    root_only = True

    def __init__(self, world: World) -> None:
        self._network = Network(world)

    def start(self) -> None:
        """Makes the bridge and joins the host to it."""
        self._network.up()

    def missing(self) -> str | None:
        """A network is there as soon as it was made."""
        return None if self._network.is_up() else "the bridge cannot be reached"


class _Module(ProcessPart):
    """A process of this package: `python -m kip.local.<name> --world <world>`."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.needs = ("network", *self.needs) if world.rooted else self.needs

    def command(self) -> Command:
        """This Python, so that the part is of the same installation."""
        return Command(
            self.name, (sys.executable, "-m", f"kip.local.{self.name}", "--world", self.world.name)
        )


class Aws(_Module):
    """The AWS endpoint."""

    name = "aws"

    def answer(self) -> str | None:
        """It is ready as soon as it listens."""
        socket.create_connection(self.world.address(self.name), _ANSWER).close()
        return None


class Registry(_Module):
    """The image registry."""

    name = "registry"

    def answer(self) -> str | None:
        """Asks for the API's version, as every client does first."""
        return _http(f"{self.world.url(self.name)}/v2/")


class Room(_Module):
    """The machine room, which boots what the AWS endpoint says is running."""

    name = "room"
    needs = ("aws", "registry")
    builds = (KUBERNETES, CONTAINERD)
    root_only = True
    patience = 120.0  # the first time it makes the machine image

    def answer(self) -> str | None:
        """It says so itself."""
        return None if (self.world.run / "room.ready").exists() else "the machine image is being made"


class Operator(ProcessPart):
    """Kip."""

    name = "operator"
    needs = ("cluster", "aws")

    def command(self) -> Command:
        """As in a cluster, with a kubeconfig in place of the pod's service account."""
        argv = (sys.executable, "-m", "kip.cli", "run", "--config", str(self.world.provider_config))
        environment = {"KUBECONFIG": str(self.world.operator_kubeconfig)}
        return Command(self.name, argv, environment)

    def answer(self) -> str | None:
        """Asks for its health."""
        return _http(f"{self.world.url(self.name)}/healthz")


def _http(url: str) -> str | None:
    """What is wrong with the answer; None when it is a 2xx. Raises OSError where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=_ANSWER):
            return None
    except HTTPError as error:
        return f"{url} answers {error.code}: {error.read().decode(errors='replace').strip()[-200:]}"
