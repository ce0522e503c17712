"""What the SDK raises leaves in our words."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from kip.cloud.base import LaunchRequest
from kip.cloud.batching import Windows
from kip.cloud.ec2 import Ec2Compute
from kip.cloud.errors import NotAuthorized, Unreachable
from kip.cloud.ratelimit import Rate
from kip.cloud.sdk import PAGE_SIZE, Ec2Sdk, SdkSettings, Session, filters, open_ec2, session


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """Nothing of the machine's own AWS set-up."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", f"{tmp_path}/config")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", f"{tmp_path}/credentials")


async def test_nobody_listening_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    async with open_ec2(settings(f"http://127.0.0.1:{port}")) as sdk:
        with pytest.raises(Unreachable, match="DescribeAvailabilityZones"):
            await sdk.describe_availability_zones()


async def test_no_answer_in_time_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        async with open_ec2(settings(url, read_timeout=0.1)) as sdk:
            with pytest.raises(Unreachable, match="timeout"):
                await sdk.describe_instances([])


async def test_no_credentials_are_said_to_be_missing() -> None:
    async with open_ec2(SdkSettings(region="us-east-1", max_attempts=1)) as sdk:
        with pytest.raises(NotAuthorized, match="credentials"):
            await sdk.describe_availability_zones()


class NeverAnswers:
    """A client whose calls are all under way for ever."""

    async def describe_availability_zones(self) -> None:
        await asyncio.Event().wait()


async def test_a_call_that_is_cut_off_is_not_counted_as_answered() -> None:
    heard: list[tuple[str, str]] = []
    sdk = Ec2Sdk(NeverAnswers(), lambda action, result, code, seconds: heard.append((action, result)))
    call = asyncio.create_task(sdk.describe_availability_zones())
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert heard == [("DescribeAvailabilityZones", "cancelled")]


class Remembers:
    """A client that does as it is told, and remembers what that was."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[dict[str, object]]]:
        async def call(**params: object) -> dict[str, object]:
            self.called.append(operation)
            return {"Instances": [INSTANCE], "Images": []}

        return call


INSTANCE = {
    "InstanceId": "i-1",
    "State": {"Name": "pending"},
    "InstanceType": "t3.nano",
    "LaunchTime": datetime(2026, 1, 1, tzinfo=UTC),
}
REQUEST = LaunchRequest(
    client_token="t",
    count=1,
    instance_type="t3.nano",
    image_id="ami-1",
    subnet_id="subnet-1",
    security_group_ids=(),
    user_data=b"",
)


async def test_whoever_may_not_write_changes_nothing_and_still_sees() -> None:
    client = Remembers()
    sdk = Ec2Sdk(client).fenced(lambda: False)
    for change in (
        sdk.run_instances(),
        sdk.terminate_instances(["i-1"]),
        sdk.create_security_group(),
        sdk.authorize_security_group_ingress(),
        sdk.revoke_security_group_ingress(),
        sdk.delete_security_group("sg-1"),
        sdk.create_route(),
        sdk.delete_route(),
        sdk.modify_instance_attribute(),
    ):
        with pytest.raises(Unreachable, match="does not hold"):
            await change
    await sdk.describe_images()
    assert client.called == ["describe_images"]


async def test_a_launch_that_waits_its_turn_is_not_sent_once_the_node_is_lost() -> None:
    client, held = Remembers(), True
    compute = Ec2Compute(Ec2Sdk(client).fenced(lambda: held), launches=Rate(burst=1, per_second=50))
    await compute.launch(REQUEST)
    waiting = asyncio.create_task(compute.launch(REQUEST))
    await asyncio.sleep(0)
    held = False
    with pytest.raises(Unreachable, match="does not hold"):
        await waiting
    assert client.called == ["run_instances"]


async def test_an_end_that_waits_for_its_batch_is_not_sent_once_the_node_is_lost() -> None:
    client, held = Remembers(), True
    windows = Windows(idle=0.01, longest=0.01, most_items=10)
    compute = Ec2Compute(Ec2Sdk(client).fenced(lambda: held), terminate=windows)
    waiting = asyncio.create_task(compute.terminate(["i-1"]))
    await asyncio.sleep(0)
    held = False
    with pytest.raises(Unreachable, match="does not hold"):
        await waiting
    assert client.called == []


class Paged:
    """A client that remembers the pages it was asked for."""

    def __init__(self) -> None:
        self.asked: list[dict[str, object]] = []

    def get_paginator(self, operation: str) -> Paged:
        return self

    async def paginate(self, **options: dict[str, object]):
        self.asked.append(options["PaginationConfig"])
        yield {"Reservations": [{"Instances": [{"InstanceId": "i-1"}]}]}


async def test_pages_are_small_enough_to_be_parsed_between_other_work() -> None:
    client, heard = Paged(), []
    sdk = Ec2Sdk(client, lambda action, result, code, seconds: heard.append((action, result)))
    assert await sdk.describe_instances([]) == [{"InstanceId": "i-1"}]
    assert client.asked == [{"PageSize": PAGE_SIZE}]
    assert PAGE_SIZE <= 200
    assert heard == [("DescribeInstances", "ok")]


def test_filters_of_values_and_tags() -> None:
    assert filters({"vpc-id": "vpc-1", "state": ["a", "b"]}, {"cluster": "x"}) == [
        {"Name": "vpc-id", "Values": ["vpc-1"]},
        {"Name": "state", "Values": ["a", "b"]},
        {"Name": "tag:cluster", "Values": ["x"]},
    ]
    assert filters() == []


def settings(url: str, read_timeout: float = 1.0) -> SdkSettings:
    return SdkSettings(
        region="us-east-1",
        endpoint_url=url,
        access_key_id="test",
        secret_access_key="test",
        connect_timeout=1.0,
        read_timeout=read_timeout,
        max_attempts=1,
    )


@pytest.mark.parametrize(
    ("endpoint", "efs", "ecr"),
    [
        (
            None,
            "https://elasticfilesystem.us-east-1.amazonaws.com",
            "https://api.ecr.eu-west-1.amazonaws.com",
        ),
        (
            "https://vpce-1.ec2.us-east-1.vpce.amazonaws.com",
            "https://elasticfilesystem.us-east-1.amazonaws.com",
            "https://api.ecr.eu-west-1.amazonaws.com",
        ),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000", "http://127.0.0.1:5000"),
    ],
)
async def test_others_than_ec2_are_where_the_endpoint_stands_for_all_of_aws_and_else_at_their_own(
    endpoint: str | None, efs: str, ecr: str
) -> None:
    session = Session(SdkSettings(region="us-east-1", endpoint_url=endpoint))
    async with session.efs() as file_systems, session.ecr("eu-west-1") as registries:
        assert file_systems._client.meta.endpoint_url == efs
        assert registries._client.meta.endpoint_url == ecr


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-11-26T21:45:00.000Z", datetime(2026, 11, 26, 21, 45, tzinfo=UTC)),
        ("2026-11-26T21:45:00Z", datetime(2026, 11, 26, 21, 45, tzinfo=UTC)),
        ("2026-11-26T21:45:00+01:00", datetime(2026, 11, 26, 20, 45, tzinfo=UTC)),
        ("Thu, 26 Nov 2026 21:45:00 GMT", datetime(2026, 11, 26, 21, 45, tzinfo=UTC)),
        (1795729500, datetime(2026, 11, 26, 21, 45, tzinfo=UTC)),
    ],
)
def test_times_are_read_in_every_form_that_aws_writes(written: str | int, meant: datetime) -> None:
    assert session._timestamp(written) == meant
