"""A pod with a GPU: its machine's image, the device plugin beside it, and that nobody in the cluster sees that one."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from support import manifests
from support.cluster import Object
from support.world import E2eWorld

from kip.local.images import DEVICE_PLUGIN, TOOLBOX
from kip.model.clock import from_rfc3339

pytestmark = pytest.mark.e2e

GPU = "nvidia.com/gpu"
#: Seconds until it runs: those of any pod, the plugin's image pulled, and a turn of the kubelet's status.
STARTED = 90.0


@pytest.fixture
def offering(world: E2eWorld) -> E2eWorld:
    """The world, whose virtual node offers GPUs."""
    configure(world, GPU, "8")
    world.eventually(
        lambda: world.existing("nodes", manifests.NODE)["status"]["allocatable"].get(GPU) == "8",
        15,
        "the virtual node offers GPUs",
    )
    return world


def configure(world: E2eWorld, resource: str, amount: str, **gpu: str) -> None:
    """Restarts the operator with more capacity, and other settings of cells with GPUs."""
    config = yaml.safe_load(world.operator.configured)
    config["kubelet"]["capacity"] = {resource: amount}
    config["cells"]["gpu"] |= gpu
    world.reconfigure(config)


def trainer(namespace: str, gpus: int) -> Object:
    """A pod that keeps its GPUs for itself, with a container beside it that has none."""
    limits: dict[str, Any] = {"resources": {"limits": {GPU: str(gpus)}}}
    return manifests.pod(
        "train",
        namespace,
        manifests.shell("sleep 3600", **limits),
        manifests.shell("sleep 3600", "beside"),
        annotations={"pod.elotl.co/instance-type": f"g4dn.{'12xlarge' if gpus > 1 else 'xlarge'}"},
    )


def devices(world: E2eWorld, namespace: str, container: str) -> list[str]:
    """The names of NVIDIA's devices in the container."""
    listed = world.exec("train", namespace, "ls", "/dev", container=container).split()
    return [name for name in listed if name.startswith("nvidia")]


def test_a_pod_has_the_gpus_that_it_requests_and_the_cluster_knows_of_no_other_pod(
    offering: E2eWorld, namespace: str
) -> None:
    world, told_before = offering, len(offering.operator.log())
    [pod] = world.run(trainer(namespace, 2), timeout=STARTED)
    cell = world.cell_of("train", namespace)
    assert cell
    assert cell["status"]["instanceType"] == "g4dn.12xlarge"
    instance = next(each for each in world.instances() if each["id"] == cell["status"]["instanceID"])
    assert "-nvidia-" in instance["image_name"]

    [first, second] = visible = (
        world.exec("train", namespace, "sh", "-c", "echo $NVIDIA_VISIBLE_DEVICES", container="main")
        .strip()
        .split(",")
    )
    assert {first, second} < {f"GPU-{number}" for number in range(4)}
    numbers = sorted(device.removeprefix("GPU-") for device in visible)
    assert devices(world, namespace, "main") == [*(f"nvidia{number}" for number in numbers), "nvidiactl"]
    assert devices(world, namespace, "beside") == []

    running = world.on_cell(instance["id"], "ctr -n k8s.io containers list").stdout
    assert DEVICE_PLUGIN in running
    assert TOOLBOX in running
    everywhere = world.kubectl("get", "pods", "-A", "-o", "name").stdout.split()
    assert not [name for name in everywhere if "device-plugin" in name]
    assert "device-plugin" not in world.operator.log()[told_before:]
    journal = world.on_cell(instance["id"], "journalctl --unit kubelet").stdout
    assert "Creating a mirror pod for static pod" in journal
    assert "Failed creating a mirror pod" not in journal
    mirrored = [e for e in world.events("kube-system") if "device-plugin" in e["involvedObject"]["name"]]
    assert mirrored == []

    [waited] = [e for e in world.events(namespace) if e["reason"] == "WaitingForDevices"][-1:]
    assert waited["message"].startswith("waiting for the GPU device plugin: the kubelet offers 0 of 2")
    assert from_rfc3339(waited["lastTimestamp"]) <= from_rfc3339(pod["status"]["startTime"])


def test_a_pod_outlives_its_kubelets_and_its_device_plugins_new_beginning(
    offering: E2eWorld, namespace: str
) -> None:
    world = offering
    world.run(trainer(namespace, 1), timeout=STARTED)
    instance = world.instance_of("train", namespace)
    had = devices(world, namespace, "main")
    world.on_cell(instance, "systemctl restart kubelet")
    registered = "journalctl -u kubelet | grep -c 'Got registration request from device plugin'"
    world.eventually(
        lambda: int(world.on_cell(instance, registered, check=False).stdout or "0") >= 2,
        30,
        "the plugin has registered again",
        namespace,
    )
    world.eventually(
        lambda: devices(world, namespace, "main") == had, 30, "the kubelet has its pod again", namespace
    )
    world.ready("train", namespace)
    assert not [e for e in world.events(namespace) if "Admission" in e["reason"] or e["reason"] == "Failed"]


def test_a_plugin_that_cannot_be_pulled_is_told_of_and_the_pod_never_shown(
    world: E2eWorld, namespace: str
) -> None:
    configure(world, GPU, "8", devicePluginImage="demo.kip.local/no-such-plugin:1")
    world.apply(trainer(namespace, 1))

    def told() -> str:
        pod = world.existing("pods", "train", namespace)
        return str(pod["status"].get("message") or "")

    world.eventually(lambda: "no-such-plugin" in told(), STARTED, "the image is named", namespace)
    assert "waiting for the GPU device plugin: the kubelet offers 0 of 1 nvidia.com/gpu (Failed" in told()
    pod = world.existing("pods", "train", namespace)
    assert (pod["status"]["phase"], pod["status"].get("startTime")) == ("Pending", None)
    world.kubectl("delete", "pod", "-n", namespace, "train", "--wait=false")
    world.gone("pods", "train", namespace)
