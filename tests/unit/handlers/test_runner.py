"""kopf's thread: it is stopped in time, and when it ends by itself somebody hears of it."""

from __future__ import annotations

import asyncio
import threading
import time

import kopf
import pytest

from kip.handlers import runner
from kip.handlers.runner import Watches


class Sightings:
    def __init__(self) -> None:
        self.seen: list[tuple[str | None, str]] = []
        self.threads: set[int] = set()

    def pod(self, kind, obj):
        self.seen.append((kind, obj["name"]))
        self.threads.add(threading.get_ident())

    def cell(self, kind, obj): ...
    def node(self, kind, obj): ...


async def login() -> kopf.ConnectionInfo:
    return kopf.ConnectionInfo(server="https://127.0.0.1:1")


class Kopf:
    """Instead of kopf.operator: waits for the flag in its loop's pool as kopf does, or fails, by script."""

    def __init__(self, script) -> None:
        self.script = script
        self.runs = 0
        self.ended = 0

    async def __call__(self, *, memo, stop_flag, **_) -> None:
        self.runs += 1
        waiting = asyncio.get_running_loop().run_in_executor(None, stop_flag.wait)
        try:
            await self.script(self, memo, waiting)
        finally:
            self.ended += 1


@pytest.fixture
def watches(monkeypatch):
    def made(script):
        fake = Kopf(script)
        monkeypatch.setattr(runner.kopf, "operator", fake)
        monkeypatch.setattr(runner, "_RESTART_S", 0.01)
        restarts = []
        sightings = Sightings()
        watches = Watches(sightings, node_name="n", login=login, on_restart=lambda: restarts.append(1))
        return watches, fake, sightings, restarts

    return made


async def until(check, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "not within the time"
        await asyncio.sleep(0.01)


async def stopped(task: asyncio.Task) -> float:
    began = time.monotonic()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return time.monotonic() - began


async def test_what_kopf_sees_arrives_in_the_operators_own_thread(watches):
    async def script(fake, memo, waiting):
        memo.post(memo.sightings.pod, "ADDED", {"name": "web"})
        await waiting

    made, _, sightings, _ = watches(script)
    task = asyncio.create_task(made.run())
    await until(lambda: sightings.seen)
    assert sightings.seen == [("ADDED", "web")]
    assert sightings.threads == {threading.get_ident()}
    assert await stopped(task) < 1


async def test_an_error_that_ends_kopf_is_followed_by_a_new_one_at_once(watches):
    """kopf leaves a thread waiting for its stop flag; its event loop would wait for that thread for ever."""

    async def script(fake, memo, waiting):
        if fake.runs == 1:
            raise RuntimeError("an unknown error in a watch")
        memo.post(memo.sightings.pod, None, {"name": "after"})
        await waiting

    made, fake, sightings, restarts = watches(script)
    task = asyncio.create_task(made.run())
    await until(lambda: sightings.seen)
    assert fake.runs == 2
    assert restarts == [1]
    await stopped(task)
    await until(lambda: fake.ended == 2)


async def test_watches_that_end_again_and_again_are_told_of_until_they_last(watches, monkeypatch):
    monkeypatch.setattr(runner, "_SOUND_S", 0.1)
    sound = threading.Event()

    async def script(fake, memo, waiting):
        if not sound.is_set():
            raise RuntimeError("no user for this uid")
        await waiting

    made, fake, _, _ = watches(script)
    task = asyncio.create_task(made.run())
    await until(lambda: fake.runs >= 3)
    assert "no user for this uid" in made.trouble
    sound.set()
    await until(lambda: made.trouble is None)
    await stopped(task)


async def test_stopping_does_not_wait_for_a_kopf_that_hangs(watches):
    release = threading.Event()

    async def script(fake, memo, waiting):
        await asyncio.to_thread(release.wait)

    made, fake, _, _ = watches(script)
    task = asyncio.create_task(made.run())
    await until(lambda: fake.runs)
    assert await stopped(task) < 2.5
    release.set()
    await until(lambda: fake.ended)


async def test_what_comes_after_the_stop_is_not_passed_on(watches):
    release = threading.Event()

    async def script(fake, memo, waiting):
        await asyncio.to_thread(release.wait)
        memo.post(memo.sightings.pod, "ADDED", {"name": "late"})

    made, fake, sightings, _ = watches(script)
    task = asyncio.create_task(made.run())
    await until(lambda: fake.runs)
    await stopped(task)
    release.set()
    await until(lambda: fake.ended)
    await asyncio.sleep(0.05)
    assert sightings.seen == []
