"""The control API: what the machine room, tests and benchmarks see and do."""

from __future__ import annotations

import base64
import threading
import time
from typing import Any

import pytest

Aws = Any


def test_health_counts_instances(aws: Aws) -> None:
    assert aws.control("GET", "health") == {"status": "ok", "instances": 0}
    aws.run()
    assert aws.control("GET", "health")["instances"] == 1


def test_an_instance_is_shown_with_all_that_a_boot_needs(aws: Aws) -> None:
    (id_,) = aws.run(
        InstanceInitiatedShutdownBehavior="terminate",
        MetadataOptions__HttpPutResponseHopLimit=2,
        TagSpecification__1__ResourceType="instance",
        TagSpecification__1__Tag__1__Key="cell",
        TagSpecification__1__Tag__1__Value="one",
        UserData=base64.b64encode(b"#!/bin/sh\n\xff\x00").decode(),
    )
    shown = aws.instances()[id_]
    assert base64.b64decode(shown["user_data_b64"]) == b"#!/bin/sh\n\xff\x00"
    assert shown | {"launch_time": "", "user_data_b64": ""} == {
        "id": id_,
        "state": "running",
        "type": "t3.micro",
        "vcpus": 2,
        "memory_mib": 1024,
        "private_ip": "10.77.0.4",
        "secondary_ips": ["10.77.0.5"],
        "mac": "02:00:0a:4d:00:04",
        "user_data_b64": "",
        "launch_index": 0,
        "image_id": "ami-0c1b0000020261105",
        "image_name": "amazon-eks-node-al2023-x86_64-standard-1.36-v20261105",
        "gpus": 0,
        "tags": {"cell": "one"},
        "launch_time": "",
        "shutdown_behavior": "terminate",
        "subnet_cidr": "10.77.0.0/26",
        "vpc_cidr": "10.77.0.0/26",
        "routes": {},
        "zone": "us-east-1a",
        "hop_limit": 2,
        "market": "on-demand",
    }


@pytest.mark.parametrize(("instance_type", "gpus"), [("g4dn.12xlarge", 4), ("t3.micro", 0)])
def test_gpus_are_nvidias(aws: Aws, instance_type: str, gpus: int) -> None:
    (id_,) = aws.run(InstanceType=instance_type)
    assert aws.instances()[id_]["gpus"] == gpus


def test_a_terminated_instance_still_shows_the_addresses_to_clean_up(aws: Aws) -> None:
    (id_,) = aws.run()
    aws.call("TerminateInstances", InstanceId__1=id_)
    shown = aws.instances()[id_]
    assert shown["state"] == "terminated"
    assert (shown["private_ip"], shown["secondary_ips"]) == ("10.77.0.4", ["10.77.0.5"])


def test_a_long_poll_returns_at_once_for_an_old_revision(aws: Aws) -> None:
    aws.run()
    started = time.monotonic()
    aws.control("GET", "instances?wait=10&revision=0")
    assert time.monotonic() - started < 5


def test_a_long_poll_returns_when_something_changes(aws: Aws) -> None:
    revision = aws.control("GET", "instances")["revision"]
    seen: list[Any] = []
    poll = threading.Thread(
        target=lambda: seen.append(aws.control("GET", f"instances?wait=20&revision={revision}"))
    )
    poll.start()
    (id_,) = aws.run()
    poll.join(10)
    assert not poll.is_alive()
    assert [i["id"] for i in seen[0]["instances"]] == [id_]
    assert seen[0]["revision"] > revision


def test_a_long_poll_returns_when_a_boot_is_over(aws: Aws) -> None:
    aws.control("PUT", "settings", {"boot_delay_s": 0.2})
    (id_,) = aws.run()
    answer = aws.control("GET", "instances")
    assert aws.instances()[id_]["state"] == "pending"
    after = aws.control("GET", f"instances?wait=10&revision={answer['revision']}")
    assert [i["state"] for i in after["instances"]] == ["running"]


def test_a_long_poll_without_a_change_ends_with_the_same_revision(aws: Aws) -> None:
    revision = aws.control("GET", "instances")["revision"]
    assert aws.control("GET", f"instances?wait=0.05&revision={revision}")["revision"] == revision


def test_the_room_tells_that_a_machine_powered_itself_off(aws: Aws) -> None:
    (id_,) = aws.run()
    aws.control("POST", f"instances/{id_}/state", {"state": "terminated"})
    _, text = aws.call("DescribeInstances", InstanceId__1=id_)
    assert "<name>terminated</name>" in text
    assert "Client.InstanceInitiatedShutdown: Instance initiated shutdown" in text
    assert "privateIpAddress" not in text


