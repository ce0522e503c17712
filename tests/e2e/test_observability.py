"""A real Prometheus scrapes the operator while pods come, go and fail: every query of the dashboards has data then."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from support import manifests
from support.manifests import NODE
from support.prometheus import Prometheus, scraping
from support.terminal import terminal
from support.world import E2eWorld

from kip.local.addresses import free_ports
from kip.local.aws.metering import PRODUCT
from kip.local.processes import Command, Processes

pytestmark = pytest.mark.e2e

DEPLOY = Path(__file__).parents[2] / "deploy" / "observability"
TYPES = "pod.elotl.co/instance-type"
# Grafana's variables: what it would put in for a page that shows the last five minutes.
VARIABLES = {"$__rate_interval": "2m", "$__range": "5m", "$job": ".+"}
ASKED = 'kip_kubelet_requests_total{path="containerLogs"}'


@pytest.fixture(scope="module")
def prometheus(
    world: E2eWorld, shared_namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """It has seen pods start twice, a refusal of EC2, a machine that went, logs, and what the API server asks."""
    host, port = world.world.address("operator")
    folder = tmp_path_factory.mktemp("prometheus")
    with (
        sold_on_marketplace(world),
        image_cache(world, folder) as cache,
        scraping([f"{host}:{port}", cache], DEPLOY / "alerts.yaml", folder) as server,
    ):
        world.run(manifests.pod("first", shared_namespace))
        _a_machine_goes(world, shared_namespace)
        world.aws.fail("RunInstances", error="InsufficientInstanceCapacity")
        world.run(manifests.pod("second", shared_namespace, annotations={TYPES: "m7i*"}))
        for _ in range(2):  # a counter's growth is seen between two of its samples
            asked = number(server, f"sum({ASKED})")
            world.kubectl("logs", "-n", shared_namespace, "second")
            more = f"sum({ASKED}) > {asked}"
            world.eventually(
                lambda more=more: server.query(more), 30, "a request is scraped", shared_namespace
            )
        started = 'sum(increase(kip_pod_start_seconds_count{stage="running"}[2m]))'
        world.eventually(lambda: number(server, started) > 0, 30, "a start is scraped", shared_namespace)
        fetched = "increase(kip_image_cache_fetch_seconds_count[2m])"
        world.eventually(lambda: number(server, fetched) > 0, 60, "an image is cached", shared_namespace)
        yield server


@contextmanager
def image_cache(world: E2eWorld, folder: Path) -> Iterator[str]:
    """The controller of an image cache on a directory; gives where its metrics are."""
    port = free_ports({"cache": 18090}, set())["cache"]
    config = yaml.safe_load(world.operator.configured)
    config["health"] = {"listenAddress": "127.0.0.1", "port": port}
    config["registries"] = {"mirrors": {"*": [world.world.url("registry")]}}
    config["cells"]["imageCache"] = {"controller": {"minFreeSpace": "0"}}
    file = folder / "image-cache.yaml"
    file.write_text(yaml.safe_dump(config))
    (folder / "volume").mkdir()
    command = (sys.executable, "-m", "kip", "image-cache", "run", "--config", str(file), "--volume")
    processes = Processes(world.world)
    environment = {"KUBECONFIG": str(world.world.kubeconfig)}
    processes.start(Command("image-cache", (*command, str(folder / "volume")), environment))
    try:
        yield f"127.0.0.1:{port}"
    finally:
        processes.stop("image-cache")


@contextmanager
def sold_on_marketplace(world: E2eWorld) -> Iterator[None]:
    """The operator as one that was bought there."""
    before = world.operator.configured
    config = yaml.safe_load(before)
    config["cloud"]["aws"]["marketplace"] = {"productCode": PRODUCT, "endpointURL": world.world.url("aws")}
    world.aws.forget_calls()
    try:
        world.operator.remove()
        world.operator.configure(config)
        world.operator.start()
        yield
    finally:
        world.operator.remove()
        world.operator.configured = before
        world.operator.start()


def number(server: Prometheus, expr: str) -> float:
    """The only sample's value; 0 when there is none."""
    return sum(float(sample["value"][1]) for sample in server.query(expr))


