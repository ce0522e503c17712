"""What ECR's API answers, by moto, is what we read."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from kip.cloud.ecr import EcrLogins
from kip.cloud.sdk import SdkSettings, Session
from kip.images.lending import Lending
from kip.images.logins import EcrCredentials
from kip.model.clock import SystemClock


def session(local_aws: str) -> Session:
    keys = {"access_key_id": "test", "secret_access_key": "test"}
    return Session(SdkSettings(region="us-east-1", endpoint_url=local_aws, **keys))


async def test_a_login_for_each_region(local_aws: str) -> None:
    logins = EcrLogins(session(local_aws).ecr, SystemClock())
    here, there = await logins.of("us-east-1"), await logins.of("eu-west-1")
    assert here.username == there.username == "AWS"
    assert here.password
    # moto's tokens ended in 2014: the time is read, and such a login is not used again.
    assert here.until < SystemClock().now()
    assert await logins.of("us-east-1") is not here


def calls(
    local_aws: str, method: str = "GET", path: str = "calls?action=GetAuthorizationToken", body: object = None
) -> Any:
    """The local AWS's control API."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{local_aws}/_kip/{path}", method=method, data=data)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


async def test_what_a_pod_s_kubelet_is_lent(local_aws: str) -> None:
    ours, theirs = (
        "123456789012.dkr.ecr.us-east-1.amazonaws.com",
        "210987654321.dkr.ecr.us-east-1.amazonaws.com",
    )
    calls(local_aws, "DELETE", "calls")
    lent = await Lending(EcrCredentials(EcrLogins(session(local_aws).ecr, SystemClock()))).of((ours, theirs))
    assert lent.trouble == ""
    assert set(lent.logins) == {ours, theirs}, (
        "a login is for the registries of all accounts that the role may pull from"
    )
    assert {login.username for login in lent.logins.values()} == {"AWS"}
    assert len(calls(local_aws)["calls"]) == 1


async def test_what_is_missing_is_named(local_aws: str) -> None:
    message = (
        "User: arn:aws:sts::1:assumed-role/kip/x is not authorized to perform: ecr:GetAuthorizationToken"
    )
    fault = {
        "action": "GetAuthorizationToken",
        "error": "AccessDeniedException",
        "message": message,
        "count": None,
    }
    calls(local_aws, "POST", "faults", fault)
    try:
        registry = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
        lent = await Lending(EcrCredentials(EcrLogins(session(local_aws).ecr, SystemClock()))).of((registry,))
    finally:
        calls(local_aws, "DELETE", "faults")
    assert lent.logins == {}
    assert registry in lent.trouble
    assert "ecr:GetAuthorizationToken" in lent.trouble
