"""kubectl's ways into a running pod, through the virtual node's kubelet API to the cell's own kubelet."""

from __future__ import annotations

import hashlib
import json
import os
import re
import select
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import manifests
from support.cluster import Object
from support.terminal import terminal
from support.waiting import first_line
from support.world import E2eWorld, ask

from kip.local.images import TOOLBOX

pytestmark = pytest.mark.e2e

POD = "streams"
MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def namespace(shared_namespace: str) -> str:
    return shared_namespace


@pytest.fixture(scope="module")
def pod(world: E2eWorld, namespace: str) -> Object:
    """A server, a shell that waits, and one that repeats what it is told."""
    echo = {**manifests.shell("", "echo"), "command": ["cat"], "stdin": True}
    containers = (manifests.web(), manifests.shell("sleep 100000", "tools"), echo)
    # `cat` as process 1 does not hear SIGTERM: nothing is to be waited for.
    [pod] = world.run(manifests.pod(POD, namespace, *containers, terminationGracePeriodSeconds=1))
    return pod


def test_logs_follow_what_a_container_says(world: E2eWorld, pod: Object, namespace: str) -> None:
    with world.going_on("logs", "-f", "--tail=0", "-n", namespace, POD, "-c", "web") as kubectl:
        # Asked again until it is seen: only what is said after kubectl has connected is followed.
        def seen() -> bool:
            ask(f"http://{pod['status']['podIP']}:8080/env/FOLLOWED")
            assert kubectl.stdout
            return bool(select.select([kubectl.stdout], [], [], 0.5)[0])

        world.eventually(seen, 15, "a line arrives")
        assert "GET /env/FOLLOWED 404" in first_line(kubectl.stdout)


def test_logs_of_a_running_pod_take_all_flags(world: E2eWorld, pod: Object, namespace: str) -> None:
    def logs(*flags: str) -> list[str]:
        return world.kubectl("logs", "-n", namespace, POD, "-c", "web", *flags).stdout.splitlines()

    for number in range(3):
        ask(f"http://{pod['status']['podIP']}:8080/env/N{number}")
    assert [line.split()[-2] for line in logs("--tail=2")] == ["/env/N1", "/env/N2"]
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z ", logs("--timestamps", "--tail=1")[0])
    assert len("\n".join(logs("--limit-bytes=30"))) <= 30
    assert any("serving on" in line for line in logs("--since=1h"))
    assert not any("serving on" in line for line in logs(f"--since-time={_now()}"))
    prefixes = {line.split("]")[0] for line in logs("--prefix")}
    assert prefixes == {f"[pod/{POD}/web"}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1))


