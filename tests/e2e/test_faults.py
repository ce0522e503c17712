"""Bad input and bad luck: each is told in a clear event and status reason, costs nothing needless, and leaves nothing."""

from __future__ import annotations

import random
import string
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from support import manifests
from support.cluster import Object
from support.operators import configuration
from support.waiting import eventually
from support.world import LIVE, STARTED, TOLD, E2eWorld, condition, container_ids

from kip.bootstrap.render import USER_DATA_LIMIT
from kip.model.names import CELL_FINALIZER

pytestmark = pytest.mark.e2e

#: Seconds until a lost instance is noticed (one sweep) and its pod has another machine.
_REPLACED = 45.0
#: Waits so short that machines that never come are given up while somebody watches.
_CONNECT_S, _START_S, _DEAD_MAN_S = 20, 30, 30
#: For a kubelet that never asks, tried three times; no other machine is started with so little time.
_SILENT_S = 8

Config = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def roomy(world: E2eWorld) -> Iterator[Config]:
    """The operator's configuration, with a node so big that any pod is bound to it; as before afterwards."""
    usual = configuration(world.world)
    capacity = {"cpu": "4000", "memory": "40Ti", "pods": "100"}
    config = {**usual, "kubelet": {**usual["kubelet"], "capacity": capacity}}
    try:
        world.reconfigure(config)
        world.eventually(
            lambda: world.existing("nodes", manifests.NODE)["status"]["allocatable"]["cpu"] == "4k",
            15,
            "the node has its new size",
        )
        yield config
    finally:
        world.reconfigure(usual)


@pytest.fixture(scope="class")
def impatient(world: E2eWorld, roomy: Config) -> Iterator[Config]:
    """The operator's configuration, with short waits for machines, and machines that soon miss the operator."""
    cells = {
        "connectTimeout": f"{_CONNECT_S}s",
        "startTimeout": f"{_START_S}s",
        "deadManSwitch": f"{_DEAD_MAN_S}s",
    }
    config = {**roomy, "cells": {**roomy["cells"], **cells}}
    try:
        world.reconfigure(config)
        yield config
    finally:
        world.reconfigure(roomy)


@pytest.fixture
def namespace(world: E2eWorld, shared_namespace: str) -> Iterator[str]:
    """The module's namespace, whose pods go with the test. At the module's end nothing may be left."""
    before = {pod["metadata"]["name"] for pod in world.list("pods", shared_namespace)}
    yield shared_namespace
    after = {pod["metadata"]["name"] for pod in world.list("pods", shared_namespace)}
    if mine := sorted(after - before):
        delete(world, shared_namespace, *mine)


def delete(world: E2eWorld, namespace: str, *pods: str) -> None:
    """Deletes pods and does not wait for it."""
    world.kubectl("delete", "pod", "-n", namespace, "--wait=false", *pods)


def waits(world: E2eWorld, namespace: str, pod: str, reason: str) -> None:
    """Fails unless the pod's own status says, too, why it waits."""

    def look() -> bool:
        status = world.existing("pods", pod, namespace)["status"]
        assert status["phase"] == "Pending"
        assert status.get("reason") == reason, status
        return bool(status["message"])

    world.eventually(look, 5, f"the status of {pod} says {reason}", namespace)


def labelled(world: E2eWorld, namespace: str, app: str) -> list[Object]:
    """The pods labelled app=<app>."""
    return [p for p in world.list("pods", namespace) if p["metadata"].get("labels", {}).get("app") == app]


def launched_since(world: E2eWorld, known: set[str]) -> list[Object]:
    """Instances that were launched since those were all."""
    return [instance for instance in world.aws.instances() if instance["id"] not in known]


def known(world: E2eWorld) -> set[str]:
    """The instances that there are, or were."""
    return {instance["id"] for instance in world.aws.instances()}


# What cannot run.