def test_the_room_tells_that_a_machine_failed_and_why(aws: Aws) -> None:
    (id_,) = aws.run()
    aws.control(
        "POST", f"instances/{id_}/state", {"state": "stopped", "reason": "Server.InternalError: no boot"}
    )
    _, text = aws.call("DescribeInstances", InstanceId__1=id_)
    assert "<name>stopped</name>" in text
    assert "Server.InternalError: no boot" in text


def test_tags_are_added_to_what_is_launched_from_now_on(aws: Aws) -> None:
    (before,) = aws.run()
    aws.control("PUT", "settings", {"tags": {"room": "small"}})
    (tagged,) = aws.run(
        TagSpecification__1__ResourceType="instance",
        TagSpecification__1__Tag__1__Key="cell",
        TagSpecification__1__Tag__1__Value="one",
    )
    aws.control("PUT", "settings", {"tags": {}})
    (after,) = aws.run()
    tags = {id_: instance["tags"] for id_, instance in aws.instances().items()}
    assert tags == {before: {}, tagged: {"cell": "one", "room": "small"}, after: {}}


def test_settings_change_all_or_nothing(aws: Aws) -> None:
    before = aws.control("GET", "settings")
    assert aws.control_status("PUT", "settings", {"tags": {"a": "b"}, "boot_delay_s": "long"})[0] == 400
    assert aws.control("GET", "settings") == before


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("POST", "instances/i-0123/state", {"state": "running"}, 404, "i-0123"),
        ("POST", "faults", {"error": "X", "when": "never"}, 400, "before or after"),
        ("POST", "faults", {"error": "X", "count": 0}, 400, "at least 1"),
        ("POST", "faults", {"action": "RunInstances"}, 400, "nothing to do"),
        ("POST", "faults", {"error": "X", "colour": "red"}, 400, "colour"),
        ("POST", "faults", ["X"], 400, "expected an object"),
        ("PUT", "settings", {"boot_delay": 1}, 400, "boot_delay_s"),
        ("PUT", "settings", {"boot_delay_s": "long"}, 400, "expected a number"),
        ("PUT", "settings", [], 400, "JSON object"),
        ("PUT", "settings", {"tags": ["x"]}, 400, "tags: expected"),
        ("PUT", "settings", {"throttle": "yes"}, 400, "throttle: expected true, false"),
        ("PUT", "settings", {"tags": {"x": True}}, 400, "tags: expected"),
        ("GET", "instances?wait=long", None, 400, "expected a number"),
        ("GET", "nothing", None, 404, ""),
        ("POST", "health", None, 405, ""),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    aws: Aws, method: str, path: str, body: object, status: int, says: str
) -> None:
    found, answer = aws.control_status(method, path, body)
    assert found == status
    assert says in answer["error"]


def test_an_unknown_state_and_a_return_from_the_dead_are_refused(aws: Aws) -> None:
    (id_,) = aws.run()
    assert aws.control_status("POST", f"instances/{id_}/state", {"state": "asleep"})[0] == 400
    aws.control("POST", f"instances/{id_}/state", {"state": "terminated"})
    assert aws.control_status("POST", f"instances/{id_}/state", {"state": "running"})[0] == 409


def test_calls_are_kept_for_benchmarks(aws: Aws) -> None:
    before = time.time()
    aws.run("token-1", MaxCount=3)
    aws.call("DescribeInstances")
    aws.control("POST", "faults", {"action": "RunInstances", "error": "InternalError"})
    assert aws.call("RunInstances", ClientToken="token-2", MaxCount=2)[0] == 500

    first, second = aws.control("GET", "calls?action=RunInstances")["calls"]
    assert (first["client_token"], first["count"], first["status"], first["error"]) == (
        "token-1",
        3,
        200,
        None,
    )
    assert first["instance_type"] == "t3.micro"
    assert before <= first["time"] <= time.time()
    assert (second["client_token"], second["status"], second["error"]) == ("token-2", 500, "InternalError")
    assert len(aws.control("GET", "calls")["calls"]) == 3
    assert aws.control("DELETE", "calls")["calls"] == []


def test_calls_are_throttled_only_when_that_is_set(aws: Aws) -> None:
    assert aws.control("GET", "settings")["throttle"] is False
    limit = {"RunInstances": {"resource": [2, 0.001]}}
    assert aws.control("PUT", "settings", {"throttle": limit})["throttle"] == limit
    aws.run(MaxCount=2)
    status, text = aws.call("RunInstances", MaxCount=1)
    assert (status, "<Code>RequestLimitExceeded</Code>" in text) == (503, True)
    assert aws.control("GET", "calls")["calls"][-1]["error"] == "RequestLimitExceeded"
    assert len(aws.instances()) == 2
    assert aws.control("PUT", "settings", {"throttle": True})["throttle"] is True
    aws.run(MaxCount=2)
    aws.control("PUT", "settings", {"throttle": False})
    aws.run()
