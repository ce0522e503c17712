"""A pod with huge pages: its machine sets them aside at boot, and its kubelet admits it by them."""

from __future__ import annotations

import pytest
import yaml
from support import manifests
from support.world import E2eWorld

pytestmark = pytest.mark.e2e

RESOURCE = "hugepages-2Mi"


def test_a_pod_gets_the_huge_pages_that_it_requests(world: E2eWorld, namespace: str) -> None:
    config = yaml.safe_load(world.operator.configured)
    world.reconfigure({**config, "kubelet": {**config["kubelet"], "capacity": {RESOURCE: "1Gi"}}})
    limits = {RESOURCE: "8Mi", "memory": "64Mi"}
    mounts = [{"name": "pages", "mountPath": "/pages"}]
    pod = manifests.pod(
        "huge",
        namespace,
        manifests.shell("sleep 3600", resources={"limits": limits}, volumeMounts=mounts),
        volumes=[{"name": "pages", "emptyDir": {"medium": "HugePages"}}],
    )
    world.run(pod)
    set_aside = world.on_cell(
        world.instance_of("huge", namespace), "cat /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
    )
    assert set_aside.stdout == "4\n"
    mounted = [line.split() for line in world.exec("huge", namespace, "cat", "/proc/mounts").splitlines()]
    [(kind, options)] = [(fields[2], fields[3]) for fields in mounted if fields[1] == "/pages"]
    assert kind == "hugetlbfs"
    assert "pagesize=2M" in options
