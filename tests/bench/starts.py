"""The start of a cell, step by step. All times are of one clock: everything runs on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from tests.bench.lab import Lab, NothingSeen

# Step → what tells of it. The order is the usual one; a step's time is that of the first line that has the words.
OPERATOR = {
    "reachable": "cell reachable",
    "connected": "cell connected",
    "shown": "pod shown",
    "asked": "kubelet asked",
}
ROOM = {"init": "init runs"}
JOURNAL = {
    "sshd": "Server listening on",
    "boot": "Starting kip-boot.service",
    "containerd": "Started containerd.service",
    "kubelet": "Started kubelet.service",
    "kubelet talks": "Kubelet version",
    "node wanted": "Waiting for node sync",
    "watching": "Watching apiserver",
    "volumes": "RunPodSandbox for",
    "sandbox": "returns sandbox id",
    "started": "returns successfully",
}


@dataclass(frozen=True)
class Start:
    """When each step of one pod's start happened, in seconds since its machine's sshd listened."""

    at: dict[str, float]

    def between(self, earlier: str, later: str) -> float:
        """Seconds from one step to another."""
        return self.at[later] - self.at[earlier]


async def measure(lab: Lab, *, pods: int, keep_last: bool = False) -> list[Start]:
    """One pod after the other, each gone before the next; the last one stays if wanted."""
    starts = []
    for number in range(pods):
        name = f"start-{number}"
        starts += await together(lab, [name])
        if number < pods - 1 or not keep_last:
            await lab.delete(name)
    return starts


async def together(lab: Lab, names: list[str]) -> list[Start]:
    """These pods, created at once; they stay."""
    await lab.forget_calls()
    created = await asyncio.gather(*(lab.create(name) for name in names))
    await lab.until_ready(*names)
    launched = min(call["time"] for call in await lab.calls("RunInstances"))
    cells = await lab.cells()
    return [
        await _start(
            lab,
            name,
            cells[name]["metadata"]["name"],
            cells[name]["status"]["instanceID"],
            {"created": sent, "launched": launched},
        )
        for name, sent in zip(names, created, strict=True)
    ]


async def _start(lab: Lab, name: str, cell: str, instance: str, at: dict[str, float]) -> Start:
    seen = lab.pods[name]
    operator = ((time, line["message"]) for time, line in lab.operator_log() if line.get("cell") == cell)
    room = ((time, line) for time, line in lab.room_log() if instance in line)
    at = {
        **at,
        **first_times(operator, OPERATOR),
        **first_times(room, ROOM),
        **first_times(await lab.journal(instance), JOURNAL),
        "Running": seen.running or 0.0,
        "Ready": seen.ready or 0.0,
    }
    return Start({step: time - at["sshd"] for step, time in at.items()})


def first_times(lines: Iterable[tuple[float, str]], told_by: dict[str, str]) -> dict[str, float]:
    """When each step was first told. Raises NothingSeen for one that was not."""
    found: dict[str, float] = {}
    lines = list(lines)
    for time, line in lines:
        for step, words in told_by.items():
            if step not in found and words in line:
                found[step] = time
    if missing := told_by.keys() - found:
        told = "\n  ".join(line for _, line in lines[-20:])
        raise NothingSeen(f"nothing told of {', '.join(sorted(missing))}; the last lines:\n  {told}")
    return found
