"""When the list of pods is answered, and with what: a wrong answer kills containers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kip.cellapi.podview import Empty, Listed, Missing, Unknown, view

LIST = "/api/v1/pods"
MINE = {"fieldSelector": "spec.nodeName=kip-provider-0"}
POD = "/api/v1/namespaces/shop/pods/web"


@pytest.mark.parametrize(
    ("synced", "shown", "pod", "expected"),
    [
        (False, False, None, Unknown),
        (False, True, None, Unknown),
        (False, True, {"status": {}}, Unknown),
        (True, False, None, Missing),
        (True, True, None, Missing),
        (True, False, {"status": {}}, Empty),
        (True, False, {}, Empty),
        (True, False, {"status": {"startTime": "2026-01-01T00:00:00Z"}}, Unknown),
        (True, True, {"status": {"startTime": "2026-01-01T00:00:00Z"}}, Listed),
        (True, True, {}, Listed),
    ],
)
def test_what_the_list_is(synced: bool, shown: bool, pod: Any, expected: type) -> None:
    assert isinstance(view(synced=synced, shown=shown, pod=pod), expected)


async def test_nothing_known_is_503_and_never_an_empty_list(world: Any, identity: Any) -> None:
    world.pods.synced = False
    session, kubelet = await world.open(identity)
    session.show_pod()
    for params in ({}, {"watch": "true"}, {"watch": "true", "resourceVersion": "5"}):
        answer = await kubelet.get(LIST, **MINE, **params)
        assert (answer.status, answer.reason) == (503, "ServiceUnavailable")
        assert answer.headers["Retry-After"] == "1"


async def test_before_it_is_shown_the_list_is_empty(world: Any, identity: Any, make_pod: Any) -> None:
    world.pods.replace([make_pod()], "30")
    _, kubelet = await world.open(identity)
    answer = await kubelet.get(LIST, **MINE)
    assert answer.status == 200
    assert answer.json == {
        "kind": "PodList",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": "30"},
        "items": [],
    }


async def test_a_pod_that_was_started_is_never_hidden(world: Any, identity: Any, make_pod: Any) -> None:
    started = make_pod(status={"startTime": "2026-01-01T00:00:00Z"})
    world.pods.replace([started], "30")
    session, kubelet = await world.open(identity)
    assert (await kubelet.get(LIST, **MINE)).status == 503
    session.show_pod()
    answer = await kubelet.get(LIST, **MINE)
    assert [item["metadata"]["uid"] for item in answer.json["items"]] == ["uid-web"]


async def test_a_cell_reopened_as_shown_lists_the_pod_at_once(
    world: Any, identity: Any, make_pod: Any
) -> None:
    world.pods.replace([make_pod()], "30")
    session, kubelet = await world.open(identity, pod_shown=True)
    assert session.pod_shown
    assert len((await kubelet.get(LIST, **MINE)).json["items"]) == 1


async def test_only_the_pod_of_this_uid_is_listed(world: Any, identity: Any, make_pod: Any) -> None:
    successor = make_pod(uid="uid-next", version="31")
    other = make_pod(name="db", uid="uid-db")
    world.pods.replace([make_pod(), successor, other], "40")
    session, kubelet = await world.open(identity)
    session.show_pod()
    answer = await kubelet.get(LIST, **MINE)
    assert answer.json["items"] == [{"kind": "Pod", "apiVersion": "v1", **make_pod()}]


async def test_a_missing_pod_is_confirmed_before_the_list_is_empty(
    world: Any, identity: Any, make_pod: Any, make_reply: Any
) -> None:
    session, kubelet = await world.open(identity)
    session.show_pod()
    world.upstream.objects[POD] = make_pod()
    assert (await kubelet.get(LIST, **MINE)).status == 503, "the API server has it: our store lags behind"
    world.upstream.reachable = False
    assert (await kubelet.get(LIST, **MINE)).status == 503
    world.upstream.reachable = True
    world.upstream.answers.append(make_reply(403, {"kind": "Status"}))
    assert (await kubelet.get(LIST, **MINE)).status == 503
    world.upstream.objects[POD] = make_pod(uid="uid-next")
    answer = await kubelet.get(LIST, **MINE)
    assert (answer.status, answer.json["items"]) == (200, [])
    del world.upstream.objects[POD]
    assert (await kubelet.get(LIST, **MINE)).json["items"] == []


async def test_a_list_older_than_asked_for_is_refused(running: Any) -> None:
    _, kubelet = running
    answer = await kubelet.get(LIST, **MINE, resourceVersion="31")
    assert (answer.status, answer.reason) == (504, "Timeout")
    assert answer.json["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    assert (await kubelet.get(LIST, **MINE, resourceVersion="30")).status == 200
    assert (await kubelet.get(LIST, **MINE, resourceVersion="0")).status == 200


async def test_streamed_lists_are_refused(running: Any) -> None:
    _, kubelet = running
    answer = await kubelet.get(
        LIST, **MINE, watch="true", sendInitialEvents="true", resourceVersionMatch="NotOlderThan"
    )
    assert (answer.status, answer.reason) == (422, "Invalid")


async def test_the_first_watch_must_follow_a_list_of_this_session(running: Any) -> None:
    _, kubelet = running
    answer = await kubelet.get(LIST, **MINE, watch="true", resourceVersion="30")
    assert (answer.status, answer.reason) == (410, "Expired")
    version = (await kubelet.get(LIST, **MINE)).json["metadata"]["resourceVersion"]
    async with kubelet.watch(LIST, **MINE, resourceVersion=version) as watch:
        assert watch.status == 200


async def test_a_reopened_session_makes_the_kubelet_list_again(
    world: Any, running: Any, identity: Any
) -> None:
    session, kubelet = running
    await kubelet.get(LIST, **MINE)
    await session.close()
    _, again = await world.open(identity, pod_shown=True)
    assert (await again.get(LIST, **MINE, watch="true", resourceVersion="30")).status == 410


async def test_show_pod_adds_it_to_the_open_watch(world: Any, identity: Any, make_pod: Any) -> None:
    world.pods.replace([make_pod()], "30")
    session, kubelet = await world.open(identity)
    assert (await kubelet.get(LIST, **MINE)).json["items"] == []
    async with kubelet.watch(LIST, **MINE, resourceVersion="30") as watch:
        assert await watch.silent()
        session.show_pod()
        kind, pod = await watch.next()
        assert (kind, pod) == ("ADDED", {"kind": "Pod", "apiVersion": "v1", **make_pod()})
        world.pods.put(make_pod(version="41", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}))
        kind, pod = await watch.next()
        assert (kind, pod["metadata"]["resourceVersion"]) == ("MODIFIED", "41")
        world.pods.remove(make_pod(version="42"))
        kind, pod = await watch.next()
        assert (kind, pod["metadata"]["resourceVersion"]) == ("DELETED", "42")
        assert await watch.silent()


async def test_a_pod_that_becomes_known_after_it_was_shown(world: Any, identity: Any, make_pod: Any) -> None:
    session, kubelet = await world.open(identity)
    await kubelet.get(LIST, **MINE)
    async with kubelet.watch(LIST, **MINE, resourceVersion="10") as watch:
        session.show_pod()
        assert await watch.silent()
        world.pods.put(make_pod(version="41"))
        assert (await watch.next())[0] == "ADDED"


async def test_other_pods_are_not_told(running: Any, world: Any, make_pod: Any) -> None:
    _, kubelet = running
    await kubelet.get(LIST, **MINE)
    async with kubelet.watch(LIST, **MINE, resourceVersion="20") as watch:
        await watch.next()
        world.pods.put(make_pod(uid="uid-next", version="50"))
        world.pods.put(make_pod(name="db", uid="uid-db", version="51"))
        assert await watch.silent()


async def test_an_event_lost_on_the_way_is_told_again(running: Any, world: Any, make_pod: Any) -> None:
    _, kubelet = running
    await kubelet.get(LIST, **MINE)
    async with kubelet.watch(LIST, **MINE, resourceVersion="20") as watch:
        await watch.next()
        world.pods.put(make_pod(version="41"))
        await watch.next()
    # The tunnel broke and the kubelet never saw it: it resumes from what it knows.
    async with kubelet.watch(LIST, **MINE, resourceVersion="20") as watch:
        kind, pod = await watch.next()
        assert (kind, pod["metadata"]["resourceVersion"]) == ("MODIFIED", "41")


async def test_a_watch_that_nobody_reads_any_more_takes_no_event_from_the_next(
    running: Any, world: Any, make_pod: Any
) -> None:
    _, kubelet = running
    await kubelet.get(LIST, **MINE)
    deleted = make_pod(version="41", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    async with (
        kubelet.watch(LIST, **MINE, resourceVersion="20") as lost,
        kubelet.watch(LIST, **MINE, resourceVersion="20") as current,
    ):
        await asyncio.gather(lost.next(), current.next())
        world.pods.put(deleted)
        for watch in (lost, current):
            kind, pod = await watch.next()
            assert (kind, pod["metadata"]) == ("MODIFIED", deleted["metadata"])
            assert await watch.silent()


async def test_an_empty_list_of_the_pods_own_version_does_not_hide_it(
    world: Any, identity: Any, make_pod: Any
) -> None:
    world.pods.replace([make_pod(version="30")], "30")
    session, kubelet = await world.open(identity)
    listed = (await kubelet.get(LIST, **MINE)).json
    assert (listed["items"], listed["metadata"]["resourceVersion"]) == ([], "30")
    async with kubelet.watch(LIST, **MINE, resourceVersion="30") as watch:
        session.show_pod()
        assert (await watch.next())[0] == "ADDED"
    # Lost on the way, and asked for again.
    async with kubelet.watch(LIST, **MINE, resourceVersion="30") as watch:
        assert (await watch.next())[1]["metadata"]["uid"] == "uid-web"


async def test_a_deletion_lost_on_the_way_makes_the_kubelet_list(
    running: Any, world: Any, make_pod: Any
) -> None:
    _, kubelet = running
    await kubelet.get(LIST, **MINE)
    async with kubelet.watch(LIST, **MINE, resourceVersion="20") as watch:
        await watch.next()
        world.pods.remove(make_pod(version="42"))
        assert (await watch.next())[0] == "DELETED"
    assert (await kubelet.get(LIST, **MINE, watch="true", resourceVersion="20")).status == 410
    assert (await kubelet.get(LIST, **MINE)).json["items"] == []


async def test_a_deletion_between_two_watches_makes_the_kubelet_list(
    running: Any, world: Any, make_pod: Any
) -> None:
    _, kubelet = running
    await kubelet.get(LIST, **MINE)
    world.pods.remove(make_pod(version="42"))
    assert (await kubelet.get(LIST, **MINE, watch="true", resourceVersion="20")).status == 410
    assert (await kubelet.get(LIST, **MINE)).json["items"] == []
    async with kubelet.watch(LIST, **MINE, resourceVersion="42") as watch:
        assert await watch.silent()


async def test_a_watch_ends_when_its_time_is_over(running: Any) -> None:
    session, kubelet = running
    await kubelet.get(LIST, **MINE)
    async with kubelet.watch(LIST, **MINE, resourceVersion="20", timeoutSeconds="1") as watch:
        assert session.watches == 1
        await watch.next()
        assert await watch.ended()
    assert session.watches == 0


async def test_the_status_is_served_as_it_is(running: Any, world: Any, make_pod: Any) -> None:
    _, kubelet = running
    status = {"phase": "Running", "hostIP": "10.0.0.7", "podIPs": [{"ip": "10.0.0.8"}], "conditions": None}
    world.pods.put(make_pod(version="60", status=status))
    assert (await kubelet.get(LIST, **MINE)).json["items"][0]["status"] == status


async def test_get_is_fresh_and_as_the_node(running: Any, world: Any, make_pod: Any) -> None:
    _, kubelet = running
    world.upstream.objects[POD] = make_pod(version="99")
    answer = await kubelet.get(POD)
    assert answer.json["metadata"]["resourceVersion"] == "99"
    asked = world.upstream.asked[-1]
    assert (asked.method, asked.path) == ("GET", POD)
    assert asked.impersonate is not None
    assert (asked.impersonate.user, asked.impersonate.groups) == (
        "system:node:kip-provider-0",
        ("system:nodes",),
    )


async def test_get_of_a_successor_is_404(running: Any, world: Any, make_pod: Any) -> None:
    _, kubelet = running
    world.upstream.objects[POD] = make_pod(uid="uid-next")
    assert (await kubelet.get(POD)).status == 404


async def test_get_of_a_pod_that_the_node_may_not_see_any_more(
    running: Any, world: Any, make_pod: Any, make_reply: Any
) -> None:
    _, kubelet = running
    world.upstream.answers.append(make_reply(403, {"kind": "Status"}))
    assert (await kubelet.get(POD)).status == 404
    assert [asked.impersonate is None for asked in world.upstream.asked] == [False, True]
    world.upstream.objects[POD] = make_pod()
    world.upstream.answers.append(make_reply(403, {"kind": "Status"}))
    assert (await kubelet.get(POD)).status == 403


async def test_status_is_patched_upstream(running: Any, world: Any) -> None:
    _, kubelet = running
    patch = {
        "metadata": {"uid": "uid-web"},
        "status": {"$setElementOrder/conditions": [], "phase": "Running"},
    }
    answer = await kubelet.patch(POD + "/status", patch)
    assert answer.status == 200
    asked = world.upstream.asked[-1]
    assert (asked.method, asked.path, asked.body) == ("PATCH", POD + "/status", patch)
    assert asked.content_type == "application/strategic-merge-patch+json"


@pytest.mark.parametrize(
    "patch",
    [
        {"status": {"phase": "Running"}},
        {"metadata": {}, "status": {}},
        {"metadata": {"uid": "uid-next"}, "status": {}},
        {"metadata": {"uid": "uid-web", "labels": {"app": "bank"}}, "status": {}},
        {"metadata": {"uid": "uid-web", "$patch": "replace"}, "status": {}},
        {"metadata": {"uid": "uid-web"}, "spec": {"nodeName": "other"}},
        {"metadata": {"uid": "uid-web"}, "status": {}, "$patch": "replace"},
        {"metadata": {"uid": "uid-web"}, "status": {"resourceClaimStatuses": [{"name": "gpu"}]}},
        {"metadata": {"uid": "uid-web"}, "status": {"$setElementOrder/resourceClaimStatuses": []}},
        {"metadata": {"uid": "uid-web"}, "status": {"extendedResourceClaimStatus": {}}},
        {"metadata": {"uid": "uid-web"}, "status": []},
        {"metadata": "uid-web"},
        {},
    ],
)
async def test_a_status_patch_does_nothing_else(running: Any, world: Any, patch: Any) -> None:
    _, kubelet = running
    assert (await kubelet.patch(POD + "/status", patch)).status == 403
    assert world.upstream.asked == []


async def test_a_key_given_twice_is_passed_on_as_it_was_checked(running: Any, world: Any) -> None:
    _, kubelet = running
    body = b'{"metadata":{"uid":"uid-next","labels":{"a":"b"}},"metadata":{"uid":"uid-web"},"status":{}}'
    answer = await kubelet.ask(
        "PATCH", POD + "/status", body, content_type="application/strategic-merge-patch+json"
    )
    assert answer.status == 200
    assert world.upstream.asked[-1].body == {"metadata": {"uid": "uid-web"}, "status": {}}


@pytest.mark.parametrize(
    "content_type", ["application/json-patch+json", "application/merge-patch+json", "text/plain"]
)
async def test_a_status_is_patched_strategically_only(running: Any, world: Any, content_type: str) -> None:
    _, kubelet = running
    body = {"metadata": {"uid": "uid-web"}, "status": {}}
    answer = await kubelet.ask("PATCH", POD + "/status", body, content_type=content_type)
    assert answer.status in (400, 415)
    assert world.upstream.asked == []


def deletion(**changes: Any) -> dict[str, Any]:
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0}
    return {**options, "preconditions": {"uid": "uid-web"}, **changes}


async def test_a_deletion_is_finished(running: Any, world: Any, make_pod: Any) -> None:
    _, kubelet = running
    world.upstream.objects[POD] = make_pod(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    answer = await kubelet.ask("DELETE", POD, deletion(propagationPolicy="Orphan"))
    assert answer.status == 200
    assert world.upstream.asked[-1].method == "DELETE"
    assert world.upstream.asked[-1].body == deletion()


async def test_a_deletion_is_not_begun(running: Any, world: Any, make_pod: Any) -> None:
    _, kubelet = running
    world.upstream.objects[POD] = make_pod()
    assert (await kubelet.ask("DELETE", POD, deletion())).status == 403
    world.upstream.objects[POD] = make_pod(
        uid="uid-next", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}
    )
    assert (await kubelet.ask("DELETE", POD, deletion())).status == 404
    assert world.upstream.writes == []


@pytest.mark.parametrize(
    "options",
    [
        None,
        {},
        deletion(preconditions={"uid": "uid-next"}),
        deletion(preconditions=None),
        deletion(gracePeriodSeconds=30),
        deletion(gracePeriodSeconds=None),
    ],
)
async def test_a_deletion_names_the_pod_by_uid(running: Any, world: Any, make_pod: Any, options: Any) -> None:
    _, kubelet = running
    world.upstream.objects[POD] = make_pod(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    assert (await kubelet.ask("DELETE", POD, options)).status == 403
    assert world.upstream.asked == []


SYSTEM_PODS = "/api/v1/namespaces/kube-system/pods"


def mirror(**metadata: Any) -> dict[str, Any]:
    """What a kubelet 1.36 sends for the device plugin's static pod, shortened."""
    named = {"name": "kip-device-plugin-kip-provider-0", "namespace": "kube-system"}
    annotations = {"kubernetes.io/config.mirror": "4f", "kubernetes.io/config.source": "file"}
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {**named, "annotations": annotations, **metadata},
        "spec": {"nodeName": "kip-provider-0", "containers": [{"name": "plugin"}]},
    }


async def test_the_device_plugins_mirror_is_created_as_far_as_the_kubelet_knows(
    running: Any, world: Any
) -> None:
    _, kubelet = running
    for _ in range(2):
        answer = await kubelet.ask("POST", SYSTEM_PODS, mirror())
        assert (answer.status, answer.json) == (201, mirror())
    assert world.upstream.asked == []
    assert world.hooks.refusals == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (SYSTEM_PODS, mirror(name="coredns")),
        (SYSTEM_PODS, mirror(name="kip-device-plugin-kip-provider-1")),
        (SYSTEM_PODS, mirror(namespace="shop")),
        ("/api/v1/namespaces/shop/pods", mirror()),
        (SYSTEM_PODS, {"metadata": "none"}),
        (SYSTEM_PODS, {}),
    ],
)
async def test_any_other_pod_is_refused(running: Any, world: Any, path: str, body: Any) -> None:
    assert (await running[1].ask("POST", path, body)).status == 403
    assert world.upstream.asked == []
