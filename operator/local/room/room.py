"""The room: keeps the machines that run equal to the instances that should, whatever happened before.

Level-based: each listing of the EC2 endpoint is compared with what is there. For every instance that differs
one task boots or destroys until nothing differs, so an instance's machine is never touched by two at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from kip.local.room import machine
from kip.local.room.ami import Ami
from kip.local.room.instances import ControlError, Instance, Listing
from kip.local.room.machine import Booted
from kip.local.room.wiring import listens
from kip.local.world import World, WorldError

_T = TypeVar("_T")

log = logging.getLogger(__name__)

_SSH_PORT = 22
# A machine that boots uses a processor for a second. Booted a few at a time, the first ones are there as soon
# as if they were alone; all at once, all are late.
_BOOTS_AT_ONCE = (os.cpu_count() or 1) + 1
_SETTLED_WITHIN = 4.0  # seconds after which a machine whose sshd does not come up no longer holds others back
# A disk that is full, a kernel that refuses: of this machine alone, and EC2 has to hear of it. A task that ended by it
# would only be begun again by the next listing, for ever.
_FAILED = (WorldError, OSError)
_RETRY = 0.5  # seconds until an endpoint that did not answer is asked again


class Control(Protocol):
    """What the room needs of the EC2 endpoint; see `instances.ControlApi`."""

    async def list(self, *, newer_than: int | None = None, wait: float = ...) -> Listing:
        """The running instances, as soon as the revision differs."""
        ...

    async def report(self, instance_id: str, state: str, reason: str) -> None:
        """Tells that an instance changed its state by itself."""
        ...


class Room:
    """The machines of one world."""

    def __init__(self, world: World, ami: Ami, control: Control) -> None:
        self._world = world
        self._ami = ami
        self._control = control
        self._wanted: Mapping[str, Instance] = {}
        self._by_address: dict[str, Instance] = {}
        self._machines: dict[str, Booted] = {}
        # What each machine's network leads elsewhere; None when an earlier room has arranged it.
        self._routes: dict[str, dict[str, str] | None] = {}
        self._watches: dict[str, int] = {}  # pidfd of each machine's init
        # Instances that ended by themselves, with what the endpoint has to be told. Not booted again.
        self._ended: dict[str, tuple[str, str] | None] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._boots = asyncio.Semaphore(_BOOTS_AT_ONCE)
        self._threads = ThreadPoolExecutor(max_workers=2 * _BOOTS_AT_ONCE, thread_name_prefix="machine")

    def instance_at(self, address: str) -> Instance | None:
        """The running instance that has that private address, primary or secondary."""
        return self._by_address.get(address)

    def images_in_use(self) -> set[str]:
        """Names of the machine images under machines that run."""
        return {booted.image for booted in self._machines.values()}

    def adopt(self) -> None:
        """Takes over machines that an earlier room booted; half-booted ones are left to the first listing."""
        for instance_id in sorted(machine.present(self._world)):
            if booted := machine.running(self._world, instance_id):
                self._keep(booted)
                self._routes[instance_id] = None
                log.info("%s: adopted, init is process %d", instance_id, booted.pid)

    async def follow(self) -> None:
        """Follows the endpoint's listings until cancelled; the first one is applied before the first wait."""
        revision: int | None = None
        reachable = True
        while True:
            try:
                listing = await self._control.list(newer_than=revision)
            except ControlError as error:
                if reachable:
                    log.warning("machines are left as they are until the EC2 endpoint answers: %s", error)
                reachable, revision = False, None
                await asyncio.sleep(_RETRY)
                continue
            if not reachable:
                log.info("the EC2 endpoint answers again")
            reachable, revision = True, listing.revision
            self.apply(listing)

    def apply(self, listing: Listing) -> None:
        """Makes that listing what should be, and begins to settle what differs."""
        self._wanted = {instance.id: instance for instance in listing.running}
        self._by_address = {
            address: instance for instance in self._wanted.values() for address in instance.addresses
        }
        # The endpoint has understood that these are over.
        self._ended = {key: told for key, told in self._ended.items() if told or key in self._wanted}
        # In the listing's order: what was launched first is booted first.
        for instance_id in dict.fromkeys((*self._wanted, *self._ended, *machine.present(self._world))):
            self._settle_soon(instance_id)

    async def settled(self) -> None:
        """Returns when nothing is being booted or destroyed."""
        while tasks := list(self._tasks.values()):
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """Ends the room's own work; machines run on."""
        for instance_id in list(self._watches):
            self._stop_watching(instance_id)
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._threads.shutdown()

    def _settle_soon(self, instance_id: str) -> None:
        if instance_id not in self._tasks:
            task = asyncio.create_task(self._settle(instance_id), name=f"settle {instance_id}")
            self._tasks[instance_id] = task
            task.add_done_callback(lambda _: self._tasks.pop(instance_id, None))

    async def _settle(self, instance_id: str) -> None:
        """Boots or destroys until the machine is as it should be, and the endpoint told."""
        while True:
            wanted = None if instance_id in self._ended else self._wanted.get(instance_id)
            if wanted and instance_id not in self._machines:
                await self._boot(wanted)
            elif not wanted and instance_id in machine.present(self._world):
                await self._destroy(instance_id)
            elif wanted and self._routes.get(instance_id, {}) != wanted.routes:
                await self._lead(wanted)
            elif told := self._ended.get(instance_id):
                await self._report(instance_id, *told)
            else:
                return

    async def _boot(self, instance: Instance) -> None:
        async with self._boots:
            if instance.id not in self._wanted:
                return  # terminated while it waited for its turn
            begin = time.monotonic()
            try:
                # What a crash left of an earlier boot would be in the way.
                await self._in_thread(machine.destroy, self._world, instance.id)
                booted = await self._in_thread(machine.boot, self._world, self._ami, instance)
            except _FAILED as error:
                log.error("boot failed: %s", error)
                self._ended[instance.id] = ("terminated", f"Server.InternalError: {error}"[:500])
                return
            self._keep(booted)
            log.info("%s: init runs after %.2f s", instance.id, time.monotonic() - begin)
            await self._until_sshd(booted, begin)

    async def _until_sshd(self, booted: Booted, begin: float) -> None:
        while not listens(booted.pid, _SSH_PORT):
            if time.monotonic() - begin > _SETTLED_WITHIN or booted.id not in self._machines:
                log.warning("%s: no sshd after %.1f s", booted.id, time.monotonic() - begin)
                return
            await asyncio.sleep(0.03)
        log.info("%s: sshd listens after %.2f s", booted.id, time.monotonic() - begin)

    async def _destroy(self, instance_id: str) -> None:
        begin = time.monotonic()
        self._stop_watching(instance_id)
        self._machines.pop(instance_id, None)
        self._routes.pop(instance_id, None)
        try:
            await self._in_thread(machine.destroy, self._world, instance_id)
        except _FAILED as error:
            log.error("not destroyed: %s", error)
            await asyncio.sleep(_RETRY)
        else:
            log.info("%s: gone after %.2f s", instance_id, time.monotonic() - begin)

    async def _lead(self, instance: Instance) -> None:
        try:
            await self._in_thread(machine.lead, self._world, instance)
        except _FAILED as error:
            # Not tried again before they change: a kernel that refuses a route once refuses it each time.
            log.error("routes of the VPC: %s", error)
        self._routes[instance.id] = instance.routes

    async def _report(self, instance_id: str, state: str, reason: str) -> None:
        try:
            await self._control.report(instance_id, state, reason)
        except ControlError as error:
            log.warning("%s: the EC2 endpoint was not told that it is %s: %s", instance_id, state, error)
            await asyncio.sleep(_RETRY)
        else:
            log.info("%s: told the EC2 endpoint that it is %s: %s", instance_id, state, reason)
            self._ended[instance_id] = None

    def _keep(self, booted: Booted) -> None:
        """Notes a machine that runs, and watches for the end of its init: a power-off from inside."""
        self._machines[booted.id] = booted
        try:
            handle = os.pidfd_open(booted.pid)
        except ProcessLookupError:
            self._powered_off(booted.id)
            return
        self._watches[booted.id] = handle
        asyncio.get_running_loop().add_reader(handle, self._powered_off, booted.id)

    def _powered_off(self, instance_id: str) -> None:
        self._stop_watching(instance_id)
        self._machines.pop(instance_id, None)
        if instance := self._wanted.get(instance_id):
            state = "stopped" if instance.shutdown_behavior == "stop" else "terminated"
            self._ended[instance_id] = (
                state,
                "Client.InstanceInitiatedShutdown: Instance initiated shutdown",
            )
            log.info("%s: powered off from inside", instance_id)
            self._settle_soon(instance_id)

    def _stop_watching(self, instance_id: str) -> None:
        handle = self._watches.pop(instance_id, None)
        if handle is not None:
            asyncio.get_running_loop().remove_reader(handle)
            os.close(handle)

    async def _in_thread(self, function: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