@pytest.mark.parametrize("protocol", ["WebSocket", "SPDY"])
def test_exec_brings_exit_code_and_both_outputs(
    world: E2eWorld, pod: Object, namespace: str, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", str(protocol == "WebSocket").lower())
    done = world.kubectl(
        "exec",
        "-n",
        namespace,
        POD,
        "-c",
        "tools",
        "--",
        "sh",
        "-c",
        "echo out; echo err >&2; exit 7",
        check=False,
    )
    assert (done.returncode, done.stdout) == (7, "out\n")
    assert done.stderr.splitlines()[0] == "err"


def test_exec_takes_megabytes_of_input_and_gives_them_back(
    world: E2eWorld, pod: Object, namespace: str
) -> None:
    text = "0123456789abcdef" * (4 * MEBIBYTE // 16)
    done = world.kubectl("exec", "-i", "-n", namespace, POD, "-c", "tools", "--", "cat", input=text)
    assert hashlib.sha256(done.stdout.encode()).digest() == hashlib.sha256(text.encode()).digest()


def test_exec_refuses_what_is_not_there(world: E2eWorld, pod: Object, namespace: str) -> None:
    missing = world.kubectl("exec", "-n", namespace, POD, "-c", "tools", "--", "no-such-program", check=False)
    assert missing.returncode != 0
    assert "no-such-program" in missing.stderr
    other = world.kubectl("exec", "-n", namespace, POD, "-c", "nobody", "--", "true", check=False)
    assert other.returncode != 0
    assert "nobody" in other.stderr


def test_exec_with_a_terminal_has_its_size_and_its_line_discipline(
    world: E2eWorld, pod: Object, namespace: str
) -> None:
    command = [str(world.kubectl_program()), "exec", "-it", "-n", namespace, POD, "-c", "tools", "--", "sh"]
    with terminal(command, world.environment, rows=33, columns=101) as screen:
        screen.until("# ")
        # The size is told a moment after the shell begins.
        world.eventually(lambda: "33 101" in screen.answer("stty size"), 10, "the terminal has our size")
        assert "/dev/pts/" in screen.answer("tty")
        screen.type("exit 5\n")
        assert screen.ended() == 5


def test_attach_talks_to_the_containers_own_process(world: E2eWorld, pod: Object, namespace: str) -> None:
    with world.going_on("attach", "-i", "-n", namespace, POD, "-c", "echo") as kubectl:
        assert kubectl.stdin
        kubectl.stdin.write("hello, echo\n")
        kubectl.stdin.flush()
        assert first_line(kubectl.stdout) == "hello, echo\n"
    assert world.kubectl("logs", "-n", namespace, POD, "-c", "echo").stdout == "hello, echo\n"


@pytest.mark.parametrize("protocol", ["WebSocket", "SPDY"])
def test_port_forward_carries_many_connections(
    world: E2eWorld, pod: Object, namespace: str, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECTL_PORT_FORWARD_WEBSOCKETS", str(protocol == "WebSocket").lower())
    with world.going_on(
        "port-forward", "-n", namespace, f"pod/{POD}", ":8080", "--address=127.0.0.1"
    ) as kubectl:
        found = re.search(r"127\.0\.0\.1:(\d+) -> 8080", first_line(kubectl.stdout))
        assert found
        url = f"http://127.0.0.1:{found[1]}"
        with ThreadPoolExecutor(8) as clients:
            answers = list(clients.map(lambda _: ask(url), range(24)))
    assert all(f"hostname: {POD}" in answer for answer in answers)


def test_cp_copies_a_file_there_and_back(
    world: E2eWorld, pod: Object, namespace: str, tmp_path: Path
) -> None:
    content = os.urandom(3 * MEBIBYTE)
    (tmp_path / "there").write_bytes(content)
    there = f"{namespace}/{POD}:/tmp/copied"
    world.kubectl("cp", "-c", "tools", str(tmp_path / "there"), there)
    said = world.exec(POD, namespace, "sha256sum", "/tmp/copied", container="tools")
    assert said.split()[0] == hashlib.sha256(content).hexdigest()
    world.kubectl("cp", "-c", "tools", there, str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == content


def test_debug_adds_a_container_that_sees_the_others_processes(
    world: E2eWorld, pod: Object, namespace: str
) -> None:
    world.kubectl(
        "debug",
        "-n",
        namespace,
        POD,
        f"--image={TOOLBOX}",
        "--container=peek",
        "--target=web",
        "--",
        "sleep",
        "1000",
    )

    def running() -> bool:
        status = world.existing("pods", POD, namespace)["status"]
        [peek] = status["ephemeralContainerStatuses"]
        return "running" in peek["state"]

    world.eventually(running, 20, "the debugging container runs", namespace)
    assert "/web" in world.exec(POD, namespace, "ps", container="peek")


def test_the_nodes_summary_and_metrics_hold_the_pods_of_all_cells(
    world: E2eWorld, pod: Object, namespace: str
) -> None:
    proxy = f"/api/v1/nodes/{manifests.NODE}/proxy"

    def raw(path: str) -> str:
        return world.kubectl("get", "--raw", f"{proxy}{path}").stdout

    def summarised() -> bool:
        summary = json.loads(raw("/stats/summary"))
        assert summary["node"]["nodeName"] == manifests.NODE
        [found] = [one for one in summary["pods"] if one["podRef"]["uid"] == pod["metadata"]["uid"]]
        assert {one["name"] for one in found["containers"]} >= {"web", "tools", "echo"}
        return found["memory"]["workingSetBytes"] > 0 and found["cpu"]["usageCoreNanoSeconds"] > 0

    # A kubelet measures every ten seconds.
    world.eventually(summarised, 40, "the pod is in the node's summary", namespace)
    here = rf'container="web",[^}}]*namespace="{namespace}",[^}}]*pod="{POD}"'
    assert re.search(rf"container_memory_working_set_bytes{{{here}", raw("/metrics/resource"))
    assert re.search(rf"container_cpu_usage_seconds_total{{{here}", raw("/metrics/resource"))
    assert f'pod="{POD}"' in raw("/metrics/cadvisor")
    assert POD in raw("/pods")
