"""As whom an image is asked for, and who is told what."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import generate_latest

from kip.imagecache.caching import Caching
from kip.imagecache.fetch import Done, Tell
from kip.imagecache.wants import Reason, Want
from kip.images.errors import CachingError, LayerRefused, VolumeFull
from kip.images.format import Layer
from kip.images.pull import LayerProgress
from kip.kube.errors import Forbidden
from kip.model.clock import ManualClock
from kip.observe.imagecache import ImageCacheMetrics
from kip.oci.credentials import ANONYMOUS, Credential, Credentials, Keyring
from kip.oci.errors import Denied, NotAnImage, RegistryError, Unreachable
from kip.oci.reference import Reference, parse

APP = parse("quay.io/team/app:1")
LAYER = Layer("sha256:" + "1" * 64, "sha256:" + "2" * 64, 700)


def pod(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": name, "namespace": "shop"}, "spec": {}}


class Bench:
    """Every outside of it is here; pods are allowed what `may` says."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, str, str]] = []
        self.asked_as: list[str] = []
        self.may: dict[str, Done | Exception] = {}
        self.unreadable: set[str] = set()
        self.needs: list[int] = []
        self.metrics = ImageCacheMetrics()
        self.caching = Caching(
            self.fetch,
            self,
            own=ANONYMOUS,
            events=self,
            metrics=self.metrics,
            clock=ManualClock(),
            trouble=self.needs.append,
        )

    async def of(self, pod: Any) -> Credentials:
        name = pod["metadata"]["name"]
        if name in self.unreadable:
            raise Forbidden(403, "Forbidden", "not bound to that node")
        return Keyring([("quay.io", Credential(name, "x"))])

    async def fetch(self, reference: Reference, platform: str, credentials: Credentials, tell: Tell) -> Done:
        found = await credentials.of(reference.repository)
        name = found[0].username if found else "nobody"
        self.asked_as.append(name)
        tell(LayerProgress(LAYER, 100))
        outcome = self.may.get(name, Denied("pay first"))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def tell(self, about: Any, kind: Any, reason: str, message: str) -> None:
        self.told.append((about["metadata"]["name"], kind, reason, message))

    async def see_to(self, *pods: str, reason: Reason = "pod") -> str:
        return await self.caching(Want(APP, "linux/amd64", reason, tuple(map(pod, pods))))


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_each_pod_is_tried_and_all_are_told(bench: Bench) -> None:
    bench.may["cat"] = Done("sha256:1", fetched_bytes=1288490188, seconds=14.2)
    assert await bench.see_to("ann", "bob", "cat", "dan") == "done"
    assert bench.asked_as == ["ann", "bob", "cat"]
    assert [name for name, *_ in bench.told] == ["ann", "bob", "cat", "dan"]
    assert bench.told[0][1:] == ("Normal", "ImageCached", f"image {APP} cached: 1.2Gi in 14 s")


async def test_what_was_there_is_no_news(bench: Bench) -> None:
    bench.may["ann"] = Done("sha256:1")
    assert await bench.see_to("ann") == "done"
    assert not bench.told
    assert 'fetches_total{result="present"} 1.0' in generate_latest(bench.metrics.registry).decode()


async def test_a_pod_whose_secret_cannot_be_read_is_left_out(bench: Bench) -> None:
    bench.unreadable = {"ann"}
    bench.may["bob"] = Done("sha256:1", 1, 1.0)
    assert await bench.see_to("ann", "bob") == "done"
    bench.unreadable = {"ann", "bob"}
    bench.told.clear()
    assert await bench.see_to("ann", "bob") == "failed"
    assert not bench.told, "the API server learns of a binding a moment later; that is nobody's to mend"
    assert 'fetches_total{result="Forbidden"} 1.0' in generate_latest(bench.metrics.registry).decode()


async def test_nobody_may_is_said_with_what_to_do(bench: Bench) -> None:
    assert await bench.see_to("ann") == "failed"
    assert bench.told[0][:3] == ("ann", "Warning", "ImageDenied")
    assert "pay first" in bench.told[0][3]
    assert "imagePullSecrets" in bench.told[0][3]


async def test_a_pod_s_failure_is_not_made_good_by_kip_s_own_rights_alone(bench: Bench) -> None:
    bench.may["nobody"] = Done("sha256:1", 1, 1.0)
    assert await bench.see_to("ann") == "failed", "the kubelet would not have asked as nobody either"
    assert bench.asked_as == ["ann"]


async def test_a_listed_image_is_asked_for_without_a_pod(bench: Bench) -> None:
    bench.may["nobody"] = Done("sha256:1", 1, 1.0)
    assert await bench.see_to(reason="list") == "done"
    assert bench.asked_as == ["nobody"]


async def test_a_listed_image_is_asked_for_as_kip_where_no_pod_may(bench: Bench) -> None:
    bench.may["nobody"] = Done("sha256:1", 1, 1.0)
    bench.unreadable = {"bob"}
    assert (
        await bench.caching(Want(APP, "linux/amd64", "pod", (pod("ann"), pod("bob")), listed=True)) == "done"
    )
    assert bench.asked_as == ["ann", "nobody"]


@pytest.mark.parametrize(
    ("error", "verdict", "reason"),
    [
        (NotAnImage("a chart"), "done", "NotAnImage"),
        (LayerRefused("odd"), "done", "LayerRefused"),
        (Unreachable("away"), "failed", "RegistryUnreachable"),
        (CachingError("broke"), "failed", "CachingError"),
        (VolumeFull("full"), "failed", "VolumeFull"),
    ],
)
async def test_what_can_go_wrong(
    bench: Bench, error: CachingError | RegistryError, verdict: str, reason: str
) -> None:
    bench.may["ann"] = error
    assert await bench.see_to("ann") == verdict
    assert bench.told[0][:3] == ("ann", "Warning", reason)
    assert f'fetches_total{{result="{reason}"}} 1.0' in generate_latest(bench.metrics.registry).decode()
    assert bench.needs == ([700] if reason == "VolumeFull" else []), "what was to come has to find room"


async def test_a_pod_that_waits_hears_no_complaints(bench: Bench) -> None:
    assert await bench.see_to("ann", reason="waiting") == "failed"
    assert not bench.told