def _a_machine_goes(world: E2eWorld, namespace: str) -> None:
    """Before its pod runs on it: the pod gets another one."""
    world.aws.settings(boot_delay_s=4)
    try:
        world.apply(manifests.pod("unlucky", namespace))
        instance = world.eventually(
            lambda: world.instance_of("unlucky", namespace), 30, "it has an instance", namespace
        )
        world.aws.report(instance, "terminated", "Server.InternalError: it was struck by lightning")
        world.ready("unlucky", namespace)
    finally:
        world.aws.settings(boot_delay_s=0)


def queries() -> list[tuple[str, str]]:
    """(dashboard and panel, query) of every dashboard."""
    found = []
    for file in sorted((DEPLOY / "dashboards").glob("*.json")):
        board = json.loads(file.read_text())
        for panel in board["panels"]:
            for target in panel["targets"]:
                expr = target["expr"]
                for name, value in VARIABLES.items():
                    expr = expr.replace(name, value)
                found.append((f"{board['uid']}: {panel['title']}", expr))
    return found


def test_every_query_of_the_dashboards_has_data(prometheus: Prometheus) -> None:
    without = []
    for where, expr in queries():
        values = [float(sample["value"][1]) for sample in prometheus.query(expr)]
        if not any(math.isfinite(value) for value in values):
            without.append(f"{where}: {expr} → {values}")
    assert not without, "\n".join(without)


def test_every_alert_is_evaluated_on_data_and_none_cries_wolf(prometheus: Prometheus) -> None:
    alerts = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"][0]["rules"]
    rules = {rule["name"]: rule for rule in prometheus.rules()}
    assert set(rules) == {alert["alert"] for alert in alerts}
    for alert in alerts:
        rule = rules[alert["alert"]]
        assert rule["health"] == "ok", (alert["alert"], rule.get("lastError"))
        assert rule["state"] != "firing", alert["alert"]
        for selector in re.findall(r"\bkip_\w+", alert["expr"]):
            assert prometheus.query(selector), f"{alert['alert']}: nothing is scraped of {selector}"


def test_what_happened_can_be_told_from_the_numbers(prometheus: Prometheus, world: E2eWorld) -> None:
    def one(expr: str) -> float:
        [sample] = prometheus.query(expr)
        return float(sample["value"][1])

    assert one(f'sum(kip_leader{{node="{NODE}"}})') == 1
    assert one('sum(increase(kip_cell_launches_total{reason="InsufficientCapacity"}[5m]))') > 0
    assert one('sum(increase(kip_cells_given_up_total{reason="InstanceGone"}[5m]))') > 0
    assert one('sum(kip_aws_calls_total{action="RunInstances", code="InsufficientInstanceCapacity"})') >= 1
    running = len([cell for cell in world.list("cells") if cell["status"]["phase"] == "Running"])
    assert one('sum(kip_cells{phase="Running"})') == running >= 3
    assert one('sum(kip_tunnels{state="open"})') == running
    assert one("sum(kip_cells_price_usd_per_hour)") > 0


