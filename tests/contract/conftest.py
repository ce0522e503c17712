"""The clouds that the contract suite runs against, each with what a test needs to do to it."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import pytest

from kip.cloud.base import Compute, Images, ImageSpec, LaunchRequest, Network, Offerings, Subnet
from kip.cloud.ec2 import Ec2Compute
from kip.cloud.efs import Efs, FileSystems
from kip.cloud.errors import Unreachable, from_code
from kip.cloud.fake_efs import FakeEfs
from kip.cloud.images import Ec2Images
from kip.cloud.network import Ec2Network
from kip.cloud.nfsgroup import Ec2NfsGroups, NfsGroups
from kip.cloud.offerings import Ec2Offerings
from kip.cloud.ratelimit import Rate
from kip.cloud.routes import Ec2Routes, Routing
from kip.cloud.sdk import SdkSettings, Session, filters
from kip.cloud.securitygroup import Rule, rules_of
from kip.model.clock import SystemClock

EKS_IMAGES = ImageSpec(
    owners=("602401143452",), filters={"name": ("amazon-eks-node-al2023-x86_64-standard-1.36-v*",)}
)

_numbers = itertools.count()


class Troubles(Protocol):
    """What can be made to happen to a cloud."""

    def fail(self, action: str, code: str, times: int = 1) -> None: ...

    def lose_answer(self, action: str) -> None: ...

    def limit_capacity(self, instances: int, instance_type: str) -> None: ...

    def set_boot_delay(self, seconds: float) -> None: ...

    def set_efs_delay(self, seconds: float) -> None: ...


@dataclass
class Cloud:
    """One implementation under test."""

    compute: Compute
    images: Images
    network: Network
    routing: Routing
    offerings: Offerings
    efs: FileSystems
    nfs: NfsGroups
    troubles: Troubles
    ingress: Callable[[str], Awaitable[dict[Rule, str]]]
    """The rules of a security group, with descriptions."""
    passes_foreign_traffic: Callable[[str], Awaitable[bool]]
    """Does this instance get packets that are not for its own addresses?"""

    async def place(self) -> tuple[Subnet, str]:
        """A subnet and the security group of its cells."""
        subnet = (await self.network.subnets())[0]
        group = await self.network.ensure_cell_security_group(cluster="contract", vpc_id=subnet.vpc_id)
        return subnet, group

    async def request(self, **changes: Any) -> LaunchRequest:
        """A launch that works, unless `changes` say otherwise; each with a token and a tag of its own."""
        subnet, group = await self.place()
        image = await self.images.find(EKS_IMAGES)
        name = f"launch-{next(_numbers)}"
        parameters: dict[str, Any] = {
            "client_token": name,
            "count": 1,
            "instance_type": "t3.micro",
            "image_id": image.id,
            "subnet_id": subnet.id,
            "security_group_ids": (group,),
            "user_data": b"#!/bin/sh\n\xff\x00",
            "tags": {"launch": name},
        }
        return LaunchRequest(**{**parameters, **changes})


class FakeTroubles:
    """Troubles of the cloud in memory."""

    def __init__(self, fake: FakeEfs) -> None:
        self._fake = fake

    def fail(self, action: str, code: str, times: int = 1) -> None:
        self._fake.fail(action, from_code(action, code, "made to fail"), times=times)

    def lose_answer(self, action: str) -> None:
        self._fake.fail(action, Unreachable("the answer was lost"), after=True)

    def limit_capacity(self, instances: int, instance_type: str) -> None:
        for zone in "ab":
            self._fake.capacity[instance_type, f"us-east-1{zone}", "on-demand"] = instances

    def set_boot_delay(self, seconds: float) -> None:
        self._fake.boot_delay = seconds

    def set_efs_delay(self, seconds: float) -> None:
        self._fake.efs_delay = seconds


class LocalAwsTroubles:
    """Troubles of the local AWS, by its control API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def call(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_kip/{path}", method=method, data=data)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def reset(self) -> None:
        self.call("DELETE", "faults")
        self.call("PUT", "settings", {"boot_delay_s": 0, "efs_delay_s": 0})

    def fail(self, action: str, code: str, times: int = 1) -> None:
        self.call("POST", "faults", {"action": action, "error": code, "count": times})

    def lose_answer(self, action: str) -> None:
        self.call("POST", "faults", {"action": action, "error": "drop", "when": "after"})

    def limit_capacity(self, instances: int, instance_type: str) -> None:
        match = {"InstanceType": instance_type}
        self.call("POST", "faults", {"action": "RunInstances", "match": match, "max_grant": instances})

    def set_boot_delay(self, seconds: float) -> None:
        self.call("PUT", "settings", {"boot_delay_s": seconds})

    def set_efs_delay(self, seconds: float) -> None:
        self.call("PUT", "settings", {"efs_delay_s": seconds})


@pytest.fixture(scope="session")
def local_aws() -> Iterator[str]:
    """URL of a local AWS of our own."""
    command = [sys.executable, "-m", "kip.local.aws", "--port", "0", "--cidr", "10.99.0.0/20"]
    # The code that is tested, also where another working copy of it is installed.
    ours = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=ours)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            errors.seek(0)
            assert "http://" in line, f"the local AWS did not start; it said {line!r} and {errors.read()}"
            yield line.split()[-1]
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


@pytest.fixture(params=["fake", "ec2"])
async def cloud(request: pytest.FixtureRequest) -> AsyncIterator[Cloud]:
    """Each implementation in turn."""
    if request.param == "fake":
        fake = FakeEfs()

        async def rules(group_id: str) -> dict[Rule, str]:
            return dict(fake.ingress[group_id])

        async def unchecked(instance_id: str) -> bool:
            return instance_id in fake.routes.unchecked

        yield Cloud(fake, fake, fake, fake, fake, fake, fake, FakeTroubles(fake), rules, unchecked)
        return
    troubles = LocalAwsTroubles(request.getfixturevalue("local_aws"))
    troubles.reset()
    settings = SdkSettings(
        region="us-east-1",
        endpoint_url=troubles.url,
        access_key_id="test",
        secret_access_key="test",
        max_attempts=1,
    )
    session = Session(settings)
    async with session.ec2() as sdk, session.efs() as efs_sdk:
        compute = Ec2Compute(sdk)

        async def ingress(group_id: str) -> dict[Rule, str]:
            (group,) = await sdk.describe_security_groups(filters({"group-id": group_id}))
            return rules_of(group)

        async def passes(instance_id: str) -> bool:
            (answer,) = await sdk.describe_instances(filters({"instance-id": instance_id}))
            (interface,) = answer["NetworkInterfaces"]
            assert interface["SourceDestCheck"] == answer["SourceDestCheck"]
            return not answer["SourceDestCheck"]

        network, routing = Ec2Network(sdk), Ec2Routes(sdk)
        offerings = Ec2Offerings(sdk, SystemClock(), calls=Rate(burst=1000, per_second=1000))
        efs, nfs = Efs(efs_sdk), Ec2NfsGroups(sdk)
        images = Ec2Images(sdk)
        yield Cloud(compute, images, network, routing, offerings, efs, nfs, troubles, ingress, passes)
        await compute.close()
