"""A whole world that is up, and all that tests do with it."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

from support.aws import Aws
from support.cluster import Cluster, Object
from support.operators import OperatorProcess, configuration, standby
from support.waiting import Found, eventually

from kip.local.room import machine
from kip.local.world import World
from kip.model.names import TAG_NODE

LIVE = ("pending", "running", "stopping", "shutting-down")
#: Seconds from a pod's creation to Running on a machine that does other things too; usually 4.
STARTED = 60.0
#: Seconds until an event is there about something that takes no machine.
TOLD = 15.0
#: Seconds from a pod's deletion, its grace period apart, to the end of its instance; usually 2.
ENDED = 60.0

_numbers = itertools.count(1)


class E2eWorld(Cluster):
    """kubectl and the API of the world's cluster, its AWS endpoint, its operator and its machines."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.world = world
        self.aws = Aws(world.url("aws"))
        self.operator = OperatorProcess(world, "operator", configuration(world))

    # The operator's second process.

    @contextlib.contextmanager
    def second_operator(self) -> Iterator[OperatorProcess]:
        """A process that stands by; it is gone afterwards, and the first one serves again."""
        second = standby(self.world)
        try:
            second.start()
            yield second
        finally:
            second.remove()
            self.operator.start()

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Afterwards AWS has no faults and its settings of before, and the operator runs, configured as before."""
        settings, configured = self.aws.settings(), self.operator.configured
        try:
            yield
        finally:
            self.aws.heal()
            self.aws.settings(**settings)
            if self.operator.configured != configured:
                self.operator.remove()
                self.operator.configured = configured
            self.operator.start()

    def reconfigure(self, config: Mapping[str, Any]) -> None:
        """Restarts the operator with another configuration."""
        self.operator.stop()
        self.operator.configure(config)
        self.operator.start()

    # Machines.

    def instances(self, *states: str) -> list[dict[str, Any]]:
        """The instances that run, or that are in one of these states."""
        return self.aws.instances(*(states or ("running",)))

    def on_cell(
        self,
        instance_id: str,
        script: str,
        *,
        input: str | None = None,  # noqa: A002 (subprocess's word)
        check: bool = True,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a script in bash as root on a machine. Raises AssertionError unless it ends with 0."""
        command = ["runc", "--root", str(self.world.runc_root), "exec", instance_id, "bash", "-c", script]
        done = subprocess.run(
            command, input=input or "", capture_output=True, text=True, timeout=timeout, check=False
        )
        if check:
            assert done.returncode == 0, f"on {instance_id}: {script}\n{done.stdout}{done.stderr}"
        return done

    def is_booted(self, instance_id: str) -> bool:
        """Whether the machine runs on this host."""
        return machine.running(self.world, instance_id) is not None

    # Cells.

    def cell_of(self, pod: str, namespace: str) -> Object | None:
        """The Cell of that pod."""
        found = [cell for cell in self.cells(namespace) if cell["spec"]["podName"] == pod]
        return found[0] if found else None

    def cells(self, namespace: str) -> list[Object]:
        """The Cells of a namespace's pods."""
        return [cell for cell in self.list("cells") if cell["spec"]["podNamespace"] == namespace]

    def instance_of(self, pod: str, namespace: str) -> str:
        """The instance that the pod's Cell names. Raises AssertionError: there is none yet."""
        cell = self.cell_of(pod, namespace)
        assert cell, f"pod {pod} has no cell"
        instance: str | None = cell.get("status", {}).get("instanceID")
        assert instance, f"{cell['metadata']['name']} has no instance yet"
        return instance

    # Pods.

    def run(self, *pods: Mapping[str, Any], timeout: float = STARTED) -> list[Object]:
        """Creates the pods and returns them as they are when all of them are ready."""
        self.apply(*pods)
        return [self.ready(p["metadata"]["name"], p["metadata"]["namespace"], timeout) for p in pods]

    def ready(self, pod: str, namespace: str, timeout: float = STARTED) -> Object:
        """The pod as soon as it is Ready."""

        def look() -> Object:
            found = self.existing("pods", pod, namespace)
            assert condition(found, "Ready") == "True", summary(found)
            return found

        return self.eventually(look, timeout, f"pod {pod} is Ready", namespace)

    def told(
        self,
        namespace: str,
        pod: str,
        reason: str,
        timeout: float = TOLD,
        *,
        kind: str = "Warning",
        says: str = "",
    ) -> str:
        """The message of the pod's newest event of that kind and reason that `says` this, as soon as there is one."""

        def look() -> str:
            events = [e for e in self.events(namespace, pod) if (e["type"], e["reason"]) == (kind, reason)]
            return next((e["message"] for e in reversed(events) if says in e["message"]), "")

        return self.eventually(look, timeout, f"pod {pod} is told of {reason}", namespace)

    def existing(self, resource: str, name: str, namespace: str | None = None) -> Object:
        """The object. Raises AssertionError: there is none."""
        found = self.get(resource, name, namespace)
        assert found, f"there is no {resource}/{name}"
        return found

    def gone(self, resource: str, name: str, namespace: str | None = None, timeout: float = ENDED) -> None:
        """Returns when there is no such object."""
        self.eventually(
            lambda: self.get(resource, name, namespace) is None,
            timeout,
            f"{resource}/{name} is gone",
            namespace,
        )

    def exec(self, pod: str, namespace: str, *command: str, container: str | None = None) -> str:
        """What the command says in the pod. Raises KubectlError unless it ends with 0."""
        chosen = ["-c", container] if container else []
        return self.kubectl("exec", "-n", namespace, pod, *chosen, "--", *command).stdout

    # Waiting.

    def eventually(
        self, condition: Callable[[], Found], timeout: float, what: str, namespace: str | None = None
    ) -> Found:
        """What the condition returns as soon as that is true; see support.waiting.eventually.

        A failure tells about the pods and events of the namespace, all cells and instances, and the operator's log.
        """
        return eventually(condition, timeout, what, lambda: self.explain(namespace))

    def explain(self, namespace: str | None = None) -> str:
        """How everything is just now, for a failed test's reader."""
        told = []
        if namespace:
            told += [f"--- pods of {namespace}:"]
            told += _answers(lambda: [summary(pod) for pod in self.list("pods", namespace)])
            told += ["--- events:"]
            told += _answers(lambda: [_told(event) for event in self.events(namespace)[-25:]])
        told += ["--- cells:", *_answers(lambda: [_cell(cell) for cell in self.list("cells")])]
        told += ["--- instances:", *_answers(lambda: [_instance(each) for each in self.instances(*LIVE)])]
        return "\n".join([*told, self.operator.tail()])

    # Namespaces.

    @contextlib.contextmanager
    def fresh_namespace(self, hint: str = "t") -> Iterator[str]:
        """A namespace for one test or one module; afterwards no Cell and no instance of it may be left."""
        name = f"e2e-{hint}-{next(_numbers)}"
        self.kubectl("create", "namespace", name)
        # A pod without its service account is refused: the controller makes it a moment later.
        self.eventually(
            lambda: self.get("serviceaccounts", "default", name), 15, f"{name} has its service account"
        )
        try:
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false")
            self.eventually(lambda: not self.left_of(name), ENDED, f"nothing is left of {name}", name)

    def left_of(self, namespace: str) -> list[str]:
        """Pods and Cells of the namespace, and whatever machines belong to no Cell at all."""
        left = [f"pod {pod['metadata']['name']}" for pod in self.list("pods", namespace)]
        left += [f"cell {cell['metadata']['name']}" for cell in self.cells(namespace)]
        return left + self.stray_machines()

    def stray_machines(self) -> list[str]:
        """Instances of the virtual node that live and that no Cell names; machines here whose instance has ended."""
        named = {cell.get("status", {}).get("instanceID") for cell in self.list("cells")}
        live = self.instances(*LIVE)
        stray = [f"instance {i['id']}" for i in live if TAG_NODE in i["tags"] and i["id"] not in named]
        ended = machine.present(self.world) - {instance["id"] for instance in live}
        return stray + [f"machine of {instance}" for instance in sorted(ended)]


