"""Lists in which there is never anything for a cell."""

from __future__ import annotations

from typing import Any

REQUESTS = "/apis/certificates.k8s.io/v1/podcertificaterequests"
MINE = {"fieldSelector": "spec.nodeName=kip-provider-0"}


async def test_a_kubelets_informer_of_certificate_requests_is_content(running: Any, world: Any) -> None:
    session, kubelet = running
    listed = (await kubelet.get(REQUESTS, **MINE, limit="500", resourceVersion="0")).json
    version = listed["metadata"]["resourceVersion"]
    assert listed == {
        "kind": "PodCertificateRequestList",
        "apiVersion": "certificates.k8s.io/v1",
        "metadata": {"resourceVersion": version},
        "items": [],
    }
    async with kubelet.watch(REQUESTS, **MINE, resourceVersion=version, allowWatchBookmarks="true") as watch:
        assert (watch.status, session.watches) == (200, 1)
        assert await watch.silent()
    assert world.upstream.asked == []
    assert world.hooks.refusals == []


async def test_a_streamed_list_is_empty_too(running: Any) -> None:
    streaming = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
    async with running[1].watch(REQUESTS, **MINE, **streaming) as watch:
        kind, bookmark = await watch.next()
        assert (kind, bookmark["kind"]) == ("BOOKMARK", "PodCertificateRequest")
        assert bookmark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert await watch.silent()


async def test_the_watch_ends_when_its_time_is_over(running: Any) -> None:
    async with running[1].watch(REQUESTS, **MINE, resourceVersion="5", timeoutSeconds="1") as watch:
        assert await watch.ended()
