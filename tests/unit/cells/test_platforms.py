"""What images are built for: who waits, who asks again, and what a registry's silence means."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kip.cells.platforms import ImagePlatforms
from kip.model.clock import ManualClock, settle
from kip.oci.credentials import ANONYMOUS, Credentials
from kip.oci.errors import Denied, RegistryError, Unreachable
from kip.oci.reference import Reference
from kip.pods.architecture import Built

ARM = Built(frozenset({"arm64"}))


class Registry:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: tuple[str, ...] | RegistryError | RuntimeError = ("linux/arm64",)
        self.open = asyncio.Event()
        self.open.set()

    async def platforms(self, reference: Reference, credentials: Credentials) -> tuple[str, ...]:
        self.asked.append(str(reference))
        await self.open.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.registry = Registry()
        self.subject = self.make()

    def make(self, patience_s: float = 1.0) -> ImagePlatforms:
        async def logins(pod: Any) -> Credentials:
            return ANONYMOUS

        return ImagePlatforms(self.registry.platforms, logins, self.clock, patience_s=patience_s)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.subject.close()


def pod(*images: str, namespace: str = "shop", secrets: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "containers": [{"image": image} for image in images],
            "imagePullSecrets": [{"name": secret} for secret in secrets],
        },
    }


async def test_an_image_is_asked_for_once_however_it_is_written(world: World) -> None:
    for name in ("nginx", "docker.io/library/nginx:latest", "nginx:latest"):
        assert await world.subject.of(pod(name)) == {name: ARM}
    assert world.registry.asked == ["docker.io/library/nginx:latest"]


async def test_many_pods_at_once_wait_for_one_question_and_not_for_long(world: World) -> None:
    world.registry.open.clear()
    asking = [asyncio.create_task(world.subject.of(pod("nginx"))) for _ in range(100)]
    await world.clock.advance(0.6)
    late = asyncio.create_task(world.subject.of(pod("nginx")))
    await settle()
    assert not any(task.done() for task in (*asking, late))
    await world.clock.advance(0.5)
    answers = await asyncio.gather(*asking, late)
    assert answers == [{"nginx": Built(None, "its registry has not answered yet")}] * 101
    assert await world.subject.of(pod("nginx")) == answers[0], "nobody waits any more"
    world.registry.open.set()
    await settle()
    assert await world.subject.of(pod("nginx")) == {"nginx": ARM}
    assert len(world.registry.asked) == 1


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (Denied("registry.example: not for you"), "registry.example: not for you"),
        (Unreachable("no answer"), "no answer"),
        (RuntimeError("nobody has foreseen that"), "nobody has foreseen that"),
    ],
)
async def test_what_is_refused_is_not_known_and_asked_again_later_and_later(
    world: World, error: RegistryError | RuntimeError, why: str
) -> None:
    world.registry.answer = error
    for elapsed, questions in ((0, 1), (59, 1), (2, 2), (119, 2), (2, 3)):
        await world.clock.advance(elapsed)
        assert await world.subject.of(pod("nginx")) == {"nginx": Built(None, why)}
        await settle()
        assert len(world.registry.asked) == questions


async def test_a_tag_is_asked_for_again_after_hours_and_the_old_answer_counts_meanwhile(world: World) -> None:
    digest = f"nginx@sha256:{'0' * 64}"
    await world.subject.of(pod("nginx", digest))
    await world.clock.advance(6 * 3600 + 1)
    world.registry.answer = ("linux/amd64", "linux/arm64")
    assert await world.subject.of(pod("nginx", digest)) == {"nginx": ARM, digest: ARM}
    await settle()
    found = await world.subject.of(pod("nginx", digest))
    assert found["nginx"].architectures == {"amd64", "arm64"}
    assert len(world.registry.asked) == 3, "a digest stands for one image for ever"
    world.registry.answer = Unreachable("away")
    await world.clock.advance(6 * 3600 + 1)
    await world.subject.of(pod("nginx"))
    await settle()
    assert (await world.subject.of(pod("nginx")))["nginx"] == found["nginx"], "better old than nothing"


async def test_nobody_learns_what_others_may_pull(world: World) -> None:
    for namespace, secrets in (("shop", ()), ("bank", ()), ("bank", ("pull",))):
        await world.subject.of(pod("nginx", namespace=namespace, secrets=secrets))
    assert len(world.registry.asked) == 3


async def test_a_name_that_is_none_is_said(world: World) -> None:
    found = await world.subject.of(pod("UPPER/case:"))
    assert found["UPPER/case:"].architectures is None
    assert "UPPER/case:" in found["UPPER/case:"].why
    assert world.registry.asked == []


async def test_without_patience_nobody_is_asked(world: World) -> None:
    subject = world.make(patience_s=0)
    assert await subject.of(pod("nginx")) == {}
    assert world.registry.asked == []


async def test_not_more_is_kept_than_is_of_use(world: World) -> None:
    for number in range(2001):
        await world.subject.of(pod(f"image-{number}"))
    await world.subject.of(pod("image-2000"))
    assert len(world.registry.asked) == 2001
    await world.subject.of(pod("image-0"))
    assert world.registry.asked[-1] == "docker.io/library/image-0:latest"
