"""`kip cleanup`: what it says, asks and returns."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kip import cli
from kip.cells.repository import CELLS_PATH
from kip.cleanup import cli as cleanup_cli
from kip.cleanup.look import Places
from kip.cloud.errors import NotAuthorized
from kip.cloud.fake import FakeCloud
from kip.kube.fake import FakeApi
from kip.model import names
from kip.model.clock import SystemClock

PROVIDER = """
apiVersion: v1
cloud: {aws: {region: us-east-1, vpcID: vpc-1}}
cluster: {name: blue}
"""


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> Places:
    cloud = FakeCloud()
    made = Places(FakeApi(), cloud, cloud, cloud, SystemClock())

    @asynccontextmanager
    async def given(*arguments: Any) -> AsyncIterator[Places]:
        yield made

    monkeypatch.setattr(cleanup_cli, "_places", given)
    return made


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    path = tmp_path / "provider.yaml"
    path.write_text(PROVIDER)
    return lambda *options: CliRunner().invoke(cli.main, ["cleanup", "--config", str(path), *options])


async def make_cell(places: Places) -> None:
    spec = {"nodeName": "kip-provider-0", "podName": "web", "podNamespace": "shop", "podUID": "u"}
    metadata = {"name": "kip-u", "finalizers": [names.CELL_FINALIZER]}
    await places.api.create(CELLS_PATH, {"metadata": metadata, "spec": spec})


async def bind_pod(places: Places) -> None:
    body = {
        "metadata": {"name": "web"},
        "spec": {"nodeName": "kip-provider-0"},
        "status": {"phase": "Running"},
    }
    await places.api.create("/api/v1/namespaces/shop/pods", body)


def test_nothing_left_is_said_and_is_success(places: Places, run: Callable[..., Result]) -> None:
    result = run("--yes")
    assert result.exit_code == 0, result.output
    assert "nothing is left" in result.stdout


def test_nobody_to_ask_is_wrong_usage(places: Places, run: Callable[..., Result]) -> None:
    for options in ((), ("-o", "json")):
        result = run(*options)
        assert result.exit_code == 2
        assert "--yes or --dry-run" in result.output


def test_a_dry_run_says_what_would_go_and_removes_nothing(places: Places, run: Callable[..., Result]) -> None:
    asyncio.run(make_cell(places))
    result = run("--dry-run")
    assert result.exit_code == 0
    assert "1 cell:" in result.stdout
    assert "kip-u  of pod shop/web" in result.stdout
    assert len(places.api.all("cells")) == 1


def test_with_yes_it_goes(places: Places, run: Callable[..., Result]) -> None:
    asyncio.run(make_cell(places))
    result = run("--yes")
    assert result.exit_code == 0, result.output
    assert "removed cell kip-u" in result.stderr
    assert places.api.all("cells") == []


def test_pods_in_the_way_are_named_and_refused_unless_forced(
    places: Places, run: Callable[..., Result]
) -> None:
    asyncio.run(make_cell(places))
    asyncio.run(bind_pod(places))
    for options in (("--yes",), ("--dry-run",)):
        result = run(*options)
        assert result.exit_code == 3
        assert "refused: pods are bound to the virtual nodes" in result.stdout
        assert "shop/web" in result.stdout
    assert len(places.api.all("cells")) == 1
    result = run("--yes", "--force")
    assert result.exit_code == 0
    assert "warning: pods are bound" in result.stdout
    assert places.api.all("cells") == []


def test_json_tells_all_of_it(places: Places, run: Callable[..., Result]) -> None:
    asyncio.run(make_cell(places))
    result = run("--yes", "-o", "json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["cluster"] == "blue"
    assert told["refused"] is False
    (found,) = told["found"]
    assert found == {"kind": "cell", "name": "kip-u", "what": "of pod shop/web", "within": ""}
    assert told["removed"] == [found]
    assert told["failed"] == []


def test_what_is_left_is_said_and_is_a_failure(places: Places, run: Callable[..., Result]) -> None:
    asyncio.run(make_cell(places))
    places.api.fail("DELETE", "/cells", status=403)
    result = run("--yes")
    assert result.exit_code == 1
    assert "not removed:\n  cell kip-u" in result.stdout


def test_an_error_of_aws_is_one_line(places: Places, run: Callable[..., Result]) -> None:
    places.compute.fail("DescribeInstances", NotAuthorized("no", action="DescribeInstances"))
    result = run("--yes")
    assert result.exit_code == 1
    assert "Error: not allowed to call ec2:DescribeInstances" in result.output


def test_a_wrong_provider_yaml_is_said(tmp_path: Path) -> None:
    path = tmp_path / "provider.yaml"
    path.write_text("apiVersion: v1\nnonsense: 1\n")
    result = CliRunner().invoke(cli.main, ["cleanup", "--config", str(path), "--yes"])
    assert result.exit_code == 1
    assert "nonsense" in result.output


async def deploy(places: Places) -> None:
    """Without replicas in its status, as one whose processes end at once."""
    body = {"metadata": {"name": "kip-provider"}, "spec": {"replicas": 2}}
    await places.api.create("/apis/apps/v1/namespaces/kip/deployments", body)


def replicas(places: Places) -> int:
    (deployment,) = places.api.all("deployments")
    return int(deployment["spec"]["replicas"])


def test_pods_in_the_way_keep_kip_running(places: Places, run: Callable[..., Result]) -> None:
    asyncio.run(deploy(places))
    asyncio.run(bind_pod(places))
    result = run("--yes", "--stop", "kip-provider")
    assert result.exit_code == 3
    assert "shop/web; delete them first\n--drain has the pods evicted, --force" in result.stdout
    assert replicas(places) == 2


def test_how_to_go_on_is_said_in_the_words_of_whoever_uninstalls(
    places: Places, run: Callable[..., Result]
) -> None:
    asyncio.run(bind_pod(places))
    result = run("--yes", "--when-refused", "helm rollback kip 3")
    assert result.exit_code == 3
    assert "helm rollback kip 3" in result.stdout
    assert "--force" not in result.stdout


@pytest.mark.parametrize("pods", [False, True])
def test_kip_is_stopped_before_anything_is_removed(
    places: Places, run: Callable[..., Result], pods: bool
) -> None:
    asyncio.run(deploy(places))
    asyncio.run(make_cell(places))
    if pods:
        asyncio.run(bind_pod(places))
    result = run("--yes", "--stop", "kip-provider", *(["--force"] if pods else []))
    assert result.exit_code == 0, result.output
    assert replicas(places) == 0
    said = result.stderr.splitlines()
    assert said.index("stopping Deployment kip/kip-provider") < said.index("removed cell kip-u")


def test_what_acts_at_once_asks_nobody_and_so_wants_to_be_told(
    places: Places, run: Callable[..., Result]
) -> None:
    for options in (("--drain",), ("--stop", "kip-provider")):
        assert run(*options).exit_code == 2
    asyncio.run(deploy(places))
    assert run("--dry-run", "--drain", "--stop", "kip-provider").exit_code == 0
    assert replicas(places) == 2
