"""What is outside the operator and goes on when it dies: machines, their host keys, their kubelets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from kip.cloud.fake import FakeCloud
from kip.kube.client import MERGE_PATCH, ApiClient
from kip.kube.errors import Conflict, NotFound

FIRST_CONTACT_KEY = "ssh-ed25519 first-contact"


class KubeletApi(Protocol):
    """What a kubelet sees through its tunnel."""

    pod_shown: bool
    pod: dict[str, Any]

    def ask(self) -> None: ...
    def report(self, offers: Mapping[str, int], trouble: str) -> None: ...


@dataclass
class Machine:
    """An instance that has booted: sshd and a kubelet."""

    instance_id: str
    own_key: str
    shown_key: str = FIRST_CONTACT_KEY
    reachable: bool = True
    boots: bool = True
    """False: sshd answers, but user data did not run, so there is no key of its own."""
    kubelet_asks: bool = True
    api: KubeletApi | None = None
    has_pod: str | None = None
    """UID of the pod whose containers it has started."""
    devices: dict[str, int] = field(default_factory=dict)
    """What its device plugin has registered."""
    device_trouble: str = ""


@dataclass
class Outside:
    """The cloud, its machines, and what went wrong that must never go wrong."""

    cloud: FakeCloud
    admin: ApiClient
    machines: dict[str, Machine] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    logs_kept: list[str] = field(default_factory=list)
    reachable: bool = True
    """Whether machines that boot from now on can be reached."""
    boots: bool = True
    kubelets_ask: bool = True
    devices: dict[str, int] = field(default_factory=dict)
    """What the machines that boot from now on offer."""

    def live(self) -> list[Machine]:
        """The machines of the instances that exist now."""
        found = []
        for instance in self.cloud.all():
            if instance.gone:
                if (gone := self.machines.get(instance.id)) is not None:
                    gone.api = gone.has_pod = None
                continue
            machine = self.machines.get(instance.id)
            if machine is None:
                machine = self.machines[instance.id] = Machine(
                    instance.id,
                    f"ssh-ed25519 own-{instance.id}",
                    reachable=self.reachable,
                    boots=self.boots,
                    kubelet_asks=self.kubelets_ask,
                    devices=dict(self.devices),
                )
            found.append(machine)
        return found

    def at(self, address: str) -> Machine | None:
        """The machine that answers there."""
        ids = {i.id for i in self.cloud.all() if i.private_ip == address and not i.gone}
        return next((m for m in self.live() if m.instance_id in ids and m.reachable), None)

    async def turn(self) -> None:
        """Each kubelet that is let in does what there is to do."""
        for machine in self.live():
            if machine.api is not None and machine.kubelet_asks:
                machine.api.ask()
                machine.api.report(machine.devices, machine.device_trouble)
                await self._kubelet(machine, machine.api)

    async def _kubelet(self, machine: Machine, api: KubeletApi) -> None:
        if not api.pod_shown:
            if machine.has_pod:
                self.violations.append(f"{machine.instance_id} was shown no pod after it had started one")
            return
        metadata = api.pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        try:
            pod = await self.admin.get(path)
        except NotFound:
            return
        if pod["metadata"]["uid"] != metadata["uid"]:
            return
        if pod["metadata"].get("deletionTimestamp"):
            await self._finish(path, pod)
        elif pod["status"]["phase"] == "Pending":
            self._start(machine, pod)
            await self._report(path, pod, "Running")
        elif pod["status"]["phase"] == "Running" and pod["metadata"]["name"].startswith("job"):
            await self._report(path, pod, "Succeeded")

    def _start(self, machine: Machine, pod: dict[str, Any]) -> None:
        uid = pod["metadata"]["uid"]
        others = [m.instance_id for m in self.live() if m.has_pod == uid and m is not machine]
        if others:
            self.violations.append(f"pod {uid} starts on {machine.instance_id} and runs on {others}")
        if machine.shown_key != machine.own_key:
            self.violations.append(
                f"{machine.instance_id} runs a pod behind a host key that the pod can know"
            )
        wanted = pod["spec"]["containers"][0]["resources"].get("limits", {})
        for resource in wanted:
            if machine.devices.get(resource, 0) < int(wanted[resource]):
                self.violations.append(f"{machine.instance_id} is shown a pod before it has {resource}")
        machine.has_pod = uid

    async def _report(self, path: str, pod: dict[str, Any], phase: str) -> None:
        status = {
            "phase": phase,
            "containerStatuses": [
                {"name": "main", "ready": True, "restartCount": 0, "image": "i", "imageID": "i"}
            ],
        }
        patch = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": status}
        try:
            await self.admin.call("PATCH", f"{path}/status", json=patch, content_type=MERGE_PATCH)
        except (NotFound, Conflict):
            pass

    async def _finish(self, path: str, pod: dict[str, Any]) -> None:
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
        try:
            await self.admin.delete(path, options)
        except (NotFound, Conflict):
            pass
