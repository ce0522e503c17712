"""The command line: what people see, above all when something is wrong."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from click.testing import CliRunner

from kip import cli
from kip.app import process
from kip.app.cluster import CannotStart
from kip.cloud.errors import NotAuthorized
from kip.kube.errors import Forbidden

MINIMAL = """
apiVersion: v1
cloud:
  aws:
    region: us-east-1
    subnetID: subnet-1
"""


@pytest.fixture
def invoke():
    return lambda *arguments: CliRunner().invoke(cli.main, [str(a) for a in arguments])


@pytest.fixture
def provider(tmp_path):
    path = tmp_path / "provider.yaml"
    path.write_text(MINIMAL)
    return path


def test_help_names_every_command_without_loading_the_local_world(invoke):
    result = invoke("--help")
    assert result.exit_code == 0
    for command in ("run", "choose", "cleanup", "config", "doctor", "iam", "local", "logs", "top"):
        assert f"  {command}" in result.output
    loaded = "import sys; from kip import cli; print([m for m in ('moto', 'kopf', 'aioboto3') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("group", ["local", "efs", "iam", "image-cache", "config"])
def test_no_line_of_a_list_of_commands_is_cut_off(invoke, group):
    result = invoke(group, "--help")
    assert result.exit_code == 0
    assert not [line for line in result.output.splitlines()[1:] if line.endswith("...")]


def test_it_tells_its_version(invoke):
    result = invoke("--version")
    assert result.exit_code == 0
    assert result.output.startswith("kip, version ")


def test_a_right_file_is_called_right(invoke, provider):
    result = invoke("config", "check", provider)
    assert result.exit_code == 0, result.output


def test_a_default_type_that_nobody_knows_is_warned_of(invoke, provider):
    provider.write_text(MINIMAL + "cells: {defaultInstanceType: t9.huge}\n")
    result = invoke("config", "check", provider)
    assert result.exit_code == 0
    assert (
        "warning: cells.defaultInstanceType: t9.huge is no type that this version knows in us-east-1"
        in result.output
    )


def test_what_is_not_set_is_shown_as_none(invoke, provider):
    lines = invoke("config", "check", provider).output.splitlines()
    assert "warning" not in lines[0]
    assert [line.split()[1] for line in lines if ".controller.maxSize:" in line] == ["(none)"]


def test_a_wrong_key_is_named_with_its_path_and_refused(invoke, provider):
    provider.write_text(MINIMAL + "cells:\n  bootDelay: 3\n")
    for command in (("config", "check", provider), ("run", "--config", provider)):
        result = invoke(*command)
        assert result.exit_code == 1
        assert "cells.bootDelay" in result.output
        assert "Traceback" not in result.output


def test_wrong_instance_data_is_named_with_its_path_and_refused(invoke, provider, tmp_path):
    provider.write_text(MINIMAL + "cells:\n  instanceData: own.yaml\n")
    (tmp_path / "own.yaml").write_text("us-east-1:\n  - {instanceType: m7i.large, price: cheap}\n")
    for command in (("config", "check", provider), ("run", "--config", provider)):
        result = invoke(*command)
        assert result.exit_code == 1
        assert "own.yaml: 1 problem" in result.output
        assert (
            "line 2: us-east-1[0].price: expected US dollars an hour as a number, not 'cheap'"
            in result.output
        )
        assert "Traceback" not in result.output


def test_a_file_that_is_not_there_is_said_to_be_so(invoke, tmp_path):
    for command in (("config", "check", tmp_path / "none.yaml"), ("run", "--config", tmp_path / "none.yaml")):
        result = invoke(*command)
        assert result.exit_code != 0
        assert "none.yaml" in result.output
        assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (CannotStart("the cluster's DNS is not there"), "the cluster's DNS is not there"),
        (process.CannotLetGo("serving goes on"), "serving goes on"),
        (Forbidden(403, "Forbidden", "leases is forbidden"), "leases is forbidden"),
        (NotAuthorized("no AWS credentials"), "no AWS credentials"),
        (OSError(98, "Address already in use"), "Address already in use"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_keeps_it_from_running_is_one_line(invoke, provider, monkeypatch, error, said):
    async def run(settings, *, kubeconfig):
        raise error

    monkeypatch.setattr(process, "run", run)
    result = invoke("run", "--config", provider)
    assert result.exit_code == 1
    assert f"Error: {said}" in result.output or said in result.output
    assert "Traceback" not in result.output


def test_without_a_cluster_it_says_how_to_name_one(invoke, provider, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    result = invoke("run", "--config", provider)
    assert result.exit_code == 1
    assert "no cluster to work for" in result.output
    assert "--kubeconfig" in result.output


def test_a_run_that_ends_well_is_no_error(invoke, provider, monkeypatch):
    asked = []

    async def run(settings, *, kubeconfig):
        await asyncio.sleep(0)
        asked.append((settings.cloud.aws.region, kubeconfig))

    monkeypatch.setattr(process, "run", run)
    result = invoke("run", "--config", provider)
    assert result.exit_code == 0, result.output
    assert asked == [("us-east-1", None)]