@pytest.fixture(scope="class")
def refused(world: E2eWorld, shared_namespace: str) -> Iterator[str]:
    """A namespace with everything in it that gets no cell; afterwards no machine was launched, and the pods are gone."""
    pod, annotation = manifests.pod, "pod.elotl.co/"
    wrong = {f"{annotation}launch-type": "gratis", f"{annotation}volume-size": "much"}
    daemon_set = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "everywhere", "namespace": shared_namespace},
        "spec": {
            "selector": {"matchLabels": {"app": "everywhere"}},
            "template": {"metadata": {"labels": {"app": "everywhere"}}, "spec": manifests.pod_spec()},
        },
    }
    before = known(world)
    world.apply(
        pod("huge", shared_namespace, manifests.web(resources={"requests": {"cpu": "900"}})),
        pod("mistaken", shared_namespace, annotations=wrong),
        daemon_set,
    )
    yield shared_namespace
    world.kubectl("delete", "daemonset", "-n", shared_namespace, "everywhere", "--wait=false")
    delete(world, shared_namespace, "huge", "mistaken")
    for name in ("huge", "mistaken"):
        world.gone("pods", name, shared_namespace, 10)
    assert launched_since(world, before) == []


class TestRefused:
    """Pods that no machine can or may serve."""

    def test_a_pod_that_fits_no_instance(self, world: E2eWorld, refused: str) -> None:
        message = world.told(refused, "huge", "NoInstanceFits")
        assert "900" in message
        waits(world, refused, "huge", "NoInstanceFits")
        assert world.cell_of("huge", refused) is None

    def test_wrong_annotations_are_all_named_with_what_is_allowed(
        self, world: E2eWorld, refused: str
    ) -> None:
        message = world.told(refused, "mistaken", "InvalidAnnotation")
        assert "pod.elotl.co/launch-type: 'gratis' is not allowed: expected on-demand, spot" in message
        assert "pod.elotl.co/volume-size: 'much' is not allowed: expected a size like 20Gi" in message
        waits(world, refused, "mistaken", "InvalidAnnotation")
        assert world.cell_of("mistaken", refused) is None

    def test_a_daemon_sets_pod_gets_no_cell_and_says_why(self, world: E2eWorld, refused: str) -> None:
        def look() -> str:
            [pod] = labelled(world, refused, "everywhere")
            return str(pod["metadata"]["name"])

        name = world.eventually(look, TOLD, "the daemon set has a pod", refused)
        assert "everywhere" in world.told(refused, name, "DaemonSetPod")
        waits(world, refused, name, "DaemonSetPod")
        assert world.cell_of(name, refused) is None


def test_an_unknown_image_is_the_kubelets_to_report_and_the_pod_goes_quickly(
    world: E2eWorld, namespace: str
) -> None:
    before = known(world)
    world.apply(manifests.pod("no-image", namespace, {"name": "main", "image": "demo.kip.local/none:1"}))

    def look() -> bool:
        [status] = world.existing("pods", "no-image", namespace)["status"]["containerStatuses"]
        assert status["state"]["waiting"]["reason"] in ("ErrImagePull", "ImagePullBackOff")
        return "demo.kip.local/none:1" in status["state"]["waiting"]["message"]

    world.eventually(look, 45, "the kubelet cannot pull the image", namespace)
    world.told(namespace, "no-image", "Failed", says="demo.kip.local/none:1")
    delete(world, namespace, "no-image")
    world.gone("pods", "no-image", namespace, 15)
    assert len(launched_since(world, before)) == 1


