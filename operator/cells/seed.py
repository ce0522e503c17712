"""Before the pod is shown: the layers of its images that the image cache has are mounted on its machine.

All of it has one deadline, and whatever goes wrong costs the pod no more than that: what is not there the kubelet pulls.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import structlog

from kip.cells.link import Link, Tunnel
from kip.cells.report import Reporter
from kip.cells.stages import Pod
from kip.images import format as layout
from kip.images import look as answers
from kip.images import seeding
from kip.images.format import FormatError, Image
from kip.images.seeding import Decision, Outcome
from kip.model.cell import SEEDED, Cell
from kip.model.clock import Clock
from kip.oci.access import Access
from kip.oci.errors import RegistryError
from kip.oci.manifest import Manifest
from kip.oci.reference import InvalidName, Reference, parse
from kip.pods.images import images
from kip.tunnel.errors import TunnelError

log = structlog.get_logger(__name__)

# Of the deadline, kept for what comes after: the cell says how far it has got, and it is told to people.
_LAST_S = 0.2
_OLD_CRD = "the Cell cannot say that it has it: install the CustomResourceDefinition of this version"
# Pods whose machines boot; those that never did are forgotten by and by.
_ASKING = 4096
_REASONS: Mapping[Outcome, str] = {
    "cached": "Cached",
    "partly": "PartlyCached",
    "present": "Present",
    "missing": "NotCached",
    "denied": "AccessNotGranted",
    "late": "DeadlinePassed",
    "broken": "CacheBroken",
}
# What a person can mend.
_TROUBLE: tuple[Outcome, ...] = ("denied", "late", "broken")


class Rights(Protocol):
    """Registries, asked as a pod (kip.images.rights)."""

    async def access(self, pod: Pod, reference: Reference) -> Access:
        """Whether the pod may pull it, and what it is; raises nothing that a registry or the API server could say."""
        ...

    async def index(self, pod: Pod, reference: Reference) -> Manifest:
        """The index of that digest; raises RegistryError."""
        ...

    async def image(self, pod: Pod, reference: Reference, platform: str) -> tuple[Image, Manifest | None]:
        """The image of that digest for a platform, and the index that has it, if there is one; raises RegistryError."""
        ...


class Told(Protocol):
    """Numbers about seeding (kip.observe.metrics)."""

    def seeded(self, outcome: str, saved_bytes: int) -> None: ...
    def took(self, seconds: float) -> None: ...


@dataclass
class _Work:
    """One pod's seeding, while it is under way."""

    cell: Cell
    pod: Pod
    tunnel: Tunnel
    until: float
    """By the monotonic clock."""
    references: tuple[Reference, ...]
    decisions: tuple[Decision, ...] = ()
    images: dict[str, Image] = field(default_factory=dict)
    indexes: dict[str, Manifest] = field(default_factory=dict)


