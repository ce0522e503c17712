"""The end of a pod: as its kubelet ends it, and then nothing of its machine is left."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest
from support import manifests
from support.cluster import Object
from support.waiting import first_line
from support.world import E2eWorld, condition

pytestmark = pytest.mark.e2e

GRACE = 6  # seconds
LONG_GRACE = 90  # seconds that are not to be used up
# A kubelet has done its part so many seconds after the grace period; the rest of the time is this machine's.
TEARDOWN = 30

POLITE = (
    "trap 'echo told to stop; sleep 1; echo stopped; exit 0' TERM; echo working; while :; do sleep 0.1; done"
)
STUBBORN = "trap 'echo told to stop and going on' TERM; echo working; while :; do sleep 0.1; done"
PRE_STOP = "echo hook begins > /proc/1/fd/1; sleep 2; echo hook ends > /proc/1/fd/1"


def loop(script: str) -> Object:
    """A container whose shell is process 1 and handles SIGTERM itself."""
    return {**manifests.shell("", "main"), "command": ["sh", "-c", script]}


@pytest.fixture(scope="module")
def namespace(world: E2eWorld, shared_namespace: str) -> str:
    """With all pods of this module in it: those that a test ends are ready, the others have begun."""
    hook = {"lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", PRE_STOP]}}}}
    ready = [
        manifests.pod(
            "polite", shared_namespace, {**loop(POLITE), **hook}, terminationGracePeriodSeconds=LONG_GRACE
        ),
        manifests.pod("stubborn", shared_namespace, loop(STUBBORN), terminationGracePeriodSeconds=GRACE),
        manifests.pod("forced", shared_namespace, loop(STUBBORN), terminationGracePeriodSeconds=30),
    ]
    world.apply(
        manifests.pod(
            "failing",
            shared_namespace,
            manifests.shell("echo no; echo 'last words' > /dev/termination-log; exit 3"),
            restartPolicy="Never",
        ),
        manifests.pod(
            "greedy",
            shared_namespace,
            manifests.shell("tail /dev/zero", resources={"limits": {"memory": "32Mi"}}),
            restartPolicy="Never",
        ),
        manifests.pod(
            "endless",
            shared_namespace,
            manifests.shell("sleep 1000"),
            activeDeadlineSeconds=3,
            restartPolicy="Never",
        ),
    )
    world.run(*ready)
    return shared_namespace


@pytest.fixture
def following(world: E2eWorld, namespace: str) -> Iterator[subprocess.Popen[str]]:
    """`kubectl logs -f` of the polite pod, which has said its first line."""
    with world.going_on("logs", "-f", "-n", namespace, "polite") as kubectl:
        assert first_line(kubectl.stdout) == "working\n"
        yield kubectl


def test_the_pre_stop_hook_and_the_signal_come_in_order_and_nothing_said_is_lost(
    world: E2eWorld, namespace: str, following: subprocess.Popen[str]
) -> None:
    instance = world.instance_of("polite", namespace)
    begun = time.monotonic()
    world.kubectl("delete", "pod", "-n", namespace, "polite", "--wait=false")
    marked = world.existing("pods", "polite", namespace)["metadata"]
    assert marked["deletionGracePeriodSeconds"] == LONG_GRACE
    said, _ = following.communicate(timeout=LONG_GRACE)
    took = time.monotonic() - begun
    assert said.splitlines() == ["hook begins", "hook ends", "told to stop", "stopped"]
    # Two seconds of the hook, one of the container; not the whole grace period.
    assert 3 <= took < LONG_GRACE / 2
    world.gone("pods", "polite", namespace, TEARDOWN)
    machine_goes(world, instance, "polite", namespace)


def test_a_container_that_ignores_the_signal_is_killed_after_the_grace_period(
    world: E2eWorld, namespace: str
) -> None:
    instance = world.instance_of("stubborn", namespace)
    begun = time.monotonic()
    world.kubectl("delete", "pod", "-n", namespace, "stubborn", "--wait=false")
    world.gone("pods", "stubborn", namespace, GRACE + TEARDOWN)
    assert time.monotonic() - begun >= GRACE
    machine_goes(world, instance, "stubborn", namespace)


def test_a_pod_deleted_by_force_takes_its_machine_along(world: E2eWorld, namespace: str) -> None:
    instance = world.instance_of("forced", namespace)
    world.kubectl("delete", "pod", "-n", namespace, "forced", "--grace-period=0", "--force", "--wait=false")
    world.gone("pods", "forced", namespace, 15)
    machine_goes(world, instance, "forced", namespace)


def test_a_pod_that_fails_keeps_its_exit_code_and_its_log_but_no_machine(
    world: E2eWorld, namespace: str
) -> None:
    pod = ended(world, "failing", namespace)
    assert pod["status"]["phase"] == "Failed"
    terminated = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (terminated["exitCode"], terminated["reason"]) == (3, "Error")
    assert terminated["message"] == "last words\n"
    assert condition(pod, "Ready") == "False"
    assert world.kubectl("logs", "-n", namespace, "failing").stdout == "no\n"


def test_a_container_that_takes_more_memory_than_its_limit_is_killed(world: E2eWorld, namespace: str) -> None:
    pod = ended(world, "greedy", namespace)
    terminated = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    # 128 + SIGKILL, which nobody else sent. containerd hears of the lack of memory and of the end from two sources:
    # where the end comes first, the reason is Error.
    assert terminated["exitCode"] == 137
    assert terminated["reason"] in ("OOMKilled", "Error")


def test_a_pod_past_its_deadline_is_ended_by_the_kubelet(world: E2eWorld, namespace: str) -> None:
    pod = ended(world, "endless", namespace)
    assert (pod["status"]["phase"], pod["status"]["reason"]) == ("Failed", "DeadlineExceeded")


def test_a_pod_deleted_while_its_machine_comes_up_is_gone_at_once_and_so_is_the_machine(
    world: E2eWorld, namespace: str
) -> None:
    delay = world.aws.settings()["boot_delay_s"]
    world.aws.settings(boot_delay_s=60.0)
    try:
        world.apply(manifests.pod("early", namespace))
        instance = world.eventually(
            lambda: world.instance_of("early", namespace), 20, "the pod has an instance", namespace
        )
        logs = world.kubectl("logs", "-n", namespace, "early", check=False)
        assert 'container "web" in pod "early" is waiting to start: ContainerCreating' in logs.stderr
        assert "BadRequest" in logs.stderr
        world.kubectl("delete", "pod", "-n", namespace, "early", "--wait=false")
        world.gone("pods", "early", namespace, 10)
        machine_goes(world, instance, "early", namespace)
    finally:
        world.aws.settings(boot_delay_s=delay)


def ended(world: E2eWorld, name: str, namespace: str) -> Object:
    """The pod when it has ended and its Cell is gone."""

    def look() -> Object:
        pod = world.existing("pods", name, namespace)
        assert pod["status"]["phase"] in ("Succeeded", "Failed"), pod["status"]
        assert world.cell_of(name, namespace) is None, "its cell is still there"
        return pod

    return world.eventually(look, 60, f"{name} has ended and its machine is gone", namespace)


def machine_goes(world: E2eWorld, instance: str, pod: str, namespace: str) -> None:
    """Returns when the pod's Cell, its instance and the machine are gone."""

    def gone() -> bool:
        assert world.cell_of(pod, namespace) is None, "its cell is still there"
        states = [one["state"] for one in world.aws.instances() if one["id"] == instance]
        assert states in ([], ["terminated"]), states
        return not world.is_booted(instance)

    world.eventually(gone, 30, f"the machine of {pod} is gone", namespace)
