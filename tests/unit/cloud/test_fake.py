"""What the fake cloud can do beyond the contract."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kip.cloud.base import ImageSpec, LaunchRequest
from kip.cloud.errors import InsufficientCapacity, QuotaExceeded, Throttled, Unreachable
from kip.cloud.fake import FakeCloud


class SetClock:
    """Shows the time it was set to."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()

    async def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def cloud(clock: SetClock) -> FakeCloud:
    return FakeCloud(clock=clock)


async def a_request(cloud: FakeCloud, token: str = "token", count: int = 1, subnet: int = 0) -> LaunchRequest:
    place = (await cloud.subnets())[subnet]
    group = await cloud.ensure_cell_security_group(cluster="test", vpc_id=place.vpc_id)
    image = await cloud.find(ImageSpec())
    return LaunchRequest(
        client_token=token,
        count=count,
        instance_type="t3.micro",
        image_id=image.id,
        subnet_id=place.id,
        security_group_ids=(group,),
        user_data=b"",
        tags={"token": token},
    )


async def test_a_token_in_another_zone_launches_again_as_on_ec2(cloud: FakeCloud) -> None:
    request = await a_request(cloud)
    other_zone = replace(request, subnet_id=(await cloud.subnets())[1].id)
    (first,) = await cloud.launch(request)
    (second,) = await cloud.launch(other_zone)
    assert first.id != second.id
    assert [i.id for i in await cloud.launch(request)] == [first.id]


async def test_a_boot_takes_the_time_it_is_told_to(cloud: FakeCloud, clock: SetClock) -> None:
    cloud.boot_delay = 30
    (instance,) = await cloud.launch(await a_request(cloud))
    assert instance.state == "pending"
    await clock.sleep(29)
    assert [i.state for i in cloud.all()] == ["pending"]
    await clock.sleep(1)
    assert [i.state for i in cloud.all()] == ["running"]


async def test_calls_are_recorded_even_when_they_fail(cloud: FakeCloud) -> None:
    request = await a_request(cloud)
    cloud.fail("RunInstances", Throttled("slow down"), times=2)
    for _ in range(2):
        with pytest.raises(Throttled):
            await cloud.launch(request)
    await cloud.launch(request)
    assert [call.subject for call in cloud.called("RunInstances")] == [request] * 3


async def test_a_call_can_fail_after_it_took_effect(cloud: FakeCloud) -> None:
    request = await a_request(cloud)
    cloud.fail("RunInstances", Unreachable("lost"), after=True)
    with pytest.raises(Unreachable):
        await cloud.launch(request)
    assert len(cloud.all()) == 1


async def test_faults_come_in_the_order_they_were_asked_for(cloud: FakeCloud) -> None:
    cloud.fail("DescribeAvailabilityZones", Throttled("first"))
    cloud.fail("DescribeAvailabilityZones", Unreachable("second"))
    with pytest.raises(Throttled):
        await cloud.ping()
    with pytest.raises(Unreachable):
        await cloud.ping()
    await cloud.ping()


async def test_a_pool_runs_dry_and_others_do_not(cloud: FakeCloud) -> None:
    request = await a_request(cloud, count=3)
    cloud.capacity["t3.micro", "us-east-1a", "on-demand"] = 4
    assert len(await cloud.launch(request)) == 3
    assert len(await cloud.launch(replace(request, client_token="second"))) == 1
    with pytest.raises(InsufficientCapacity, match="us-east-1a"):
        await cloud.launch(replace(request, client_token="third"))
    assert len(await cloud.launch(replace(request, client_token="spot", market="spot"))) == 3
    assert len(await cloud.launch(await a_request(cloud, token="b", count=3, subnet=1))) == 3


async def test_a_small_subnet_fills_up(clock: SetClock) -> None:
    cloud = FakeCloud(clock=clock, vpc_cidr="10.0.0.0/27")
    # 16 addresses in each of two subnets, 5 of them the VPC's own, two to an instance.
    assert len(await cloud.launch(await a_request(cloud, count=9))) == 5
    with pytest.raises(QuotaExceeded):
        await cloud.launch(await a_request(cloud, token="second"))


async def test_something_can_happen_to_an_instance(cloud: FakeCloud) -> None:
    (instance,) = await cloud.launch(await a_request(cloud))
    cloud.set_state(instance.id, "terminated", "Server.SpotInstanceTermination: Spot instance termination")
    (after,) = await cloud.describe_ids([instance.id])
    assert after.gone
    assert after.private_ip is None
    assert after.state_reason == "Server.SpotInstanceTermination: Spot instance termination"


async def test_reset_forgets_everything(cloud: FakeCloud) -> None:
    request = await a_request(cloud)
    await cloud.launch(request)
    cloud.fail("RunInstances", Throttled("slow down"))
    cloud.reset()
    assert cloud.all() == []
    assert cloud.calls == []
    assert len(await cloud.launch(await a_request(cloud))) == 1