class Seeder:
    """Seeds cells, and asks the registries for that as soon as it is known which pod will need it."""

    def __init__(
        self,
        rights: Rights,
        clock: Clock,
        *,
        save: Callable[[Cell], Awaitable[Cell]],
        report: Reporter,
        told: Told,
        deadline_s: float,
    ) -> None:
        self._rights = rights
        self._clock = clock
        self._save = save
        self._report = report
        self._told = told
        self._deadline_s = deadline_s
        self._asking: OrderedDict[str, dict[str, asyncio.Task[Access]]] = OrderedDict()

    def begin(self, pod: Pod) -> None:
        """Ask the registries what they say of the pod's images, once: its machine boots meanwhile."""
        uid = pod["metadata"]["uid"]
        if uid not in self._asking:
            self._asking[uid] = {
                str(reference): asyncio.create_task(self._rights.access(pod, reference), name=f"access {uid}")
                for reference in _references(pod)
            }
            while len(self._asking) > _ASKING:
                self.forget(next(iter(self._asking)))

    def forget(self, pod_uid: str) -> None:
        """The pod has no need of answers any more."""
        for task in self._asking.pop(pod_uid, {}).values():
            task.cancel()

    async def __call__(self, cell: Cell, pod: Pod, link: Link) -> Cell:
        """The cell as it is afterwards: with what it was given, and with the condition that says so.

        Raises KubeError: the Cell could not be written.
        """
        if link.seeded or link.tunnel is None or _has_user_namespace(pod):
            return cell
        self.begin(pod)
        begun = self._clock.monotonic()
        until = (link.connected_at or begun) + self._deadline_s
        work = _Work(cell, pod, link.tunnel, until, _references(pod))
        trouble = ""
        try:
            await self._seed(work)
        except TunnelError as error:
            trouble = str(error)
        except FormatError as error:
            trouble = f"the cell's answer: {error}"
        if link.tunnel is not work.tunnel:
            return work.cell  # the connection was lost; the next one begins anew
        link.seeded = True
        self.forget(cell.pod_uid)
        seconds = self._clock.monotonic() - begun
        self._told.took(seconds)
        return await self._say(work, trouble, seconds)

    async def _seed(self, work: _Work) -> None:
        paths = [str(layout.reference_path(str(reference))) for reference in work.references]
        look = answers.parse(await work.tunnel.look_at_volume(paths, timeout_s=self._left_s(work)))
        work.decisions = seeding.choose(work.references, {}, look)
        if not any(decision.outcome == "late" for decision in work.decisions):
            return  # nothing of it is on the volume, or all of it on the machine
        access = await self._answers(work)
        work.decisions = seeding.choose(work.references, access, look)
        await self._follow_moved(work, look.platform)
        digests = tuple(sorted({decision.digest for decision in work.decisions if decision.digest}))
        if not digests:
            return
        # Before anything of them is looked at: then they are not removed, or are gone already and not found.
        # With those of before: a cell that is seeded again may have layers mounted that nobody asks for any more.
        given = tuple(sorted({*work.cell.cached_images, *digests}))
        work.cell = await self._save(replace(work.cell, cached_images=given))
        if work.cell.cached_images != given:
            # An older definition of Cells drops what it does not know, and the layers could be taken away.
            work.decisions = tuple(
                replace(each, outcome="broken", message=_OLD_CRD) for each in work.decisions
            )
            return
        wanted = [str(layout.image_path(digest)) for digest in digests if digest not in work.images]
        wanted += seeding.layer_paths([*work.images.values()]) + seeding.paths_before(work.decisions)
        second, _ = await asyncio.gather(
            work.tunnel.look_at_volume(wanted, timeout_s=self._left_s(work)), self._fetch_indexes(work)
        )
        planned = seeding.plan(work.decisions, work.images, work.indexes, answers.parse(second))
        work.decisions = planned.decisions
        if orders := planned.orders():
            work.decisions = seeding.results(planned, "failed seeding the cell has not answered")
            said = await work.tunnel.mount_layers(orders, timeout_s=self._left_s(work))
            work.decisions = seeding.results(planned, said)

    def _left_s(self, work: _Work) -> float:
        return max(0.05, work.until - _LAST_S - self._clock.monotonic())

    async def _answers(self, work: _Work) -> dict[str, Access]:
        """Those that come in time."""
        tasks = self._asking[work.cell.pod_uid]
        if tasks:
            await asyncio.wait(tasks.values(), timeout=self._left_s(work))
        return {name: task.result() for name, task in tasks.items() if task.done() and not task.cancelled()}

    async def _follow_moved(self, work: _Work, platform: str) -> None:
        """Of a tag that has moved the registry alone knows the image; its lowest layers are often those of before."""

        async def follow(decision: Decision) -> Decision:
            if not decision.moved:
                return decision
            try:
                async with asyncio.timeout(self._left_s(work)):
                    image, index = await self._rights.image(
                        work.pod, decision.reference.at(decision.top), platform
                    )
            except (RegistryError, TimeoutError) as error:
                return replace(decision, message=f"{decision.message}: {str(error) or 'no answer in time'}")
            work.images[image.digest] = image
            if index is not None:
                work.indexes[index.digest] = index
            return replace(decision, digest=image.digest)

        work.decisions = tuple(await asyncio.gather(*map(follow, work.decisions)))

    async def _fetch_indexes(self, work: _Work) -> None:
        """So that the image is called as after a pull. Without its index it is the same image under its own digest."""

        async def fetch(decision: Decision) -> None:
            try:
                async with asyncio.timeout(self._left_s(work)):
                    index = await self._rights.index(work.pod, decision.reference.at(decision.top))
            except (RegistryError, TimeoutError) as error:
                log.info("no index for a cached image", image=str(decision.reference), error=str(error))
            else:
                work.indexes[index.digest] = index

        missing = {
            decision.top: decision
            for decision in work.decisions
            if decision.digest and decision.top not in (decision.digest, *work.indexes)
        }
        await asyncio.gather(*map(fetch, missing.values()))

    async def _say(self, work: _Work, trouble: str, seconds: float) -> Cell:
        decisions = work.decisions or tuple(
            Decision(reference, "late", "the cache was not read") for reference in work.references
        )
        for decision in decisions:
            self._told.seeded(decision.outcome, decision.saved_bytes)
        message = "; ".join(filter(None, (*map(str, decisions), trouble))) or "the pod names no image"
        worst = _worst(decisions)
        log.info("seeded", cell=work.cell.name, outcome=worst, seconds=round(seconds, 3), message=message)
        reason = _REASONS[worst]
        if worst in _TROUBLE or trouble:
            await self._report.warning(work.pod, "ImageCacheNotUsed", message)
        elif worst != "present":
            used = any(decision.chain for decision in decisions)
            await self._report.progress(work.pod, "ImagesSeeded" if used else "ImagesNotCached", message)
        now = self._clock.now()
        return work.cell.set(
            SEEDED, "True" if worst in ("cached", "present") else "False", reason, message[:1024], now=now
        )


def _has_user_namespace(pod: Pod) -> bool:
    """Its layers are mounted with other owners, which not every kernel does with a squashfs: the pod would not start."""
    return (pod.get("spec") or {}).get("hostUsers") is False


def _references(pod: Mapping[str, Any]) -> tuple[Reference, ...]:
    """What is no image's name is the kubelet's to complain about."""
    found: dict[str, Reference] = {}
    for name in images(pod):
        try:
            reference = parse(name)
        except InvalidName:
            continue
        found[str(reference)] = reference
    return tuple(found.values())


def _worst(decisions: Sequence[Decision]) -> Outcome:
    order: tuple[Outcome, ...] = ("broken", "late", "denied", "partly", "missing", "cached", "present")
    found = {decision.outcome for decision in decisions}
    if "cached" in found and "missing" in found:
        return "partly" if not found & {*_TROUBLE} else next(each for each in order if each in found)
    return next((each for each in order if each in found), "present")