def fetch(pod: Object, url: str, more: str = "", *, port: int = 8080) -> str:
    """What `url` answers to the pod's demonstration server; `more` are further parameters of its /fetch."""
    query = f"url={quote(url, safe='')}" + (f"&{more}" if more else "")
    return ask(f"http://{pod['status']['podIP']}:{port}/fetch?{query}")


def ask(url: str) -> str:
    """What the URL answers to this host, whatever the status. Raises OSError where nobody answers."""
    try:
        with urlopen(url, timeout=15) as answer:
            return str(answer.read().decode())
    except HTTPError as error:
        return error.read().decode(errors="replace")


def condition(found: Object, kind: str) -> str | None:
    """The status of that condition: True, False or Unknown; None when there is none."""
    conditions = found.get("status", {}).get("conditions") or []
    return next((each["status"] for each in conditions if each["type"] == kind), None)


def restarts(pod: Object) -> dict[str, int]:
    """How often each container was restarted."""
    statuses = [*pod["status"].get("initContainerStatuses", []), *pod["status"].get("containerStatuses", [])]
    return {status["name"]: status["restartCount"] for status in statuses}


def container_ids(pod: Object) -> dict[str, str]:
    """The id of each container."""
    statuses = [*pod["status"].get("initContainerStatuses", []), *pod["status"].get("containerStatuses", [])]
    return {status["name"]: status["containerID"] for status in statuses}


def summary(pod: Object) -> str:
    """One line about a pod."""
    status = pod.get("status", {})
    states = {each["name"]: each.get("state") for each in status.get("containerStatuses", [])}
    unmet = {
        each["type"]: each.get("message") or each.get("reason")
        for each in status.get("conditions", [])
        if each["status"] != "True"
    }
    end = pod["metadata"].get("deletionTimestamp")
    return (
        f"{pod['metadata']['name']} on {pod['spec'].get('nodeName')}: {status.get('phase')} {status.get('podIP')}"
        f" {status.get('reason', '')} {status.get('message', '')} {states} unmet {unmet} deleted {end}"
    )


def _answers(ask: Callable[[], list[str]]) -> list[str]:
    """What is told; what cannot be asked says so, because the failure that is explained may be the reason."""
    try:
        return ask()
    except (AssertionError, OSError) as error:
        return [f"(cannot be asked: {error})"]


def _instance(instance: Mapping[str, Any]) -> str:
    return f"{instance['id']} {instance['state']} {instance['private_ip']} {instance['tags']}"


def _cell(cell: Object) -> str:
    status = cell.get("status", {})
    conditions = {
        each["type"]: f"{each['status']} {each.get('message', '')}" for each in status.get("conditions", [])
    }
    return (
        f"{cell['metadata']['name']} {cell['spec']['podNamespace']}/{cell['spec']['podName']} "
        f"{status.get('phase')} {status.get('instanceID')} {conditions}"
    )


def _told(event: Object) -> str:
    return f"{event['involvedObject'].get('name')}: {event['type']} {event['reason']}: {event.get('message')}"
