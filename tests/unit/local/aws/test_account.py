"""What the local AWS remembers outlives its process."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from kip.local.aws.account import Account, StateError, fingerprint
from kip.local.aws.backend import Site

Aws = Any
Start = Callable[..., Aws]


def test_instances_tokens_groups_and_settings_survive(start: Start) -> None:
    aws = start()
    aws.call("CreateSecurityGroup", GroupName="cells", GroupDescription="x", VpcId="vpc-0c1b0000000000001")
    first = aws.run("token", MaxCount=3)
    aws.call("TerminateInstances", InstanceId__1=first[0])
    aws.control("PUT", "settings", {"boot_delay_s": 0.5, "tags": {"room": "small"}})
    before = aws.instances()

    again = start()
    assert again.instances() == before
    assert again.run("token", MaxCount=3) == first
    assert "<groupName>cells</groupName>" in again.call("DescribeSecurityGroups")[1]
    assert again.control("GET", "settings") == {
        "boot_delay_s": 0.5,
        "efs_delay_s": 1.0,
        "tags": {"room": "small"},
        "throttle": False,
    }


def test_addresses_in_use_are_not_given_again_after_a_restart(start: Start) -> None:
    start().run(MaxCount=3)
    again = start()
    again.run(MaxCount=3)
    addresses = [i["private_ip"] for i in again.instances().values()]
    assert len(set(addresses)) == 6


def test_a_boot_goes_on_over_a_restart(start: Start) -> None:
    aws = start()
    aws.control("PUT", "settings", {"boot_delay_s": 0.3})
    aws.run()
    again = start()
    found = again.control("GET", "instances")
    while found["instances"][0]["state"] == "pending":
        found = again.control("GET", f"instances?wait=20&revision={found['revision']}")
    assert found["instances"][0]["state"] == "running"


def test_the_revision_goes_on_so_that_nobody_misses_a_change(start: Start) -> None:
    aws = start()
    aws.run()
    revision = aws.control("GET", "instances")["revision"]
    assert start().control("GET", "instances")["revision"] >= revision > 0


def test_a_call_that_only_reads_changes_nothing(start: Start, tmp_path: Path) -> None:
    aws = start()
    aws.run()
    kept = (tmp_path / "aws.state").read_bytes()
    revision = aws.control("GET", "instances")["revision"]
    aws.call("DescribeInstances")
    assert aws.control("GET", "instances")["revision"] == revision
    assert (tmp_path / "aws.state").read_bytes() == kept


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"garbage", "cannot be read"), (pickle.dumps(("older", None)), "was written by older")],
)
def test_a_state_that_cannot_be_used_is_refused_with_advice(
    tmp_path: Path, content: bytes, says: str
) -> None:
    file = tmp_path / "aws.state"
    file.write_bytes(content)
    with pytest.raises(StateError, match=f"{says}.*down and up again"):
        Account(Site(cidr=IPv4Network("10.77.0.0/26")), file)


def test_a_state_of_another_network_is_refused(start: Start) -> None:
    start().run()
    with pytest.raises(StateError, match="another network"):
        start(site=Site(cidr=IPv4Network("10.78.0.0/26")))


def test_the_same_parameters_are_the_same_in_any_order() -> None:
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": [1, 2]}) != fingerprint({"a": [2, 1]})
