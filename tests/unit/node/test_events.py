"""Events on the Node."""

from __future__ import annotations

import pytest

from kip.kube.events import EventRecorder
from kip.kube.fake import FakeApi
from kip.model.clock import ManualClock
from kip.node.events import NodeEvents
from kip.node.object import HEALTHY, Health

AWAY = Health(ready=False, reason="CloudUnreachable", message="AWS cannot be used: no answer")
NODE = {"metadata": {"name": "kip-0", "uid": "u"}}


@pytest.fixture
def api() -> FakeApi:
    return FakeApi(clock=ManualClock())


def told(api: FakeApi) -> list[tuple[str, str, str]]:
    return [(e["type"], e["reason"], e["message"]) for e in api.all("events")]


def events(api: FakeApi, node: dict | None = NODE) -> NodeEvents:
    recorder = EventRecorder(api, ManualClock(), component="kip", host="kip-0")
    return NodeEvents(recorder, lambda: node)


async def test_who_serves_it(api: FakeApi) -> None:
    await events(api).served_by("kip-provider-abc_1", "1.2.3")
    assert told(api) == [("Normal", "NodeServed", "kip-provider-abc_1 serves this node with Kip 1.2.3")]
    [event] = api.all("events")
    assert event["involvedObject"]["kind"] == "Node"
    assert event["involvedObject"]["uid"] == "u"
    assert event["metadata"]["namespace"] == "default"


async def test_when_aws_goes_and_comes(api: FakeApi) -> None:
    node = events(api)
    await node.health_is(HEALTHY)
    assert told(api) == []
    await node.health_is(AWAY)
    await node.health_is(HEALTHY)
    await node.health_is(HEALTHY)
    assert told(api) == [
        ("Warning", "CloudUnreachable", "AWS cannot be used: no answer"),
        ("Normal", "KipReady", "pods get an EC2 instance each"),
    ]


async def test_nothing_is_told_of_a_node_that_there_is_not(api: FakeApi) -> None:
    await events(api, None).health_is(AWAY)
    assert told(api) == []
