"""What ECR's API answers, by moto, is what we read."""

from __future__ import annotations

from kip.cloud.ecr import EcrLogins
from kip.cloud.sdk import SdkSettings, Session
from kip.model.clock import SystemClock


async def test_a_login_for_each_region(local_aws: str) -> None:
    keys = {"access_key_id": "test", "secret_access_key": "test"}
    session = Session(SdkSettings(region="us-east-1", endpoint_url=local_aws, **keys))
    logins = EcrLogins(session.ecr, SystemClock())
    here, there = await logins.of("us-east-1"), await logins.of("eu-west-1")
    assert here.username == there.username == "AWS"
    assert here.password
    # moto's tokens ended in 2014: the time is read, and such a login is not used again.
    assert here.until < SystemClock().now()
    assert await logins.of("us-east-1") is not here
