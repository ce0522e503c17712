"""The world's own services beside the control plane: AWS endpoint, image registry, machine room, operator."""

from __future__ import annotations

import socket
import sys
import urllib.request
from urllib.error import HTTPError

from kip.local import provider
from kip.local.build import CONTAINERD, KUBERNETES, VOLUME
from kip.local.images import DEVICE_PLUGIN, PAUSE, TOOLBOX, WEB, build_all
from kip.local.images.build import PROGRAMS
from kip.local.network import Network
from kip.local.parts import Part, ProcessPart
from kip.local.processes import Command
from kip.local.registry import ArchiveError, LoadError, load
from kip.local.room.cleanup import said_ready
from kip.local.world import World, WorldError

#: Zones that cells can be in, each with a subnet.
ZONES = 2
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
    """A process of this package, `python -m kip.local.<name>`, listening at its address of the world."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.needs = ("network", *self.needs) if world.rooted else self.needs

    def command(self) -> Command:
        """This Python, so that the part is of the same installation."""
        return Command(self.name, (sys.executable, "-m", f"kip.local.{self.name}", *self.flags()))

    def flags(self) -> list[str]:
        """Where it listens and keeps its state."""
        host, port = self.world.address(self.name)
        return [f"--host={host}", f"--port={port}", f"--state={self.world.state / self.name}"]


class Aws(_Module):
    """The AWS endpoint."""

    name = "aws"

    def flags(self) -> list[str]:
        """Its VPC is the world's; addresses of an ordinary node's pods are given to no instance."""
        return [
            *super().flags(),
            f"--cidr={self.world.cidr}",
            f"--zones={ZONES}",
            f"--withhold={self.world.node_pods}",
            f"--region={provider.REGION}",
        ]

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


class Images(Part):
    """The world's own images, made on the spot and put into the registry."""

    name = "images"
    needs = ("registry",)
    builds = (PROGRAMS,)

    def __init__(self, world: World) -> None:
        self._world = world

    def start(self) -> None:
        """Makes the images and loads them; what the registry has already is not sent again."""
        try:
            for archive in build_all(self._world.state / "images").values():
                load(archive, self._world.url("registry"))
        except (ArchiveError, LoadError) as error:
            raise WorldError(f"images: {error}") from error

    def missing(self) -> str | None:
        """Asks for each by its name, as a cell does."""
        for name in (PAUSE, WEB, TOOLBOX, DEVICE_PLUGIN):
            registry, _, rest = name.partition("/")
            repository, _, tag = rest.rpartition(":")
            url = f"{self._world.url('registry')}/v2/{repository}/manifests/{tag}?ns={registry}"
            try:
                if seen := _http(url):
                    return seen
            except OSError as error:
                return str(error)
        return None


class Room(_Module):
    """The machine room, which boots what the AWS endpoint says is running."""

    name = "room"
    needs = ("aws", "images")
    builds = (KUBERNETES, CONTAINERD, VOLUME)
    root_only = True
    patience = 120.0  # the first time it makes the machine image

    def flags(self) -> list[str]:
        """It reads everything from the world."""
        return [f"--world={self.world.name}"]

    def answer(self) -> str | None:
        """It says so itself, in a file with its process id: a killed room leaves its file to the next one."""
        running = self.processes.running(self.name)
        ready = running and said_ready(self.world) == running.pid
        return None if ready else "the machine image is being made"


class Operator(ProcessPart):
    """Kip."""

    name = "operator"
    needs = ("cluster", "aws")

    def start(self) -> None:
        """Writes its configuration, unless there is one (it may have been edited), and starts it."""
        provider.write(self.world)
        super().start()

    def command(self) -> Command:
        """As in a cluster, with a kubeconfig in place of the pod's service account."""
        argv = (sys.executable, "-m", "kip", "run", "--config", str(self.world.provider_config))
        environment = {"KUBECONFIG": str(self.world.operator_kubeconfig), "POD_NAME": "kip-local"}
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
