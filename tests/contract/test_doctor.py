"""The doctor's look at AWS: what the local AWS is broken by, gets its line; and nothing is changed by looking."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import socket
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "doubles"))

from patient import told

from kip.cloud.base import ImageSpec, LaunchRequest
from kip.cloud.ec2 import Ec2Compute
from kip.cloud.images import Ec2Images
from kip.cloud.network import Ec2Network
from kip.cloud.sdk import SdkSettings, Session
from kip.config import Settings
from kip.doctor.asking import Asking
from kip.doctor.facts import ClusterVersion, Facts, Identity, Tried, Unanswered
from kip.doctor.look.aws import Cloud, look_at_aws
from kip.doctor.look.dryruns import dry_run
from kip.model import names
from kip.model.clock import SystemClock

_numbers = itertools.count()

VPC = "vpc-0c1b0000000000001"
SUBNET = "subnet-0c1b0000000000001"
CHANGES = (
    "RunInstances", "TerminateInstances", "CreateTags", "CreateSecurityGroup", "DeleteSecurityGroup", "CreateRoute",
    "AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress", "DeleteRoute", "ModifyInstanceAttribute",
)  # fmt: skip
DENIED = (
    "User: arn:aws:sts::1:assumed-role/kip/x is not authorized to perform: ec2:{} because no policy allows it"
)


class Skewed(SystemClock):
    """A clock that goes wrong."""

    def now(self) -> datetime:
        return super().now() + timedelta(minutes=7)


@dataclass
class Doctor:
    """Looks at the local AWS."""

    url: str
    cluster: str

    def session(self) -> Session:
        return Session(
            SdkSettings(
                region="us-east-1",
                endpoint_url=self.url,
                access_key_id="test",
                secret_access_key="test",
                max_attempts=1,
            )
        )

    def settings(self, profile: str | None, groups: list[str], aws: dict[str, Any]) -> Settings:
        given = {
            "region": "us-east-1",
            "endpointURL": self.url,
            "accessKeyID": "test",
            "secretAccessKey": "test",
        }
        place = {} if aws.keys() & {"vpcID", "subnetID", "subnetTags"} else {"vpcID": VPC}
        return Settings.model_validate(
            {
                "cloud": {"aws": {**given, **place, **aws}},
                "cluster": {"name": self.cluster},
                "cells": {"defaultIAMPermissions": profile, "extraSecurityGroups": groups},
            }
        )

    async def look(
        self,
        *,
        clock: SystemClock | None = None,
        timeout_s: float = 30,
        minor: str = "1.36",
        profile: str | None = None,
        groups: list[str] | None = None,
        **aws: Any,
    ) -> Facts:
        facts = Facts(
            settings=self.settings(profile, groups or [], aws),
            version=ClusterVersion(f"v{minor}.0", minor),
            cluster=self.cluster,
        )

        async def nowhere() -> None:
            return None

        return await look_at_aws(facts, Asking(timeout_s), Cloud(nowhere, clock or SystemClock()))

    def deny(self, *actions: str) -> None:
        call(
            self.url,
            "POST",
            "faults",
            [
                {"action": a, "error": "UnauthorizedOperation", "message": DENIED.format(a), "count": None}
                for a in actions
            ],
        )


def call(url: str, method: str, path: str, body: object = None) -> Any:
    """The local AWS's control API."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}/_kip/{path}", method=method, data=data)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


@pytest.fixture
def doctor(local_aws: str) -> Iterator[Doctor]:
    call(local_aws, "DELETE", "faults")
    yield Doctor(local_aws, f"doctor-{next(_numbers)}")
    call(local_aws, "DELETE", "faults")


@pytest.fixture
async def cell(doctor: Doctor) -> AsyncIterator[str]:
    """A cell in its security group, as Kip makes them; its id."""
    async with doctor.session().ec2() as sdk:
        compute, network = Ec2Compute(sdk), Ec2Network(sdk)
        image = await Ec2Images(sdk).find(ImageSpec(filters={"name": ("*x86_64-standard*",)}))
        group = await network.ensure_cell_security_group(cluster=doctor.cluster, vpc_id=VPC)
        request = LaunchRequest(
            client_token=doctor.cluster,
            count=1,
            instance_type="t3.micro",
            image_id=image.id,
            subnet_id=SUBNET,
            security_group_ids=(group,),
            user_data=b"",
            tags={names.TAG_CLUSTER: doctor.cluster, names.TAG_NODE: "kip-provider-0"},
        )
        (launched,) = await compute.launch(request)
        yield launched.id
        call(doctor.url, "DELETE", "faults")
        await compute.terminate([launched.id])
        await compute.close()