def test_user_data_that_is_too_large_is_told_with_size_limit_and_key(
    world: E2eWorld, namespace: str, roomy: Config
) -> None:
    chance = random.Random(7)  # what does not compress
    noise = "".join(chance.choices(string.ascii_letters + string.digits, k=30_000))
    file = world.operator.config.with_name("large-cloud-init.yaml")
    file.write_text(f"#cloud-config\nwrite_files:\n- path: /noise\n  content: {noise}\n")
    before = known(world)
    world.reconfigure({**roomy, "cells": {**roomy["cells"], "cloudInitFile": str(file)}})
    try:
        check = subprocess.run(
            [sys.executable, "-m", "kip", "config", "check", str(world.operator.config)],
            capture_output=True,
            text=True,
            check=False,
        )
        world.apply(manifests.pod("loaded", namespace))
        message = world.told(namespace, "loaded", "InvalidRequest")
        waits(world, namespace, "loaded", "InvalidRequest")
        delete(world, namespace, "loaded")
        world.gone("pods", "loaded", namespace, 10)
    finally:
        world.reconfigure(roomy)
        file.unlink()
    for text in (message, check.stdout):
        assert str(USER_DATA_LIMIT) in text
        assert "cells.cloudInitFile" in text
    assert check.returncode == 1
    assert launched_since(world, before) == []


# AWS says no, or nothing.


#: Instance type to how EC2 fails for it, for a while.
TROUBLES: dict[str, dict[str, Any]] = {
    "t3.small": {"error": "RequestLimitExceeded"},
    "t3.medium": {"error": "timeout", "delay_s": 0.5},
    "t3a.small": {"error": "timeout", "delay_s": 0.5, "when": "after"},
    "t3a.medium": {"error": "InternalError", "when": "after"},
}


def test_a_launch_that_fails_for_a_while_becomes_one_instance(world: E2eWorld, namespace: str) -> None:
    """Too many calls, no answer, no answer though it is done, an error though it is done."""
    before = known(world)
    world.aws.forget_calls()
    for kind, fault in TROUBLES.items():
        world.aws.fail("RunInstances", match={"InstanceType": kind}, count=4, **fault)
    wished = {kind: kind.replace(".", "-") for kind in TROUBLES}
    world.run(
        *(
            manifests.pod(name, namespace, annotations={"pod.elotl.co/instance-type": kind})
            for kind, name in wished.items()
        )
    )
    calls = Counter(call["instance_type"] for call in world.aws.calls("RunInstances"))
    assert calls == dict.fromkeys(TROUBLES, 5), "the SDK gives up after three, the operator does not"
    launched = {one["type"]: one["id"] for one in launched_since(world, before)}
    assert launched == {kind: world.instance_of(name, namespace) for kind, name in wished.items()}
    assert len(launched_since(world, before)) == len(TROUBLES)


def test_without_aws_the_node_is_not_ready_and_says_why_and_running_pods_go_on(
    world: E2eWorld, namespace: str
) -> None:
    [running] = world.run(manifests.pod("running", namespace))
    world.aws.fail("*", error="drop", count=None)
    world.apply(manifests.pod("stranded", namespace))
    world.told(namespace, "stranded", "CloudUnreachable", 30)

    def ready() -> Object:
        conditions = world.existing("nodes", manifests.NODE)["status"]["conditions"]
        found: Object = next(each for each in conditions if each["type"] == "Ready")
        return found

    world.eventually(lambda: ready()["status"] == "False", 60, "the node is not Ready")
    assert ready()["reason"] == "CloudUnreachable"
    assert "AWS" in ready()["message"]
    world.aws.heal()
    world.eventually(lambda: ready()["status"] == "True", 15, "the node is Ready again")
    world.ready("stranded", namespace)
    after = world.existing("pods", "running", namespace)
    assert container_ids(after) == container_ids(running)
    assert condition(after, "Ready") == "True"


def test_a_pod_deleted_while_ec2_is_asked_leaves_nothing(world: E2eWorld, namespace: str) -> None:
    before = known(world)
    world.aws.fail("RunInstances", delay_s=60)
    world.apply(manifests.pod("recalled", namespace))
    world.eventually(lambda: not world.aws.faults(), TOLD, "EC2 has the call", namespace)
    delete(world, namespace, "recalled")
    world.aws.heal()
    world.gone("pods", "recalled", namespace, 15)
    world.eventually(lambda: world.cell_of("recalled", namespace) is None, 15, "its cell is gone", namespace)
    ended(world, *(one["id"] for one in launched_since(world, before)))


