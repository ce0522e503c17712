"""What the demonstration shows, in order."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from kip.local.demo.stage import CommandFailed, Stage

NAMESPACE = "demo"

_READY = re.compile(r"\b1/1\s+Running\b")


@dataclass(frozen=True)
class Setting:
    """Where the story takes place."""

    node: str
    """The virtual node."""
    kip: str
    """How a user calls this installation's `kip`."""
    world: str
    """Arguments of `kip local …` that name the world: empty for the usual one."""
    boots: bool
    """Whether machines are booted here, so that pods run."""


def tell(stage: Stage, setting: Setting) -> None:
    """The whole story. Raises CommandFailed at the first thing that is not as it should be."""
    _begin_anew(stage)
    _node(stage, setting)
    _first_pod(stage, setting)
    if setting.boots:
        _second_pod(stage)
        _network(stage)
        _logs(stage)
    _instances(stage, setting)
    _end(stage, setting)


def _begin_anew(stage: Stage) -> None:
    if stage.ask(f"kubectl get namespace {NAMESPACE} --ignore-not-found"):
        stage.heading("Removing what an earlier demonstration left")
        stage.run(f"kubectl delete namespace {NAMESPACE}")


def _node(stage: Stage, setting: Setting) -> None:
    stage.heading("The virtual node")
    stage.ask(f"kubectl wait --for=create node/{setting.node} --timeout=30s")
    stage.run(f"kubectl wait --for=condition=Ready node/{setting.node} --timeout=60s")
    stage.run("kubectl get nodes")


def _first_pod(stage: Stage, setting: Setting) -> None:
    stage.heading("A pod becomes a machine")
    stage.run(f"kubectl create namespace {NAMESPACE}")
    # Made by the controller manager a moment after the namespace; pods are refused until then.
    stage.ask(f"kubectl -n {NAMESPACE} wait --for=create serviceaccount/default --timeout=30s")
    stage.run(f"cat {quoted(manifest('web.yaml'))}")
    stage.run(f"kubectl -n {NAMESPACE} apply -f {quoted(manifest('web.yaml'))}")
    if setting.boots:
        stage.run(f"kubectl -n {NAMESPACE} get pod web --watch", until=is_ready)
    else:
        stage.run(f"kubectl -n {NAMESPACE} events --for pod/web --watch", until=_is_launched)
        stage.run(f"kubectl -n {NAMESPACE} get pod web")
    stage.run(f"kubectl -n {NAMESPACE} describe pod web | sed -n '/^Events:/,$p'")
    stage.run("kubectl get cells")


def _second_pod(stage: Stage) -> None:
    stage.heading("A second one, which asks for more")
    stage.run(f"kubectl -n {NAMESPACE} apply -f {quoted(manifest('toolbox.yaml'))}")
    stage.run(f"kubectl -n {NAMESPACE} get pod toolbox --watch", until=is_ready)
    stage.run("kubectl get cells")
    stage.run(f"kubectl -n {NAMESPACE} exec toolbox -- sh -c 'hostname; ip address show eth0'")


def _network(stage: Stage) -> None:
    stage.heading("Two pods on two machines: by IP, by Service, and back")
    stage.run(f"kubectl -n {NAMESPACE} get pods,services -o wide")
    web = _ip(stage, "web")
    toolbox = _ip(stage, "toolbox")
    inside = f"kubectl -n {NAMESPACE} exec toolbox -- timeout 10 wget -q -O -"
    _expect(stage, f"{inside} http://{web}:8080/", "hostname: web")
    _expect(stage, f"{inside} http://web/", "hostname: web")
    stage.say()
    stage.say("web fetches what it is asked to fetch: toolbox asks web, and web asks toolbox.")
    _expect(stage, f"{inside} 'http://web/fetch?url=http://{toolbox}:8080/'", "hello from toolbox")
    _expect(stage, f"{inside} 'http://web/fetch?url=http://toolbox.{NAMESPACE}.svc/'", "hello from toolbox")


def _logs(stage: Stage) -> None:
    stage.heading("Its log")
    stage.run(f"kubectl -n {NAMESPACE} logs web --tail=8")


def _instances(stage: Stage, setting: Setting) -> None:
    stage.heading("What EC2 shows")
    stage.run(f"{setting.kip} local instances{setting.world}")


def _end(stage: Stage, setting: Setting) -> None:
    stage.heading("No pod, no machine")
    ours = [cell for cell in _cells(stage) if cell["spec"]["podNamespace"] == NAMESPACE]
    names = [cell["metadata"]["name"] for cell in ours]
    instances = [cell["status"]["instanceID"] for cell in ours]
    stage.run(f"kubectl -n {NAMESPACE} delete -f {quoted(manifest('web.yaml').parent)} --ignore-not-found")
    stage.ask(f"kubectl wait --for=delete cells {' '.join(names)} --timeout=60s")
    stage.run("kubectl get cells")
    listed = stage.run(f"{setting.kip} local instances{setting.world}")
    if left := [name for name in instances if not is_gone(name, listed)]:
        raise CommandFailed(f"EC2 still has {', '.join(left)}")


def _cells(stage: Stage) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(stage.ask("kubectl get cells -o json"))["items"]
    return found


def _ip(stage: Stage, pod: str) -> str:
    return stage.ask(f"kubectl -n {NAMESPACE} get pod {pod} -o jsonpath='{{.status.podIP}}'")


def _expect(stage: Stage, command: str, part: str) -> None:
    answer = stage.run(command)
    if part not in answer:
        raise CommandFailed(f"`{command}` was expected to answer {part!r}")


def is_ready(line: str) -> bool:
    """Whether a line of `kubectl get pod` shows a pod of one container that is Ready."""
    return bool(_READY.search(line))


def _is_launched(line: str) -> bool:
    return "CellLaunched" in line


def is_gone(instance: str, listed: str) -> bool:
    """Whether EC2's list shows an instance as gone, or no longer at all."""
    return all("terminated" in line for line in listed.splitlines() if line.startswith(instance))


def manifest(name: str) -> Path:
    """A manifest of the demonstration, as short as it can be said from here."""
    return shortest(Path(str(resources.files("kip.local.demo") / name)).resolve())


def shortest(path: Path) -> Path:
    """The path as seen from the working directory, if it is below that."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def quoted(path: Path) -> str:
    """The path for a shell."""
    return shlex.quote(str(path))
