"""What a batch did not have in common is put on its instances afterwards, once, and only while that is allowed."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from kip.cells.fleet import Fleet
from kip.cells.tagger import Tagger
from kip.cloud.base import Instance, LaunchRequest
from kip.cloud.errors import CloudError, NotAuthorized, Throttled
from kip.cloud.fake import FakeCloud
from kip.model.clock import ManualClock

OWN = {"kip.elotl.co/cluster": "c"}


class World:
    """Instances of one batch and their pods; `tags` is what each pod asks for, by its UID."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.cloud = FakeCloud(clock=self.clock)
        self.fleet = Fleet(self.cloud, self.clock, tags=OWN)
        self.tags: dict[str, dict[str, str]] = {}
        self.cells: list[Any] = []
        pods = SimpleNamespace(get=lambda uid: {"uid": uid} if uid in self.tags else None)
        self.tagger = Tagger(
            self.cloud,
            self.fleet,
            SimpleNamespace(all=lambda: self.cells),  # type: ignore[arg-type]
            pods,
            self.clock,
            wanted=lambda pod: self.tags[pod["uid"]],
        )

    async def launch(self, *tags: dict[str, str]) -> list[Instance]:
        subnet = (await self.cloud.subnets())[0]
        request = LaunchRequest(
            client_token=f"t-{len(self.cells)}",
            count=len(tags),
            instance_type="t3.small",
            image_id=self.cloud.images[0].image.id,
            subnet_id=subnet.id,
            security_group_ids=(),
            user_data=b"",
            tags=OWN,
        )
        launched = await self.cloud.launch(request)
        for instance, wanted in zip(launched, tags, strict=True):
            self.fleet.note(instance)
            uid = f"u-{len(self.cells)}"
            self.tags[uid] = wanted
            self.cells.append(SimpleNamespace(pod_uid=uid, instance_id=instance.id))
        return list(launched)

    def tagged(self) -> list[dict[str, str]]:
        return [{k: v for k, v in i.tags.items() if k not in OWN} for i in self.cloud.all()]

    @property
    def calls(self) -> int:
        return len(self.cloud.called("CreateTags"))


@pytest.fixture
def world() -> World:
    return World()


async def test_instances_that_lack_the_same_share_a_call(world: World) -> None:
    await world.launch({"app": "a"}, {"app": "b"}, {"app": "a"}, OWN)
    await world.tagger.tag()
    assert world.tagged() == [{"app": "a"}, {"app": "b"}, {"app": "a"}, {}]
    assert world.calls == 2


async def test_what_was_given_is_not_given_again_though_ec2_shows_it_later(world: World) -> None:
    await world.launch({"app": "a"})
    await world.tagger.tag()
    await world.tagger.tag()
    assert world.calls == 1
    world.tags["u-0"] = {"app": "b"}
    await world.tagger.tag()
    assert world.tagged() == [{"app": "b"}]


async def test_what_is_gone_is_left_alone(world: World) -> None:
    (instance,) = await world.launch({"app": "a"})
    await world.cloud.terminate([instance.id])
    await world.fleet.look_at(instance.id)
    await world.launch({"app": "b"})
    del world.tags["u-1"]
    await world.tagger.tag()
    assert world.calls == 0


async def test_a_tag_that_is_refused_keeps_back_no_other(world: World) -> None:
    await world.launch({"app": "a"}, {"app": "b"})
    world.cloud.fail("CreateTags", CloudError("no such tag here", code="TagPolicyViolation"))
    await world.tagger.tag()
    assert world.tagged() == [{}, {"app": "b"}]
    await world.tagger.tag()
    assert world.tagged() == [{"app": "a"}, {"app": "b"}]


async def test_a_throttled_round_is_finished_later(world: World) -> None:
    await world.launch({"app": "a"}, {"app": "b"})
    world.cloud.fail("CreateTags", Throttled("slow down"))
    running = asyncio.create_task(world.tagger.run())
    await world.clock.advance(31)
    assert world.calls == 1
    await world.clock.advance(31)
    assert world.tagged() == [{"app": "a"}, {"app": "b"}]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_without_the_permission_it_is_said_once_and_given_up(world: World) -> None:
    await world.launch({"app": "a"})
    world.cloud.fail("CreateTags", NotAuthorized("no", action="CreateTags"))
    running = asyncio.create_task(world.tagger.run())
    await world.clock.advance(31)
    await asyncio.wait_for(running, 1)
    assert world.calls == 1