@pytest.mark.usefixtures("impatient")
class TestMachines:
    """Machines that do not come up, and one that is left alone."""

    def test_a_machine_that_does_not_answer_is_replaced(self, world: E2eWorld, namespace: str) -> None:
        before = known(world)
        world.aws.settings(tags={"kip-room/no-sshd": "true"})
        world.apply(manifests.pod("deaf", namespace))
        first = world.eventually(
            lambda: world.instance_of("deaf", namespace), TOLD, "the pod has an instance", namespace
        )
        world.aws.settings(tags={})
        message = world.told(namespace, "deaf", "CellUnreachable", _CONNECT_S + 30)
        assert f"within {_CONNECT_S} s" in message
        ended(world, first)
        world.ready("deaf", namespace)
        assert "reason" not in world.existing("pods", "deaf", namespace)["status"]
        assert len(launched_since(world, before)) == 2

    def test_machines_whose_kubelet_never_asks_are_given_up_and_after_some_attempts_not_tried_again(
        self, world: E2eWorld, namespace: str, impatient: Config
    ) -> None:
        world.reconfigure({**impatient, "cells": {**impatient["cells"], "startTimeout": f"{_SILENT_S}s"}})
        before = known(world)
        world.aws.settings(tags={"kip-room/no-kubelet": "true"})
        world.apply(manifests.pod("mute", namespace))
        message = world.told(namespace, "mute", "KubeletSilent", _SILENT_S + 45)
        assert f"within {_SILENT_S} s" in message

        def rests() -> bool:
            cell = world.cell_of("mute", namespace)
            assert cell
            assert cell["status"]["attempt"] == 3, cell["status"]
            return cell["status"]["phase"] == "Failed" and not cell["status"].get("instanceID")

        world.eventually(rests, 3 * (_CONNECT_S + _SILENT_S), "it rests after three attempts", namespace)
        waits(world, namespace, "mute", "KubeletSilent")
        machines = [one["id"] for one in launched_since(world, before)]
        assert len(machines) == 3
        ended(world, *machines)
        delete(world, namespace, "mute")
        world.gone("pods", "mute", namespace, 10)

    def test_a_cell_whose_operator_stays_away_ends_itself(self, world: E2eWorld, namespace: str) -> None:
        world.run(manifests.pod("abandoned", namespace))
        instance = world.instance_of("abandoned", namespace)
        world.operator.stop()
        try:
            stopped = time.monotonic()
            eventually(
                lambda: instance not in {one["id"] for one in world.instances(*LIVE)},
                _DEAD_MAN_S + 30,
                "the instance has ended itself",
            )
            # Its watch looks every ten seconds, and may have looked just before the operator went.
            assert time.monotonic() - stopped > _DEAD_MAN_S - 11
        finally:
            world.operator.start()
        assert "Instance initiated shutdown" in failed(world, namespace, "abandoned", "InstanceGone")
        ended(world, instance)


def ended(world: E2eWorld, *instances: str) -> None:
    """Returns when these instances are terminated and their machines gone."""

    def look() -> bool:
        live = [one["id"] for one in world.instances(*LIVE) if one["id"] in instances]
        assert not live, f"{live} live"
        return not any(world.is_booted(instance) for instance in instances)

    world.eventually(look, 30, f"{', '.join(instances) or 'no instances'}: ended")


# What takes its time, while other things happen.


class Hindrance(NamedTuple):
    """Why EC2 refuses a pod's first launch until somebody does something, and what the pod is told about it."""

    reason: str
    told: str
    fault: dict[str, Any] | None = None
    """None for what this AWS refuses by itself."""
    wish: tuple[str, str] | None = None
    """The annotation that is wrong."""


