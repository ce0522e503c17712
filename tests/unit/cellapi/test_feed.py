"""Lists and watches that all cells share."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

SERVICES = "/api/v1/services"
WITH_IP = {"fieldSelector": "spec.clusterIP!=None"}
CSIDRIVERS = "/apis/storage.k8s.io/v1/csidrivers"
RUNTIMECLASSES = "/apis/node.k8s.io/v1/runtimeclasses"


def names(listed: Any) -> list[str]:
    return sorted(item["metadata"]["name"] for item in listed.json["items"])


def class_(name: str, version: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": version}, "handler": name}


@pytest.mark.parametrize("path", [SERVICES, CSIDRIVERS, RUNTIMECLASSES])
async def test_unknown_is_503_and_empty_is_empty(running: Any, world: Any, path: str) -> None:
    _, kubelet = running
    answer = await kubelet.get(path)
    assert (answer.status, answer.json["items"]) == (200, [])
    for store in (world.services, world.csidrivers, world.runtimeclasses):
        store.synced = False
    assert (await kubelet.get(path)).status == 503
    assert (await kubelet.get(path, watch="true", resourceVersion="10")).status == 503


async def test_what_cannot_be_followed_any_more_is_not_served_as_if_it_were(running: Any, world: Any) -> None:
    session, kubelet = running
    assert (await kubelet.get(SERVICES)).status == 200
    world.services.put({"metadata": {"uid": "uid-odd", "resourceVersion": "11", "odd": {1j}}})
    with pytest.raises(ExceptionGroup):
        await asyncio.wait_for(world.following, 5)
    assert (await kubelet.get(SERVICES)).status == 503
    assert (await kubelet.get(SERVICES, watch="true", resourceVersion="10")).status == 503
    assert "services" in session.shared.missing()


@pytest.mark.parametrize(
    ("path", "kind", "api_version"),
    [
        (SERVICES, "ServiceList", "v1"),
        (CSIDRIVERS, "CSIDriverList", "storage.k8s.io/v1"),
        (RUNTIMECLASSES, "RuntimeClassList", "node.k8s.io/v1"),
    ],
)
async def test_lists_say_what_they_are(running: Any, path: str, kind: str, api_version: str) -> None:
    listed = (await running[1].get(path)).json
    assert (listed["kind"], listed["apiVersion"], listed["metadata"]["resourceVersion"]) == (
        kind,
        api_version,
        "10",
    )


async def test_services_are_those_a_pod_of_the_namespace_is_told(
    running: Any, world: Any, make_service: Any
) -> None:
    world.services.replace(
        [
            make_service("web"),
            make_service("headless", cluster_ip="None"),
            make_service("vault", "bank"),
            make_service("kubernetes", "default"),
            make_service("other", "default"),
        ],
        "20",
    )
    _, kubelet = running
    assert names(await kubelet.get(SERVICES, **WITH_IP)) == ["kubernetes", "web"]
    assert names(await kubelet.get(SERVICES)) == ["headless", "kubernetes", "web"]


async def test_two_namespaces_do_not_share_a_list(
    running: Any, world: Any, identity: Any, make_service: Any
) -> None:
    world.services.replace([make_service("web"), make_service("vault", "bank")], "20")
    _, banker = await world.open(replace(identity, cell_uid="0b0b", namespace="bank"))
    assert names(await running[1].get(SERVICES)) == ["web"]
    assert names(await banker.get(SERVICES)) == ["vault"]
    world.services.put(make_service("till", "bank", version="21"))
    assert names(await banker.get(SERVICES)) == ["till", "vault"]
    assert names(await running[1].get(SERVICES)) == ["web"]


async def test_changes_reach_the_watches_that_may_see_them(
    running: Any, world: Any, make_service: Any
) -> None:
    _, kubelet = running
    async with kubelet.watch(SERVICES, **WITH_IP, resourceVersion="10") as watch:
        world.services.put(make_service("vault", "bank", version="11"))
        world.services.put(make_service("web", version="12"))
        kind, service = await watch.next()
        assert (kind, service["metadata"]["name"], service["kind"], service["apiVersion"]) == (
            "ADDED",
            "web",
            "Service",
            "v1",
        )
        world.services.put(make_service("web", version="13", cluster_ip="10.96.0.10"))
        assert (await watch.next())[0] == "MODIFIED"
        world.services.remove(make_service("web", version="14"))
        assert (await watch.next())[0] == "DELETED"
        assert await watch.silent()


async def test_a_resumed_watch_misses_nothing(running: Any, world: Any, make_service: Any) -> None:
    _, kubelet = running
    await kubelet.get(SERVICES)
    for version in range(11, 15):
        world.services.put(make_service(f"web-{version}", version=str(version)))
    await asyncio.sleep(0)
    async with kubelet.watch(SERVICES, resourceVersion="12") as watch:
        told = [(await watch.next())[1]["metadata"]["name"] for _ in range(2)]
        assert told == ["web-13", "web-14"]
        assert await watch.silent()


async def test_a_deletion_found_by_a_new_list_is_told_to_old_watches(
    running: Any, world: Any, make_service: Any
) -> None:
    _, kubelet = running
    world.services.put(make_service("web", version="11"))
    world.services.bookmark("20")
    version = (await kubelet.get(SERVICES)).json["metadata"]["resourceVersion"]
    assert version == "20"
    # The watch upstream broke, `web` went in the meantime, and the informer listed again.
    world.services.replace([], "30")
    async with kubelet.watch(SERVICES, resourceVersion=version) as watch:
        kind, service = await watch.next()
        assert (kind, service["metadata"]["name"]) == ("DELETED", "web")
        assert service["metadata"]["resourceVersion"] == "30"
    async with kubelet.watch(SERVICES, resourceVersion="30") as watch:
        assert await watch.silent()


@pytest.mark.parametrize("version", ["9", "99"])
async def test_a_version_not_known_here_makes_the_kubelet_list(running: Any, version: str) -> None:
    answer = await running[1].get(SERVICES, watch="true", resourceVersion=version)
    assert (answer.status, answer.reason) == (410, "Expired")


async def test_a_version_that_history_has_forgotten_makes_the_kubelet_list(
    running: Any, world: Any, make_service: Any
) -> None:
    _, kubelet = running
    await kubelet.get(SERVICES)
    for version in range(11, 11 + 600):
        world.services.put(make_service("web", version=str(version)))
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (await kubelet.get(SERVICES, watch="true", resourceVersion="20")).status == 410
    async with kubelet.watch(SERVICES, resourceVersion="600") as watch:
        assert (await watch.next())[1]["metadata"]["resourceVersion"] == "601"


async def test_a_list_from_the_future_is_refused(running: Any) -> None:
    answer = await running[1].get(SERVICES, resourceVersion="99")
    assert answer.status == 504
    assert answer.json["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


async def test_a_streamed_list_ends_with_its_bookmark(running: Any, world: Any, make_service: Any) -> None:
    world.services.replace([make_service("web"), make_service("vault", "bank")], "20")
    _, kubelet = running
    streaming = {
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
    }
    async with kubelet.watch(SERVICES, **WITH_IP, **streaming) as watch:
        kind, service = await watch.next()
        assert (kind, service["kind"], service["metadata"]["name"]) == ("ADDED", "Service", "web")
        kind, bookmark = await watch.next()
        assert (kind, bookmark["kind"]) == ("BOOKMARK", "Service")
        assert bookmark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert bookmark["metadata"]["resourceVersion"] == "20"
        world.services.put(make_service("db", version="21"))
        assert (await watch.next())[1]["metadata"]["name"] == "db"


async def test_a_watch_without_a_version_begins_with_what_there_is(running: Any, world: Any) -> None:
    world.runtimeclasses.replace([class_("gvisor", "11")], "12")
    async with running[1].watch(RUNTIMECLASSES) as watch:
        kind, obj = await watch.next()
        assert (kind, obj["kind"], obj["metadata"]["name"]) == ("ADDED", "RuntimeClass", "gvisor")


@pytest.mark.parametrize("bookmarks", ["true", "false"])
async def test_a_watch_ends_with_a_bookmark_for_those_who_want_it(
    running: Any, world: Any, make_service: Any, bookmarks: str
) -> None:
    _, kubelet = running
    params = {"resourceVersion": "10", "timeoutSeconds": "1", "allowWatchBookmarks": bookmarks}
    async with kubelet.watch(SERVICES, **params) as watch:
        world.services.put(make_service("vault", "bank", version="15"))
        if bookmarks == "true":
            kind, bookmark = await watch.next()
            assert (kind, bookmark["metadata"]["resourceVersion"]) == ("BOOKMARK", "15")
        assert await watch.ended()


async def test_a_reader_that_does_not_read_is_cut_off_and_holds_up_nobody(
    running: Any, world: Any, make_service: Any
) -> None:
    session, kubelet = running
    head = f"GET {SERVICES}?watch=true&resourceVersion=10 HTTP/1.1\r\nHost: x\r\n"
    head += "Authorization: Bearer root-only-token-of-cell-a\r\n\r\n"
    _, writer = await asyncio.open_unix_connection(str(session.socket_path), limit=1024)
    writer.write(head.encode())
    await writer.drain()
    writer.transport.pause_reading()
    while session.watches == 0:
        await asyncio.sleep(0.01)
    async with kubelet.watch(SERVICES, resourceVersion="10") as watch:
        for version in range(11, 31):
            big = make_service("web", version=str(version))
            world.services.put({**big, "spec": {"clusterIP": "10.96.0.9", "padding": "x" * 50_000}})
            assert (await watch.next())[1]["metadata"]["resourceVersion"] == str(version)
        for _ in range(500):
            if session.watches == 1:
                break
            await asyncio.sleep(0.01)
        assert session.watches == 1, "the watch that nobody reads is still open"
    writer.close()
