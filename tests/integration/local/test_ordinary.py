"""The ordinary node is one: its pods run, are reached and reach others as on any node."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from kip.local import lifecycle, ordinary
from kip.local.build import KUBERNETES, program
from kip.local.progress import ConsoleProgress
from kip.local.world import World

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="boots a machine: needs root"),
]

WEB = "demo.kip.local/web:1"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, reserved: Callable[[str], str]) -> Iterator[World]:
    name = reserved("kipnode")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KIP_LOCAL_STATE", str(tmp_path_factory.mktemp("node") / "states"))
        try:
            made = lifecycle.up(name, ConsoleProgress(), only=["room", "dns", "cluster", "scheduler"])
            ordinary.up(made, ConsoleProgress())
            yield made
        finally:
            lifecycle.down(name)


def kubectl(world: World, *arguments: str) -> str:
    command = [str(program(KUBERNETES, "kubectl")), "--kubeconfig", str(world.kubeconfig), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def eventually(ask: Callable[[], str], holds: Callable[[str], bool], seconds: float = 20) -> str:
    deadline = time.monotonic() + seconds
    while not holds(seen := ask()):
        assert time.monotonic() < deadline, f"after {seconds} s: {seen}"
        time.sleep(0.1)
    return seen


@pytest.fixture(scope="module")
def web(world: World) -> str:
    """The address of a pod behind Service `web`."""
    kubectl(world, "create", "deployment", "web", f"--image={WEB}")
    kubectl(world, "expose", "deployment", "web", "--port=80", "--target-port=8080")
    kubectl(world, "rollout", "status", "deployment/web", "--timeout=60s")
    return kubectl(world, "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].status.podIP}")


def test_a_pods_address_is_the_vpcs_and_reached_from_the_host(world: World, web: str) -> None:
    assert ipaddress.ip_address(web) in world.node_pods
    with urllib.request.urlopen(f"http://{web}:8080/", timeout=5) as answer:
        assert web in answer.read().decode()


def test_logs_and_exec_go_through_a_verified_kubelet(world: World, web: str) -> None:
    assert "serving on" in kubectl(world, "logs", "deploy/web")
    kubectl(world, "run", "tools", "--image=demo.kip.local/toolbox:1", "--", "sleep", "600")
    kubectl(world, "wait", "--for=condition=Ready", "pod/tools", "--timeout=30s")
    assert kubectl(world, "exec", "tools", "--", "echo", "hello").strip() == "hello"


def test_names_and_services_work_from_its_pods(world: World, web: str) -> None:
    def fetch() -> str:
        target = "http://web.default.svc.cluster.local/"
        with urllib.request.urlopen(f"http://{web}:8080/fetch?url={target}", timeout=10) as answer:
            return answer.read().decode()

    assert web in eventually(fetch, lambda seen: web in seen)


def test_up_again_boots_no_second_machine(world: World) -> None:
    before = sorted(world.cells.iterdir())
    ordinary.up(world, ConsoleProgress())
    assert sorted(world.cells.iterdir()) == before


def test_down_leaves_neither_node_nor_machine(world: World) -> None:
    ordinary.down(world, ConsoleProgress())
    eventually(lambda: str([*world.cells.iterdir()]), lambda seen: seen == "[]")
    assert json.loads(kubectl(world, "get", "nodes", "-o", "json"))["items"] == []