_GROUPS, _PROFILE = "pod.elotl.co/security-groups", "pod.elotl.co/instance-profile"
#: A pod's name and why it gets no machine. Each asks for a type of its own, so that each meets its own fault.
HINDRANCES = {
    "not-allowed": Hindrance(
        "NotAuthorized", "not allowed to call ec2:RunInstances", {"error": "UnauthorizedOperation"}
    ),
    "no-image": Hindrance("NotFound", "cells.bootImageSpec", {"error": "InvalidAMIID.NotFound"}),
    "no-profile": Hindrance(
        "InvalidRequest",
        f"annotation {_PROFILE}",
        None,
        (_PROFILE, "absent"),
    ),
    "no-group": Hindrance("NotFound", f"annotation {_GROUPS}", None, (_GROUPS, "sg-0123456789abcdef0")),
}
_TYPES = dict(zip(HINDRANCES, ("m5.large", "m5a.large", "c5.xlarge", "c5a.xlarge"), strict=True))


@pytest.fixture(scope="module")
def hindered(world: E2eWorld, shared_namespace: str) -> Iterator[None]:
    """Pods that EC2 refuses: for some only the first time, as if somebody had mended it at once."""
    pods = []
    for name, (_, _, fault, wish) in HINDRANCES.items():
        if fault:
            world.aws.fail("RunInstances", match={"InstanceType": _TYPES[name]}, **fault)
        wishes = dict((("pod.elotl.co/instance-type", _TYPES[name]), *([wish] if wish else ())))
        pods.append(manifests.pod(name, shared_namespace, annotations=wishes))
    world.apply(*pods)
    yield
    delete(world, shared_namespace, *HINDRANCES)


@pytest.mark.usefixtures("hindered")
@pytest.mark.parametrize("name", HINDRANCES)
def test_what_people_have_to_do_is_told(world: E2eWorld, shared_namespace: str, name: str) -> None:
    hindrance = HINDRANCES[name]
    assert hindrance.told in world.told(shared_namespace, name, hindrance.reason)
    waits(world, shared_namespace, name, hindrance.reason)
    cell = world.cell_of(name, shared_namespace)
    assert cell
    [launched] = [each for each in cell["status"]["conditions"] if each["type"] == "Launched"]
    assert hindrance.told in launched["message"]


# Machines and objects that are taken away.


@pytest.fixture(scope="module")
def bereft(world: E2eWorld, shared_namespace: str) -> Iterator[dict[str, str]]:
    """Pods that lose what they need, all at once: name to the instance that each had."""
    world.apply(
        manifests.deployment("replaced", shared_namespace, replicas=1),
        manifests.pod("lone", shared_namespace),
        manifests.pod("handled", shared_namespace),
        manifests.pod("stripped", shared_namespace),
    )
    pods = {name: world.ready(name, shared_namespace) for name in ("lone", "handled", "stripped")}
    world.kubectl("rollout", "status", "-n", shared_namespace, "deployment/replaced", "--timeout=60s")
    [replica] = replicas(world, shared_namespace)
    had = {name: world.instance_of(name, shared_namespace) for name in pods}
    had["replaced"] = world.instance_of(replica["metadata"]["name"], shared_namespace)

    world.aws.settings(boot_delay_s=30.0)
    try:
        world.apply(manifests.pod("unborn", shared_namespace))
        had["unborn"] = world.eventually(
            lambda: world.instance_of("unborn", shared_namespace),
            TOLD,
            "it has an instance",
            shared_namespace,
        )
    finally:
        world.aws.settings(boot_delay_s=0.0)
    for name in ("unborn", "lone", "replaced"):
        world.aws.report(had[name], "terminated", "Server.Test: ended by somebody else")
    for name in ("handled", "stripped"):
        cell = world.cell_of(name, shared_namespace)
        assert cell
        assert CELL_FINALIZER in cell["metadata"]["finalizers"]
        if name == "stripped":
            patch = '{"metadata": {"finalizers": null}}'
            world.kubectl("patch", "cell", cell["metadata"]["name"], "--type=merge", "-p", patch)
        world.kubectl("delete", "cell", cell["metadata"]["name"], "--wait=false")
    yield had
    world.kubectl("delete", "deployment", "-n", shared_namespace, "replaced", "--wait=false")
    delete(world, shared_namespace, *pods, "unborn")


