"""Faults on request."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from kip.local.aws.faults import Fault, Faults

Aws = Any


def test_a_fault_is_spent_after_its_calls() -> None:
    faults = Faults()
    faults.add([Fault(action="RunInstances", error="X", count=2)])
    taken = [faults.take("RunInstances", {}) for _ in range(3)]
    assert [fault and fault.error for fault in taken] == ["X", "X", None]
    assert faults.pending() == []


def test_a_fault_without_a_count_stays_until_cleared() -> None:
    faults = Faults()
    faults.add([Fault(error="X", count=None)])
    assert all(faults.take("Anything", {}) for _ in range(10))
    faults.clear()
    assert faults.take("Anything", {}) is None


def test_only_fitting_calls_fail() -> None:
    faults = Faults()
    faults.add([Fault(action="RunInstances", match={"InstanceType": "t3.micro"}, error="X", count=None)])
    assert faults.take("DescribeInstances", {"InstanceType": "t3.micro"}) is None
    assert faults.take("RunInstances", {"InstanceType": "t3.small"}) is None
    assert faults.take("RunInstances", {"InstanceType": "t3.micro"})


def test_clearing_ends_a_delay() -> None:
    faults = Faults()
    held = threading.Thread(target=faults.hold, args=(30,))
    held.start()
    deadline = time.monotonic() + 10
    while held.is_alive() and time.monotonic() < deadline:
        faults.clear()
        held.join(0.01)
    assert not held.is_alive()


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("UnauthorizedOperation", 403),
        ("RequestLimitExceeded", 503),
        ("InternalError", 500),
        ("Whatever", 400),
    ],
)
def test_an_error_comes_with_the_status_aws_gives_it(aws: Aws, code: str, status: int) -> None:
    aws.control("POST", "faults", {"action": "DescribeVpcs", "error": code, "message": "a < b"})
    found, text = aws.call("DescribeVpcs")
    assert found == status
    assert f"<Code>{code}</Code><Message>a &lt; b</Message>" in text
    assert aws.call("DescribeVpcs")[0] == 200


def test_an_error_before_the_call_prevents_it_and_one_after_does_not(aws: Aws) -> None:
    aws.control("POST", "faults", [{"error": "InternalError"}, {"error": "InternalError", "when": "after"}])
    with pytest.raises(AssertionError, match="InternalError"):
        aws.run("token")
    assert aws.instances() == {}
    with pytest.raises(AssertionError, match="InternalError"):
        aws.run("token")
    (there,) = aws.instances()
    assert aws.run("token") == [there]


@pytest.mark.parametrize(("when", "at_first"), [("before", 0), ("after", 1)])
def test_a_delay_only_delays_the_call_or_its_answer(aws: Aws, when: str, at_first: int) -> None:
    aws.control("POST", "faults", {"action": "RunInstances", "delay_s": 30, "when": when})
    launch = threading.Thread(target=aws.run)
    launch.start()
    deadline = time.monotonic() + 10
    while aws.control("GET", "faults")["faults"] or len(aws.instances()) != at_first:
        assert time.monotonic() < deadline, f"{len(aws.instances())} instances, expected {at_first}"
        time.sleep(0.01)
    launch.join(0.1)
    assert launch.is_alive()
    assert len(aws.instances()) == at_first

    aws.control("DELETE", "faults")
    launch.join(10)
    assert not launch.is_alive()
    assert len(aws.instances()) == 1


def test_a_launch_can_be_granted_in_part(aws: Aws) -> None:
    aws.control("POST", "faults", {"action": "RunInstances", "max_grant": 2})
    first = aws.run("token", MaxCount=5)
    assert len(first) == 2
    assert aws.run("token", MaxCount=5) == first
    assert len(aws.run("other", MaxCount=5)) == 5
