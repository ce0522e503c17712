"""The images of a pod, and which pods are meant for a virtual node."""

from __future__ import annotations

from typing import Any

import pytest

from kip.pods.images import images, meant_for_virtual_node


def test_every_container_s_image_once() -> None:
    pod = {
        "spec": {
            "initContainers": [{"image": "a"}],
            "containers": [{"image": "b"}, {"image": "a"}, {"image": "c", "imagePullPolicy": "Never"}, {}],
            "ephemeralContainers": [{"image": "d"}],
        }
    }
    assert images(pod) == ("a", "b", "d")
    assert images({}) == ()


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ({"nodeSelector": {"type": "virtual-kubelet"}}, True),
        ({"tolerations": [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}]}, True),
        (
            {"tolerations": [{"key": "virtual-kubelet.io/provider", "value": "kip", "effect": "NoSchedule"}]},
            True,
        ),
        ({"tolerations": [{"key": "virtual-kubelet.io/provider", "value": "aci"}]}, False),
        (
            {
                "tolerations": [
                    {"key": "virtual-kubelet.io/provider", "operator": "Exists", "effect": "NoExecute"}
                ]
            },
            False,
        ),
        ({"tolerations": [{"operator": "Exists"}]}, False),
        ({"nodeSelector": {"type": "virtual-kubelet"}, "nodeName": "kip-provider-0"}, False),
        ({}, False),
    ],
)
def test_meant_for_a_virtual_node(spec: dict[str, Any], *, meant: bool) -> None:
    assert meant_for_virtual_node({"spec": spec}) is meant


def test_image_volumes_are_pulled_too() -> None:
    pod = {
        "spec": {
            "containers": [{"image": "a"}],
            "volumes": [
                {"name": "v", "image": {"reference": "b"}},
                {"name": "w", "image": {"reference": "c", "pullPolicy": "Never"}},
                {"name": "x", "emptyDir": {}},
            ],
        }
    }
    assert images(pod) == ("a", "b")
