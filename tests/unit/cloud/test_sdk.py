"""What the SDK raises leaves in our words."""

from __future__ import annotations

import socket

import pytest

from kip.cloud.errors import NotAuthorized, Unreachable
from kip.cloud.sdk import SdkSettings, filters, open_ec2


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