def kip(world: E2eWorld, *arguments: str) -> str:
    """What the command prints, run as a user of the cluster."""
    done = subprocess.run(
        [sys.executable, "-m", "kip", *arguments],
        env=world.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_kip_top_shows_what_the_cells_are_and_cost(
    prometheus: Prometheus, world: E2eWorld, shared_namespace: str
) -> None:
    told = json.loads(kip(world, "top", "-n", shared_namespace, "-o", "json"))
    assert {cell["pod"] for cell in told["cells"]} == {"first", "second", "unlucky"}
    for cell in told["cells"]:
        assert cell["phase"] == "Running"
        assert cell["instanceID"] == world.instance_of(cell["pod"], shared_namespace)
        assert 0 < cell["usdSoFar"] < cell["usdPerHour"]
    assert told["totals"]["usdPerHour"] == pytest.approx(sum(cell["usdPerHour"] for cell in told["cells"]))


def test_kip_top_is_kept_current_on_a_terminal(
    prometheus: Prometheus, world: E2eWorld, shared_namespace: str
) -> None:
    # Whose terminal it is: only to those does Ctrl-C go.
    command = ["setsid", "--ctty", "--wait", sys.executable, "-m", "kip", "top", "-n", shared_namespace]
    environment = {**world.environment, "TERM": "xterm-256color"}
    with terminal(command, environment, rows=24, columns=160) as screen:
        screen.until("3 cells (3 Running)")
        world.apply(manifests.pod("late", shared_namespace))
        screen.until("4 cells")
        screen.until("late")
        screen.type("\x03")
        assert screen.ended() == 0
    world.kubectl("delete", "pod", "-n", shared_namespace, "late", "--wait=false")


@pytest.mark.parametrize(
    ("unit", "says"), [("kubelet", "kubelet["), ("containerd", "containerd["), ("cloud-init", "cloud-init")]
)
def test_the_logs_of_a_cells_own_programs(
    prometheus: Prometheus, world: E2eWorld, shared_namespace: str, unit: str, says: str
) -> None:
    told = kip(world, "logs", f"{shared_namespace}/first", "--system", "--unit", unit, "--tail", "50")
    assert says in told
    assert 0 < len(told.splitlines()) <= 101


def test_they_are_followed_until_the_cell_is_gone(
    prometheus: Prometheus, world: E2eWorld, shared_namespace: str
) -> None:
    world.run(manifests.pod("brief", shared_namespace))
    command = ["setsid", "--ctty", "--wait", sys.executable, "-m", "kip", "logs", f"{shared_namespace}/brief"]
    with terminal(
        [*command, "--system", "-f", "--tail", "1"], world.environment, rows=24, columns=400
    ) as screen:
        screen.until("cloud-init")
        world.kubectl("delete", "pod", "-n", shared_namespace, "brief", "--wait=false")
        screen.until("there is no cell", timeout=60)
        assert screen.ended() == 0


def test_whoever_may_not_get_nodes_proxy_sees_no_logs_of_cells(
    prometheus: Prometheus, world: E2eWorld, shared_namespace: str
) -> None:
    cell = world.cell_of("first", shared_namespace)
    assert cell
    path = f"/api/v1/nodes/{NODE}/proxy/logs/cells/{cell['metadata']['name']}"
    refused = world.kubectl("get", "--raw", path, "--as", "nobody-special", check=False)
    assert refused.returncode != 0
    assert "nodes/proxy" in refused.stderr


def test_the_process_is_registered_and_its_use_is_written_down(
    prometheus: Prometheus, world: E2eWorld, shared_namespace: str
) -> None:
    world.eventually(lambda: world.aws.calls("RegisterUsage"), 30, "it is registered", shared_namespace)
    lease = world.existing("leases", "kip-metering", "kip")
    ledger = json.loads(lease["metadata"]["annotations"]["kip.elotl.co/metering"])
    assert set(ledger["upTo"]) == {NODE}
    assert ledger["cellSeconds"] >= 0


def test_a_cell_tells_its_story(prometheus: Prometheus, world: E2eWorld, shared_namespace: str) -> None:
    cell = world.cell_of("unlucky", shared_namespace)
    assert cell
    name, status = cell["metadata"]["name"], cell["status"]
    head, row = world.kubectl("get", "cells", name, "-o", "wide").stdout.splitlines()
    assert head.split()[-4:] == ["ZONE", "PRICE", "AGE", "LAUNCH-REASON"]
    assert status["zone"] in row.split()
    assert status["pricePerHour"] in row.split()
    assert row.partition("launched on-demand instance ")[2].startswith(status["instanceID"])
    story = world.kubectl("describe", "cell", name).stdout
    for told in ("KubeletConnected", "types fit", "InstanceGone", "struck by lightning"):
        assert told in story, f"{told} is not in:\n{story}"


def test_the_node_tells_who_serves_it(prometheus: Prometheus, world: E2eWorld) -> None:
    world.eventually(
        lambda: "serves this node with Kip" in world.kubectl("describe", "node", NODE).stdout,
        30,
        "the event NodeServed",
    )
