"""Deployments and Jobs: many cells at once, and what stays of their pods when the machines are gone."""

from __future__ import annotations

import json
import re

import pytest
from support import manifests
from support.cluster import Object
from support.world import ENDED, E2eWorld, ask, condition, summary

from kip.local.images import TOOLBOX

pytestmark = pytest.mark.e2e

LINES = 12

# Two seconds from the first line to the last, so that a time between them can be asked for.
COUNTING = f"for i in $(seq {LINES}); do echo $HOSTNAME says $i; sleep 0.15; done"
# Fails once, then succeeds.
TWICE = "if mkdir /shared/tried 2> /dev/null; then echo first try; exit 1; fi; echo second try"


def test_a_deployment_of_five_becomes_ready_on_five_machines_and_goes(
    world: E2eWorld, namespace: str
) -> None:
    world.aws.forget_calls()
    world.apply(manifests.deployment("five", namespace, replicas=5))

    def all_ready() -> bool:
        status = world.existing("deployments", "five", namespace)["status"]
        assert status.get("readyReplicas") == 5, status
        return True

    world.eventually(all_ready, 90, "5 replicas are ready", namespace)
    pods = world.list("pods", namespace)
    hosts = {pod["status"]["hostIP"] for pod in pods}
    assert len(hosts) == len({pod["status"]["podIP"] for pod in pods}) == 5
    machines = {world.instance_of(pod["metadata"]["name"], namespace) for pod in pods}
    assert machines == {one["id"] for one in world.instances() if one["private_ip"] in hosts}
    launched = [call for call in world.aws.calls("RunInstances") if call["status"] == 200]
    assert sum(call["count"] for call in launched) == 5, launched

    world.kubectl("delete", "deployment", "-n", namespace, "five")
    world.eventually(
        lambda: not (world.list("pods", namespace) or world.cells(namespace)), 60, "all is gone", namespace
    )
    assert machines.isdisjoint(one["id"] for one in world.instances("pending", "running"))


def test_a_stateful_sets_pod_comes_back_under_its_name_on_another_machine(
    world: E2eWorld, namespace: str
) -> None:
    world.apply(manifests.stateful_set("db", namespace, replicas=1))

    def another_than(uid: str) -> Object:
        pod = world.existing("pods", "db-0", namespace)
        assert pod["metadata"]["uid"] != uid
        assert condition(pod, "Ready") == "True", summary(pod)
        return pod

    first = world.eventually(lambda: another_than(""), 60, "db-0 is Ready", namespace)
    machine = world.instance_of("db-0", namespace)
    ask(f"http://{first['status']['podIP']}:8080/env/FIRST")
    # By force, so that the next pod of that name comes while the old one's machine is still there.
    world.kubectl("delete", "pod", "-n", namespace, "db-0", "--force", "--grace-period=0", "--wait=false")
    second = world.eventually(
        lambda: another_than(first["metadata"]["uid"]), 60, "another db-0 is Ready", namespace
    )
    [cell] = [one for one in world.cells(namespace) if one["spec"]["podUID"] == second["metadata"]["uid"]]
    assert cell["status"]["instanceID"] != machine
    ask(f"http://{second['status']['podIP']}:8080/env/SECOND")
    told = world.kubectl("logs", "-n", namespace, "db-0").stdout
    assert "/env/SECOND" in told
    assert "/env/FIRST" not in told
    world.eventually(lambda: not world.is_booted(machine), 30, "the first machine is gone", namespace)


def test_a_daemon_sets_pod_gets_no_machine_and_is_told_why(world: E2eWorld, namespace: str) -> None:
    world.aws.forget_calls()
    everywhere = {"tolerations": [{"operator": "Exists"}]}
    world.apply(manifests.daemon_set("agent", namespace, where=everywhere))

    def told() -> Object:
        [pod] = [
            one for one in world.list("pods", namespace) if one["spec"].get("nodeName") == manifests.NODE
        ]
        events = world.events(namespace, pod["metadata"]["name"])
        [event] = [one for one in events if one["reason"] == "DaemonSetPod"]
        assert event["type"] == "Warning"
        assert "cells.allowDaemonSets" in event["message"]
        assert pod["status"]["reason"] == "DaemonSetPod"
        return pod

    pod = world.eventually(told, 20, "the pod says why it waits", namespace)
    assert pod["status"]["phase"] == "Pending"
    assert world.cells(namespace) == []
    assert world.aws.calls("RunInstances") == []


def test_kubectl_run_talks_to_its_pod_and_removes_it(world: E2eWorld, namespace: str) -> None:
    where = json.dumps({"spec": manifests.ON_CELLS})
    done = world.kubectl(
        *("run", "talk", "-n", namespace, "--rm", "-i", "--restart=Never", f"--image={TOOLBOX}"),
        *(f"--overrides={where}", "--command", "--", "sh", "-c", "read word; echo you said $word; exit 4"),
        input="hello\n",
        check=False,
    )
    assert "you said hello" in done.stdout
    assert done.returncode == 4, done.stderr
    world.gone("pods", "talk", namespace)