def lines(facts: Facts, check: str) -> list[tuple[str, str, str]]:
    """(status, text, what mends it) of what one check has against it."""
    return [line[1:] for line in told(facts) if line[0] == check]


async def test_a_whole_account_has_nothing_that_fails(doctor: Doctor, cell: str) -> None:
    facts = await doctor.look()
    assert [line for line in told(facts) if line[1] == "failure"] == []
    allowed = {permission for permission, found in facts.calls.items() if found == Tried()}
    assert facts.calls.keys() - allowed == {"pricing:GetProducts"}, facts.calls
    assert set(facts.images) == {"amd64 standard", "arm64 standard"}
    assert facts.own_group is not None
    assert [found.id for found in facts.cells] == [cell]  # type: ignore[union-attr]
    assert not isinstance(facts.running_vcpus, Unanswered)
    assert facts.running_vcpus["L-1216C47A"] >= 2


async def test_looking_changes_nothing(doctor: Doctor, cell: str) -> None:
    async def everything() -> Any:
        async with doctor.session().ec2() as sdk:
            return (
                await sdk.describe_instances([]),
                await sdk.describe_security_groups([]),
                await sdk.describe_route_tables([]),
            )

    before = await everything()
    call(doctor.url, "DELETE", "calls")
    await doctor.look()
    made = call(doctor.url, "GET", "calls")["calls"]
    assert {c["error"] for c in made if c["action"] in CHANGES} == {"DryRunOperation"}
    assert {c["action"] for c in made} >= set(CHANGES)
    assert await everything() == before


@pytest.mark.parametrize("action", CHANGES)
async def test_a_missing_permission_is_named_with_the_statement_that_gives_it(
    doctor: Doctor, cell: str, action: str
) -> None:
    doctor.deny(action)
    (line,) = lines(await doctor.look(), "permissions-to-do")
    status, text, mend = line
    assert text.startswith(f"ec2:{action}: ")
    assert f"not allowed to call ec2:{action}" in text
    assert f"allow ec2:{action} in the policy of Kip's role" in mend
    assert (
        f"kip iam policy --account 123456789012 --region us-east-1 --cluster {doctor.cluster} >policy.json"
        in mend
    )
    assert f"'{action}'" in mend or f"ec2:{action}" in mend.partition("[{")[2]
    needed = {"RunInstances", "TerminateInstances", "AuthorizeSecurityGroupIngress"}
    assert status == ("failure" if action in needed else "warning")


async def test_whoever_may_do_nothing_is_told_all_of_it_at_once(doctor: Doctor) -> None:
    doctor.deny("*")
    facts = await doctor.look()
    assert len(lines(facts, "permissions-to-look")) == 7
    assert [line[0] for line in lines(facts, "subnets")] == ["unknown"]
    assert [line[0] for line in lines(facts, "clock")] == []


async def test_a_launch_that_lacks_the_permission_for_tags_says_so(doctor: Doctor, cell: str) -> None:
    message = "User: arn:aws:… is not authorized to perform: ec2:CreateTags on resource: … because …"
    call(
        doctor.url,
        "POST",
        "faults",
        {"action": "RunInstances", "error": "UnauthorizedOperation", "message": message, "count": None},
    )
    (line,) = lines(await doctor.look(), "permissions-to-do")
    assert line[0] == "failure"
    assert "allow ec2:CreateTags" in line[2]


async def test_a_launch_that_ec2_would_refuse_is_a_failure_with_its_words(doctor: Doctor, cell: str) -> None:
    fault = {"action": "RunInstances", "error": "VcpuLimitExceeded", "count": None}
    call(doctor.url, "POST", "faults", fault)
    (line,) = lines(await doctor.look(), "permissions-to-do")
    assert line[0] == "failure"
    assert "vCPU" in line[1]
    assert "Service Quotas" in line[1]


async def test_a_role_that_may_not_log_in_to_ecr_is_told_which_policy_helps(doctor: Doctor) -> None:
    message = "User: arn:aws:… is not authorized to perform: ecr:GetAuthorizationToken because …"
    fault = {
        "action": "GetAuthorizationToken",
        "error": "AccessDeniedException",
        "message": message,
        "count": None,
    }
    call(doctor.url, "POST", "faults", fault)
    ((status, text, mend),) = lines(await doctor.look(), "permissions-to-pull")
    assert status == "warning"
    assert text.startswith("ecr:GetAuthorizationToken: images in ECR are pulled with")
    assert "--with ecr" in mend
    assert "BatchGetImage" in mend