def replicas(world: E2eWorld, namespace: str) -> list[Object]:
    """The Deployment's pods that have not failed."""
    return [p for p in labelled(world, namespace, "replaced") if p["status"]["phase"] != "Failed"]


def failed(world: E2eWorld, namespace: str, pod: str, reason: str) -> str:
    """The message of a pod's status as soon as it has failed for that reason and its cell is gone."""

    def look() -> str:
        status = world.existing("pods", pod, namespace)["status"]
        assert (status["phase"], status.get("reason")) == ("Failed", reason), status
        assert world.cell_of(pod, namespace) is None, "its cell is still there"
        containers = status.get("containerStatuses", ())
        assert not [c["name"] for c in containers if c["ready"] or "running" in c["state"]], (
            "none can run any more"
        )
        return str(status["message"])

    return world.eventually(look, _REPLACED, f"pod {pod} has failed: {reason}", namespace)


def test_an_instance_ended_by_somebody_else_fails_its_pod(
    world: E2eWorld, shared_namespace: str, bereft: dict[str, str]
) -> None:
    message = failed(world, shared_namespace, "lone", "InstanceGone")
    assert bereft["lone"] in message
    assert "ended by somebody else" in message
    world.told(shared_namespace, "lone", "InstanceGone")
    ended(world, bereft["lone"])


def test_a_deployment_replaces_the_pod_of_a_lost_instance(
    world: E2eWorld, shared_namespace: str, bereft: dict[str, str]
) -> None:
    def look() -> str:
        [replica] = replicas(world, shared_namespace)
        assert condition(replica, "Ready") == "True"
        return world.instance_of(replica["metadata"]["name"], shared_namespace)

    instance = world.eventually(look, _REPLACED, "the deployment has its replica again", shared_namespace)
    assert instance != bereft["replaced"]


def test_an_instance_lost_before_its_pod_began_is_replaced(
    world: E2eWorld, shared_namespace: str, bereft: dict[str, str]
) -> None:
    world.ready("unborn", shared_namespace, _REPLACED)
    assert "ended by somebody else" in world.told(shared_namespace, "unborn", "InstanceGone")
    assert world.instance_of("unborn", shared_namespace) != bereft["unborn"]


def test_a_cell_deleted_by_hand_takes_its_instance_and_fails_its_pod(
    world: E2eWorld, shared_namespace: str, bereft: dict[str, str]
) -> None:
    failed(world, shared_namespace, "handled", "CellDeleted")
    world.told(shared_namespace, "handled", "CellDeleted")
    ended(world, bereft["handled"])


def test_an_instance_that_no_cell_names_is_ended_and_its_pod_fails(
    world: E2eWorld, shared_namespace: str, bereft: dict[str, str]
) -> None:
    failed(world, shared_namespace, "stripped", "CellLost")
    ended(world, bereft["stripped"])


@pytest.mark.usefixtures("hindered")
def test_once_it_is_mended_the_pods_run(world: E2eWorld, shared_namespace: str) -> None:
    """EC2 is asked again by and by, without anybody's doing; at once for a pod that was mended itself."""
    world.kubectl("annotate", "pod", "-n", shared_namespace, "no-group", f"{_GROUPS}-")
    world.aws.call("iam", "CreateInstanceProfile", InstanceProfileName="absent")
    for name in HINDRANCES:
        pod = world.ready(name, shared_namespace, 60 + STARTED)
        assert "reason" not in pod["status"]
        assert "message" not in pod["status"]
