"""How large answers of EC2 are asked for, and what is made of them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from kip.cloud.offerings import Ec2Offerings
from kip.cloud.ratelimit import Rate
from kip.cloud.sdk import Ec2Sdk
from kip.model.clock import ManualClock, settle

TYPE = {
    "InstanceType": "m7i.large",
    "CurrentGeneration": True,
    "SupportedUsageClasses": ["on-demand", "spot"],
    "BareMetal": False,
    "Hypervisor": "nitro",
    "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
    "VCpuInfo": {"DefaultVCpus": 2},
    "MemoryInfo": {"SizeInMiB": 8192},
    "EbsInfo": {"NvmeSupport": "required"},
    "NetworkInfo": {"MaximumNetworkInterfaces": 3, "Ipv4AddressesPerInterface": 10},
    "BurstablePerformanceSupported": False,
    "DedicatedHostsSupported": True,
}
NOW = datetime(2026, 11, 1, tzinfo=UTC)


class Pages:
    """A client that gives one page after the other, and remembers what it was asked."""

    def __init__(self, key: str, *pages: list[dict[str, Any]]) -> None:
        self._key = key
        self._pages = pages
        self.asked: list[dict[str, Any]] = []

    def __getattr__(self, operation: str) -> Any:
        async def call(**parameters: Any) -> dict[str, Any]:
            self.asked.append(parameters)
            number = int(parameters.get("NextToken", 0))
            more = number + 1 < len(self._pages)
            # The last page of DescribeSpotPriceHistory has an empty token.
            return {self._key: self._pages[number], "NextToken": str(number + 1) if more else ""}

        return call


def offerings(client: Pages, clock: ManualClock | None = None, **more: Any) -> Ec2Offerings:
    return Ec2Offerings(Ec2Sdk(client), clock or ManualClock(NOW), **more)


async def test_pages_are_put_together_and_small() -> None:
    other = {**TYPE, "InstanceType": "c7i.large"}
    client = Pages("InstanceTypes", [TYPE], [], [other])
    assert [kind.name for kind in await offerings(client).types()] == ["c7i.large", "m7i.large"]
    assert [asked.get("NextToken") for asked in client.asked] == [None, "1", "2"]
    assert {asked["MaxResults"] for asked in client.asked} == {25}


async def test_pages_are_paced() -> None:
    clock, client = ManualClock(NOW), Pages("InstanceTypes", *[[TYPE]] * 4)
    sweep = asyncio.create_task(offerings(client, clock, calls=Rate(burst=2, per_second=1)).types())
    await settle()
    assert len(client.asked) == 2
    await clock.advance(1)
    assert len(client.asked) == 3
    await clock.advance(1)
    assert len(await sweep) == 4


async def test_a_type_that_is_not_understood_hides_no_other() -> None:
    riscv = {**TYPE, "InstanceType": "r1.large", "ProcessorInfo": {"SupportedArchitectures": ["riscv64"]}}
    client = Pages("InstanceTypes", [riscv, TYPE, {"InstanceType": "x.y"}])
    assert [kind.name for kind in await offerings(client).types()] == ["m7i.large"]


async def test_a_part_of_a_gpu_is_recognised_by_an_sdk_that_does_not_know_of_parts() -> None:
    card = {"Name": "L4", "Manufacturer": "NVIDIA", "Count": 0, "MemoryInfo": {"SizeInMiB": 2861}}
    client = Pages("InstanceTypes", [{**TYPE, "GpuInfo": {"Gpus": [card]}}])
    (kind,) = await offerings(client).types()
    assert (kind.gpus, kind.gpu_fraction) == (1, True)


async def test_what_each_zone_has() -> None:
    entries = [{"InstanceType": t, "Location": z} for t, z in (("a", "1"), ("b", "1"), ("a", "2"))]
    client = Pages("InstanceTypeOfferings", entries)
    assert await offerings(client).offered() == {"1": frozenset({"a", "b"}), "2": frozenset({"a"})}
    assert client.asked[0]["LocationType"] == "availability-zone"


def price(usd: str, age_h: int, **more: str) -> dict[str, Any]:
    of = {"InstanceType": "m7i.large", "AvailabilityZone": "us-east-1a", "SpotPrice": usd}
    return {**of, "Timestamp": NOW - timedelta(hours=age_h), **more}


async def test_the_latest_spot_price_of_a_type_in_a_zone_counts() -> None:
    client = Pages(
        "SpotPriceHistory",
        [price("0.03", 5), price("0.05", 1), price("0.01", 0, AvailabilityZone="us-east-1b")],
        [price("0.04", 3), price("0", 0, InstanceType="c7i.large")],
    )
    assert await offerings(client).spot_prices() == {
        ("m7i.large", "us-east-1a"): 0.05,
        ("m7i.large", "us-east-1b"): 0.01,
    }
    asked = client.asked[0]
    assert asked["StartTime"] == asked["EndTime"] == NOW
    assert asked["ProductDescriptions"] == ["Linux/UNIX", "Linux/UNIX (Amazon VPC)"]


async def test_each_page_gives_way_to_more_urgent_work():
    asked: list[str] = []

    async def give_way() -> None:
        asked.append("turn")

    await offerings(Pages("InstanceTypes", *[[TYPE]] * 3), give_way=give_way).types()
    assert asked == ["turn"] * 3