async def test_a_profile_that_there_is_not_is_found_by_the_dry_run(doctor: Doctor, cell: str) -> None:
    found = lines(await doctor.look(profile="no-such-profile"), "permissions-to-do")
    assert [line[0] for line in found] == ["failure"]
    assert "no-such-profile" in found[0][1]


async def test_without_a_cell_what_cannot_be_tried_is_said_to_be_unknown(doctor: Doctor) -> None:
    found = lines(await doctor.look(), "permissions-to-do")
    assert {line[0] for line in found} == {"unknown"}
    told_of = ", ".join(line[1] for line in found)
    for permission in ("TerminateInstances", "CreateTags", "ModifyInstanceAttribute", "DeleteSecurityGroup"):
        assert permission in told_of
    assert all("kubectl run" in line[2] for line in found)


async def test_a_service_that_hangs_becomes_a_line(doctor: Doctor) -> None:
    call(
        doctor.url,
        "POST",
        "faults",
        {"action": "DescribeVpcs", "error": "timeout", "delay_s": 60, "count": None},
    )
    began = asyncio.get_running_loop().time()
    facts = await doctor.look(timeout_s=2)
    assert asyncio.get_running_loop().time() - began < 30
    assert ("unknown", "ec2:DescribeVpcs: no answer within 2 s") in [
        line[:2] for line in lines(facts, "permissions-to-look")
    ]


async def test_nobody_at_the_endpoint_becomes_a_line(doctor: Doctor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    facts = await doctor.look(endpointURL=f"http://127.0.0.1:{port}")
    ((status, text, _),) = lines(facts, "clock")
    assert status == "unknown"
    assert f"no answer from http://127.0.0.1:{port}" in text


@pytest.mark.parametrize(
    ("aws", "words"),
    [
        ({"subnetID": "subnet-0000000000000000f"}, "there is no subnet subnet-0000000000000000f"),
        ({"vpcID": "vpc-0000000000000000f"}, "no subnets in vpc-0000000000000000f"),
        ({"subnetTags": {"kip": "no"}}, "has the tags kip=no"),
        (
            {"subnetID": SUBNET, "vpcID": "vpc-0000000000000000f"},
            "cloud.aws.vpcID says vpc-0000000000000000f",
        ),
    ],
)
async def test_a_place_that_there_is_not(doctor: Doctor, aws: dict[str, Any], words: str) -> None:
    ((status, text, mend),) = lines(await doctor.look(**aws), "subnets")
    assert status == "failure"
    assert words in text
    assert "aws ec2 describe-subnets --region us-east-1" in mend


async def test_a_version_without_an_image(doctor: Doctor) -> None:
    found = lines(await doctor.look(minor="1.35"), "images")
    assert [line[0] for line in found] == ["failure", "warning"]
    assert "amazon-eks-node-al2023-x86_64-standard-1.35-*" in found[0][1]


async def test_groups_that_there_are_not(doctor: Doctor) -> None:
    ((status, text, _),) = lines(await doctor.look(groups=["sg-00000000"]), "security-groups")
    assert (status, "sg-00000000 of cells.extraSecurityGroups does not exist" in text) == ("failure", True)


async def test_a_clock_that_is_minutes_ahead(doctor: Doctor) -> None:
    ((status, text, _),) = lines(await doctor.look(clock=Skewed()), "clock")
    assert status == "failure"
    assert re.search(r"clock of AWS: this machine is 4(19|20|21) s ahead of it", text)


async def test_without_credentials_nothing_else_is_asked_but_the_time(doctor: Doctor) -> None:
    facts = await doctor.look(accessKeyID=None, secretAccessKey=None)
    ((status, text, mend),) = lines(facts, "credentials")
    assert (status, "no AWS credentials" in text) == ("failure", True)
    assert "aws sso login" in mend, "it is looked at from outside of the cluster"
    assert lines(facts, "clock") == []
    assert facts.calls == {}


async def test_who_asks_is_known_and_a_profile_that_there_is_not(doctor: Doctor) -> None:
    facts = await doctor.look(profile="no-such-profile")
    assert lines(facts, "credentials") == []
    assert isinstance(facts.identity, Identity)
    assert facts.identity.account == "123456789012"
    ((status, _, mend),) = lines(facts, "instance-profile")
    assert (status, "create-instance-profile" in mend) == ("failure", True)


async def test_an_endpoint_that_knows_no_dry_runs_is_no_permission() -> None:
    async def call_() -> dict[str, Any]:
        return {}

    found = await dry_run(Asking(1), call_)
    assert found == Unanswered("refused", "this endpoint knows no dry runs, and has made the call")
