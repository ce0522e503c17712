"""Events: the pod's are told, the Node's are not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

NODE = "kip-provider-0"
EVENTS = "/api/v1/namespaces/shop/events"


def event(**about: Any) -> dict[str, Any]:
    involved = {"kind": "Pod", "namespace": "shop", "name": "web", "uid": "uid-web", "apiVersion": "v1"}
    return {
        "metadata": {"name": "web.18a", "namespace": "shop", "creationTimestamp": None},
        "involvedObject": {**involved, "fieldPath": "spec.containers{main}", **about},
        "reason": "Pulled",
        "count": 1,
    }


def node_event(name: str = "kip-provider-0.18b") -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"}
    about = {"kind": "Node", "name": "kip-provider-0", "uid": "kip-provider-0"}
    return {"metadata": metadata, "involvedObject": about, "reason": "Starting"}


async def test_an_event_of_the_pod_is_told_and_updated(running: Any, world: Any) -> None:
    _, kubelet = running
    answer = await kubelet.ask("POST", EVENTS, event())
    assert (answer.status, answer.json) == (201, event())
    patch = {"count": 2, "lastTimestamp": "2026-01-01T00:00:00Z"}
    assert (await kubelet.patch(f"{EVENTS}/web.18a", patch)).status in (200, 404)
    assert [(a.method, a.path, a.body) for a in world.upstream.asked] == [
        ("POST", EVENTS, event()),
        ("PATCH", f"{EVENTS}/web.18a", patch),
    ]


@pytest.mark.parametrize(
    "about",
    [
        {"uid": "uid-next"},
        {"uid": None},
        {"name": "db"},
        {"namespace": "bank"},
        {"kind": "Deployment"},
    ],
)
async def test_an_event_about_something_else_is_refused(running: Any, world: Any, about: Any) -> None:
    assert (await running[1].ask("POST", EVENTS, event(**about))).status == 403
    assert world.upstream.asked == []


async def test_an_event_in_another_namespace_is_refused(running: Any, world: Any) -> None:
    assert (await running[1].ask("POST", "/api/v1/namespaces/bank/events", event())).status == 403
    assert world.upstream.asked == []


@pytest.mark.parametrize(
    "body", [{}, {"metadata": {"name": "x"}}, {"metadata": {"name": 7}, "involvedObject": {}}]
)
async def test_what_is_no_event_is_refused(running: Any, body: Any) -> None:
    assert (await running[1].ask("POST", EVENTS, body)).status == 400


async def test_node_events_are_swallowed_with_their_updates(running: Any, world: Any) -> None:
    _, kubelet = running
    answer = await kubelet.ask("POST", "/api/v1/namespaces/default/events", node_event())
    assert answer.status == 201
    assert answer.json["reason"] == "Starting"
    assert answer.json["metadata"]["uid"]
    assert answer.json["metadata"]["resourceVersion"].isdigit()
    path = "/api/v1/namespaces/default/events/kip-provider-0.18b"
    again = await kubelet.patch(path, {"count": 2})
    assert (again.status, again.json["count"], again.json["metadata"]["name"]) == (
        200,
        2,
        "kip-provider-0.18b",
    )
    assert world.upstream.asked == []


async def test_an_event_about_another_node_is_refused(running: Any) -> None:
    body = node_event()
    body["involvedObject"]["name"] = "other"
    assert (await running[1].ask("POST", "/api/v1/namespaces/default/events", body)).status == 403


async def test_an_event_of_others_cannot_be_updated(running: Any, world: Any) -> None:
    _, kubelet = running
    answer = await kubelet.patch(f"{EVENTS}/web.77", {"count": 2})
    assert (answer.status, answer.reason) == (404, "NotFound")
    assert world.upstream.asked == []


@pytest.mark.parametrize("patch", [{"involvedObject": {"uid": "uid-next"}}, {"metadata": {"labels": {}}}])
async def test_an_update_does_not_turn_an_event_into_another(running: Any, world: Any, patch: Any) -> None:
    _, kubelet = running
    await kubelet.ask("POST", EVENTS, event())
    assert (await kubelet.patch(f"{EVENTS}/web.18a", patch)).status == 403
    assert len(world.upstream.asked) == 1


async def test_after_a_restart_a_known_event_gets_a_new_name(
    running: Any, world: Any, make_reply: Any
) -> None:
    _, kubelet = running
    world.upstream.answers.append(make_reply(409, {"kind": "Status", "reason": "AlreadyExists"}))
    answer = await kubelet.ask("POST", EVENTS, {**event(), "count": 5})
    assert answer.status == 201
    name = answer.json["metadata"]["name"]
    assert name.startswith("web.")
    assert name != "web.18a"
    assert answer.json["count"] == 5
    await kubelet.patch(f"{EVENTS}/{name}", {"count": 6})
    assert world.upstream.asked[-1].method == "PATCH"


async def test_only_so_many_events_are_remembered(running: Any, world: Any) -> None:
    _, kubelet = running
    for number in range(150):
        await kubelet.ask("POST", "/api/v1/namespaces/default/events", node_event(f"n.{number}"))
    world.clock.seconds += 100
    for number in range(150, 260):
        await kubelet.ask("POST", "/api/v1/namespaces/default/events", node_event(f"n.{number}"))
    world.clock.seconds += 100
    path = "/api/v1/namespaces/default/events"
    assert (await kubelet.patch(f"{path}/n.0", {"count": 2})).status == 404
    assert (await kubelet.patch(f"{path}/n.259", {"count": 2})).status == 200


PLUGIN = {"namespace": "kube-system", "name": f"kip-device-plugin-{NODE}"}
SYSTEM_EVENTS = "/api/v1/namespaces/kube-system/events"


def plugin_event(severity: str, reason: str, message: str, **about: Any) -> dict[str, Any]:
    metadata = {"name": f"{PLUGIN['name']}.18c", "namespace": "kube-system"}
    involved = {"kind": "Pod", **PLUGIN, "uid": "hash-of-its-manifest", **about}
    return {
        "metadata": metadata,
        "involvedObject": involved,
        "type": severity,
        "reason": reason,
        "message": message,
    }


async def test_what_happens_to_the_device_plugin_is_not_told_but_its_trouble_is_known(
    running: Any, world: Any
) -> None:
    session, kubelet = running
    answer = await kubelet.ask("POST", SYSTEM_EVENTS, plugin_event("Normal", "Pulling", "pulling"))
    assert (answer.status, session.device_trouble) == (201, "")
    news = asyncio.create_task(session.wait_node_news())
    await kubelet.ask("POST", SYSTEM_EVENTS, plugin_event("Warning", "Failed", "no such image" * 100))
    await asyncio.wait_for(news, 5)
    assert session.device_trouble.startswith("Failed: no such image")
    assert len(session.device_trouble) == 500
    await kubelet.ask("POST", SYSTEM_EVENTS, plugin_event("Warning", "Failed", "Error: ErrImagePull"))
    assert session.device_trouble.startswith("Failed: no such image"), "which says more"
    again = await kubelet.patch(f"{SYSTEM_EVENTS}/{PLUGIN['name']}.18c", {"count": 2})
    assert again.status == 200
    assert world.upstream.asked == []
    assert world.hooks.refusals == []


async def test_a_connections_own_port_does_not_make_it_another_trouble(running: Any) -> None:
    session, kubelet = running
    for port in (49344, 56527):
        message = f"dial tcp: read udp 10.0.0.4:{port}->10.0.0.2:53: i/o timeout"
        await kubelet.ask("POST", SYSTEM_EVENTS, plugin_event("Warning", "Failed", message))
        assert session.device_trouble == "Failed: dial tcp: read udp 10.0.0.4->10.0.0.2:53: i/o timeout"


@pytest.mark.parametrize(
    "about",
    [
        {"name": "coredns"},
        {"name": "kip-device-plugin-kip-provider-1"},
        {"namespace": "shop"},
        {"kind": "Job"},
    ],
)
async def test_other_pods_of_the_system_are_none_of_a_cells_business(
    running: Any, world: Any, about: Any
) -> None:
    event = plugin_event("Warning", "Failed", "no", **about)
    assert (await running[1].ask("POST", SYSTEM_EVENTS, event)).status == 403
    assert running[0].device_trouble == ""
    assert world.upstream.asked == []
