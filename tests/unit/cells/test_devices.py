"""Which devices a pod waits for."""

from __future__ import annotations

from typing import Any

from kip.cells.devices import Lacking, lacking
from kip.model.quantity import MIB


def pod(*gpus: int, init: int = 0) -> dict[str, Any]:
    def container(count: int) -> dict[str, Any]:
        return {"resources": {"limits": {"nvidia.com/gpu": str(count)}} if count else {}}

    return {
        "spec": {
            "containers": [container(count) for count in gpus],
            "initContainers": [container(init)] if init else [],
        }
    }


def found(subject: dict[str, Any], offered: int) -> Lacking | None:
    return lacking(subject, {"nvidia.com/gpu": offered}.__getitem__)


def test_a_pod_without_gpus_waits_for_nothing() -> None:
    def unasked(resource: str) -> int:
        raise AssertionError(f"{resource} is of no interest")

    assert lacking(pod(0), unasked) is None


def test_all_that_the_pod_needs_at_once_must_be_there() -> None:
    assert found(pod(1, 2), 3) is None
    assert found(pod(1, 2), 2) == Lacking("nvidia.com/gpu", 3, 2)
    assert found(pod(1, init=4), 3) == Lacking("nvidia.com/gpu", 4, 3)


def test_huge_pages_must_be_there_too() -> None:
    limits = {"hugepages-2Mi": "64Mi", "nvidia.com/gpu": "1"}
    subject = {"spec": {"containers": [{"resources": {"limits": limits}}]}}
    offered = {"nvidia.com/gpu": 1, "hugepages-2Mi": 64 * MIB}
    assert lacking(subject, offered.__getitem__) is None
    lack = lacking(subject, {**offered, "hugepages-2Mi": 32 * MIB}.__getitem__, "the plugin fails")
    assert str(lack) == "waiting for huge pages: the kubelet offers 32Mi of 64Mi hugepages-2Mi"
    assert lack
    assert "kernel" in lack.prerequisites


def test_it_is_told_with_what_the_kubelet_warns_of() -> None:
    assert str(Lacking("nvidia.com/gpu", 3, 2, "Failed: no such image")) == (
        "waiting for the GPU device plugin: the kubelet offers 2 of 3 nvidia.com/gpu (Failed: no such image)"
    )