@pytest.fixture(scope="module")
def finished(world: E2eWorld, shared_namespace: str) -> list[Object]:
    """The ended pods of a Job and one whose container needed two tries, when their machines are gone."""
    namespace = shared_namespace
    shared = {"name": "shared", "mountPath": "/shared"}
    world.apply(
        manifests.job("count", namespace, manifests.shell(COUNTING), completions=5, parallelism=4),
        manifests.pod(
            "twice",
            namespace,
            manifests.shell(TWICE, volumeMounts=[shared]),
            manifests.shell("echo aside >&2", "aside"),
            restartPolicy="OnFailure",
            initContainers=[
                manifests.shell("echo prepared", "init"),
                # A sidecar that would run for ever keeps no pod from being done.
                manifests.shell("echo beside; sleep 100000", "beside", restartPolicy="Always"),
            ],
            volumes=[{"name": "shared", "emptyDir": {}}],
        ),
    )

    def ended() -> list[Object]:
        job = world.existing("jobs", "count", namespace)
        assert job["status"].get("succeeded") == 5, job["status"]
        assert "completionTime" in job["status"]
        twice = world.existing("pods", "twice", namespace)
        assert twice["status"]["phase"] == "Succeeded"
        assert not world.cells(namespace), "the machines are not gone"
        return world.list("pods", namespace)

    return world.eventually(ended, 120, "all pods have ended and their cells are gone", namespace)


def test_a_job_of_five_completes_and_leaves_no_machine(world: E2eWorld, finished: list[Object]) -> None:
    of_the_job = [pod for pod in finished if pod["metadata"]["name"] != "twice"]
    assert len(of_the_job) == 5
    for pod in of_the_job:
        assert pod["status"]["phase"] == "Succeeded"
        [container] = pod["status"]["containerStatuses"]
        assert container["state"]["terminated"]["exitCode"] == 0
        assert container["restartCount"] == 0
    hosts = {pod["status"]["hostIP"] for pod in finished}
    assert hosts.isdisjoint(one["private_ip"] for one in world.instances("pending", "running"))
    world.eventually(lambda: not world.stray_machines(), ENDED, "the room has taken their machines away")


def test_logs_of_ended_pods_are_each_its_own(world: E2eWorld, finished: list[Object]) -> None:
    for pod in finished:
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        if name != "twice":
            told = world.kubectl("logs", "-n", namespace, name).stdout
            assert told.splitlines() == [f"{name} says {i}" for i in range(1, LINES + 1)]


class TestLogsOfAnEndedPod:
    """All of kubectl's flags, asked when the machine is gone."""

    @pytest.fixture
    def counted(self, finished: list[Object]) -> Object:
        return next(pod for pod in finished if pod["metadata"]["name"] != "twice")

    def logs(self, world: E2eWorld, pod: Object, *flags: str) -> str:
        return world.kubectl(
            "logs", "-n", pod["metadata"]["namespace"], pod["metadata"]["name"], *flags
        ).stdout

    def test_tail(self, world: E2eWorld, counted: Object) -> None:
        said = self.logs(world, counted, "--tail=2").splitlines()
        assert [line.rpartition(" ")[2] for line in said] == [str(LINES - 1), str(LINES)]
        assert self.logs(world, counted, "--tail=0") == ""

    def test_timestamps_and_since(self, world: E2eWorld, counted: Object) -> None:
        lines = [line.split(" ", 1) for line in self.logs(world, counted, "--timestamps").splitlines()]
        times = [time for time, _ in lines]
        assert len(lines) == LINES
        assert times == sorted(times)
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", time) for time in times)
        # A time of kubectl's has whole seconds: what was said from the last line's second on.
        whole = times[-1].partition(".")[0] + "Z"
        later = [text for time, text in lines if time[: len(whole) - 1] >= whole[:-1]]
        assert 0 < len(later) < LINES
        assert self.logs(world, counted, f"--since-time={whole}").splitlines() == later
        assert len(self.logs(world, counted, "--since=1h").splitlines()) == LINES
        assert self.logs(world, counted, "--since=1s") == ""

    def test_limit_bytes(self, world: E2eWorld, counted: Object) -> None:
        assert self.logs(world, counted, "--limit-bytes=10") == counted["metadata"]["name"][:10]

    def test_follow_ends_by_itself(self, world: E2eWorld, counted: Object) -> None:
        assert len(self.logs(world, counted, "--follow").splitlines()) == LINES

    def test_previous_and_containers(self, world: E2eWorld, finished: list[Object]) -> None:
        twice = next(pod for pod in finished if pod["metadata"]["name"] == "twice")
        [main] = [one for one in twice["status"]["containerStatuses"] if one["name"] == "main"]
        assert self.logs(world, twice, "-c", "main") == "second try\n"
        # A kubelet keeps one ended container of each name (MaxPerPodContainer): once the second try has ended, the
        # first one's log is there only until it has got round to removing it. Kip keeps what the kubelet said.
        first = main["lastState"]["terminated"]["containerID"]
        answer = self.logs(world, twice, "-c", "main", "--previous")
        assert answer in ("first try\n", f"unable to retrieve container logs for {first}")
        assert self.logs(world, twice, "-c", "aside") == "aside\n"
        everything = self.logs(world, twice, "--all-containers", "--prefix").splitlines()
        assert sorted(everything) == [
            "[pod/twice/aside] aside",
            "[pod/twice/beside] beside",
            "[pod/twice/init] prepared",
            "[pod/twice/main] second try",
        ]

    def test_a_log_that_never_was_is_refused_in_a_kubelets_words(
        self, world: E2eWorld, finished: list[Object]
    ) -> None:
        twice = next(pod for pod in finished if pod["metadata"]["name"] == "twice")
        refused = world.kubectl(
            "logs", "-n", twice["metadata"]["namespace"], "twice", "-c", "aside", "--previous", check=False
        )
        assert refused.returncode == 1
        assert 'previous terminated container "aside" in pod "twice" not found' in refused.stderr

    def test_by_selector_and_by_job(self, world: E2eWorld, finished: list[Object]) -> None:
        namespace = finished[0]["metadata"]["namespace"]
        selected = world.kubectl("logs", "-n", namespace, "-l", "app=count", "--tail=1").stdout
        assert len(selected.splitlines()) == 5
