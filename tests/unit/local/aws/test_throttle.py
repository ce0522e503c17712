"""EC2's token buckets in the local AWS."""

from __future__ import annotations

import pytest

from kip.local.aws.throttle import Rate, Throttle, ThrottleError, parse

FILTERED = {"Filter.1.Name": "instance-id"}


class Hand:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def throttle(clock: Hand) -> Throttle:
    made = Throttle(clock)
    made.set({})
    return made


def admitted(throttle: Throttle, action: str, parameters: dict[str, str]) -> int:
    """Calls until one is refused."""
    return next(n for n in range(10_000) if not throttle.admits(action, parameters))


def test_off_means_off(clock: Hand) -> None:
    throttle = Throttle(clock)
    assert all(throttle.admits("RunInstances", {"MaxCount": "1000"}) for _ in range(100))


@pytest.mark.parametrize(
    ("action", "parameters", "burst", "per_second"),
    [
        ("RunInstances", {"MaxCount": "1"}, 5, 2),
        ("TerminateInstances", {"InstanceId.1": "i-1"}, 100, 5),
        ("DescribeInstances", FILTERED, 100, 20),
        ("DescribeInstances", {"MaxResults": "5"}, 100, 20),
        ("DescribeInstances", {"InstanceId.1": "i-1"}, 100, 20),
        ("DescribeInstances", {"Action": "DescribeInstances"}, 50, 10),
        ("DescribeSubnets", {}, 100, 20),
        ("CreateSecurityGroup", {}, 50, 5),
        ("CreateTags", {}, 100, 10),
    ],
)
def test_calls_are_admitted_as_aws_documents(
    throttle: Throttle, clock: Hand, action: str, parameters: dict[str, str], burst: int, per_second: int
) -> None:
    assert admitted(throttle, action, parameters) == burst
    clock.seconds += 1
    assert admitted(throttle, action, parameters) == per_second
    clock.seconds += 3600
    assert admitted(throttle, action, parameters) == burst


def test_each_action_has_a_bucket_of_its_own(throttle: Throttle) -> None:
    admitted(throttle, "DescribeSubnets", {})
    assert throttle.admits("DescribeVpcs", {})
    assert throttle.admits("DescribeInstances", {})
    assert throttle.admits("DescribeInstances", FILTERED)


def test_instances_are_counted_too(throttle: Throttle, clock: Hand) -> None:
    """ "One request for 1000 instances, or four for 250"; then two a second."""
    assert all(throttle.admits("RunInstances", {"MaxCount": "250"}) for _ in range(4))
    clock.seconds += 10
    assert not throttle.admits("RunInstances", {"MaxCount": "21"})
    assert throttle.admits("RunInstances", {"MaxCount": "20"})
    many = {f"InstanceId.{n}": f"i-{n}" for n in range(1000)}
    assert throttle.admits("TerminateInstances", many)
    clock.seconds += 1
    assert not throttle.admits("TerminateInstances", {f"InstanceId.{n}": "" for n in range(21)})
    assert throttle.admits("TerminateInstances", {f"InstanceId.{n}": "" for n in range(20)})


def test_other_numbers_can_be_set() -> None:
    changes = parse({"RunInstances": {"resource": [3, 1]}})
    assert changes == {"RunInstances": {"resource": Rate(3, 1)}}
    throttle = Throttle()
    throttle.set(changes)
    assert throttle.setting() == {"RunInstances": {"resource": [3, 1]}}
    assert not throttle.admits("RunInstances", {"MaxCount": "4"})
    assert throttle.admits("RunInstances", {"MaxCount": "3"})


@pytest.mark.parametrize(
    "wrong",
    [
        "yes",
        {"RunInstances": [5, 2]},
        {"RunInstances": {}},
        {"RunInstances": {"requests": [5, 2]}},
        {"RunInstances": {"request": [5]}},
        {"RunInstances": {"request": [0, 2]}},
        {"RunInstances": {"request": [True, 2]}},
    ],
)
def test_what_is_no_throttle_is_refused(wrong: object) -> None:
    with pytest.raises(ThrottleError, match="expected"):
        parse(wrong)
