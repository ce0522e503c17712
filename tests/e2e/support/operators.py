"""The operator as a process of the world: the one that serves, and one that stands by."""

from __future__ import annotations

import os
import signal
import sys
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError

import yaml
from support.waiting import eventually

from kip.local import provider
from kip.local.addresses import free_ports
from kip.local.processes import Command, Process, Processes
from kip.local.world import World, all_worlds, write_atomically

_PATIENCE = 30.0  # seconds to become ready, or to end


class OperatorProcess:
    """`kip run` with a configuration file of its own, started, ended, killed and started again by a test."""

    def __init__(self, world: World, name: str, config: Mapping[str, Any]) -> None:
        self._world = world
        self._processes = Processes(world)
        self._health = config["health"]
        self.name = name
        self.config = world.provider_config if name == "operator" else world.state / f"{name}.yaml"
        self.configure(config)

    def configure(self, config: Mapping[str, Any]) -> None:
        """Writes the configuration, for the next start."""
        self.configured = yaml.safe_dump(dict(config), sort_keys=False)

    @property
    def configured(self) -> str:
        """The text of the configuration."""
        return self.config.read_text()

    @configured.setter
    def configured(self, text: str) -> None:
        write_atomically(self.config, text)

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        process = self._running()
        return process.pid if process else None

    def start(self, *, wait: bool = True) -> None:
        """Starts it unless it runs; returns when its health probe answers well, or at once."""
        argv = (sys.executable, "-m", "kip", "run", "--config", str(self.config))
        # As a container that is restarted in its pod: it goes on under its own Lease at once.
        identity = "kip-local" if self.name == "operator" else f"kip-{self.name}"
        environment = {"KUBECONFIG": str(self._world.operator_kubeconfig), "POD_NAME": identity}
        self._processes.start(Command(self.name, argv, environment))
        if wait:
            eventually(self.healthy, _PATIENCE, f"{self.name} is healthy", self.tail)

    def stop(self) -> None:
        """Ends it as Kubernetes does: SIGTERM, and it has to be enough."""
        if process := self._running():
            assert process.stop(_PATIENCE), f"{self.name} had to be killed\n{self.tail()}"

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Sends it a signal; after SIGKILL it has ended when this returns."""
        process = self._running()
        assert process, f"{self.name} does not run\n{self.tail()}"
        os.kill(process.pid, number)
        if number == signal.SIGKILL:
            eventually(lambda: self.pid is None, _PATIENCE, f"{self.name} has ended", self.tail)

    def healthy(self) -> bool:
        """Whether /healthz answers with 200."""
        return self.probe("/healthz")[0] == 200

    def probe(self, path: str) -> tuple[int, str]:
        """Status and body at that path (/healthz, /readyz, /metrics). Raises OSError: nobody answers."""
        url = f"http://{self._health['listenAddress']}:{self._health['port']}{path}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode(errors="replace")

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of that metric with these labels; 0 when there is none."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        samples = [
            line.rsplit(" ", 1)
            for line in self.probe("/metrics")[1].splitlines()
            if line.partition("{")[0].partition(" ")[0] == name and all(part in line for part in wanted)
        ]
        return sum(float(value) for _, value in samples)

    def log(self) -> str:
        """All that it printed since the world was made."""
        path = self._processes.log(self.name)
        return path.read_text(errors="replace") if path.exists() else ""

    def tail(self, lines: int = 25) -> str:
        """The last lines that it printed."""
        return "\n".join([f"--- last lines of {self.name}:", *self._processes.last_lines(self.name, lines)])

    def remove(self) -> None:
        """Ends it and forgets it."""
        self._processes.stop(self.name)

    def _running(self) -> Process | None:
        return self._processes.running(self.name)


def standby(world: World) -> OperatorProcess:
    """A second operator with the same configuration but for its ports; not started."""
    used = {port for other in all_worlds() for port in other.ports.values()}
    ports = free_ports({"kubelet": world.ports["kubelet"] + 1, "operator": world.ports["operator"] + 1}, used)
    config = configuration(world, kubelet_port=ports["kubelet"], health_port=ports["operator"])
    return OperatorProcess(world, "standby", config)


def configuration(world: World, **ports: int) -> dict[str, Any]:
    """The world's own provider.yaml, with shorter waits for machines that never come."""
    config = provider.settings(world, **ports)
    return {**config, "cells": {**config["cells"], "connectTimeout": "40s", "startTimeout": "40s"}}
