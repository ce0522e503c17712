"""What has to be there, from what the cluster says."""

from __future__ import annotations

from typing import Any

from kip.imagecache.wants import Want, wants
from kip.pods.tree import Pod

BOTH = ("linux/amd64", "linux/arm64")


def pod(name: str, *images: str, phase: str = "Running", **spec: Any) -> Pod:
    containers = [{"name": str(index), "image": image} for index, image in enumerate(images)]
    return {
        "metadata": {"name": name, "uid": name, "namespace": "shop"},
        "spec": {"containers": containers, **spec},
        "status": {"phase": phase},
    }


def found(
    *bound: Pod,
    waiting: tuple[Pod, ...] = (),
    listed: tuple[str, ...] = (),
    architecture: str | None = "amd64",
) -> list[Want]:
    return list(wants(bound, waiting, listed, architecture=lambda _: architecture, platforms=BOTH))


def keys(found: list[Want]) -> list[tuple[str, str, str]]:
    return [(*want.key, want.reason) for want in found]


def test_each_image_once_for_all_its_pods() -> None:
    one, two = pod("one", "nginx", "quay.io/x:1"), pod("two", "docker.io/library/nginx:latest")
    want, other = found(one, two)
    assert want.key == ("docker.io/library/nginx:latest", "linux/amd64")
    assert want.pods == (one, two)
    assert other.key == ("quay.io/x:1", "linux/amd64")


def test_of_a_thousand_pods_some_are_enough() -> None:
    many = [pod(str(number), "nginx") for number in range(1000)]
    other = pod("other", "nginx", imagePullSecrets=[{"name": "better"}])
    (want,) = found(*many, other)
    assert len(want.pods) == 6
    assert want.pods[-1] is other, "it may be allowed what the others are not"


def test_finished_pods_want_nothing() -> None:
    assert not found(pod("a", "nginx", phase="Succeeded"), pod("b", "nginx", phase="Failed"))


def test_a_pod_without_a_machine_wants_nothing_yet_unless_it_says_which() -> None:
    assert not found(pod("a", "nginx"), architecture=None)
    (want,) = found(pod("a", "nginx", nodeSelector={"kubernetes.io/arch": "arm64"}), architecture=None)
    assert want.platform == "linux/arm64"


def test_what_runs_comes_before_the_list_and_that_before_what_waits() -> None:
    waiting = pod("w", "later", nodeSelector={"kubernetes.io/arch": "arm64"}, phase="Pending")
    assert keys(found(pod("a", "now"), waiting=(waiting,), listed=("listed", "now"))) == [
        ("docker.io/library/now:latest", "linux/amd64", "pod"),
        ("docker.io/library/listed:latest", "linux/amd64", "list"),
        ("docker.io/library/listed:latest", "linux/arm64", "list"),
        ("docker.io/library/now:latest", "linux/arm64", "list"),
        ("docker.io/library/later:latest", "linux/arm64", "waiting"),
    ]


def test_what_is_listed_is_so_however_many_pods_have_it() -> None:
    many = [pod(str(number), "quay.io/a") for number in range(30)]
    [amd64, arm64] = found(*many, listed=("quay.io/a",))
    assert [(want.reason, want.listed) for want in (amd64, arm64)] == [("pod", True), ("list", True)]
    assert len(amd64.pods) < 30
    assert not found(*many)[0].listed


def test_what_is_no_name_is_left_out() -> None:
    assert not found(pod("a", "NOT A NAME"))
