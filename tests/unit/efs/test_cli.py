"""`kip efs`: what it says, asks and returns."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.doubles.samples import launched

from kip import cli
from kip.cloud.errors import NotAuthorized
from kip.cloud.fake_efs import FakeEfs
from kip.efs import cli as efs_cli
from kip.efs.look import Places
from kip.model import names
from kip.model.clock import SystemClock

PROVIDER = """
apiVersion: v1
cloud: {aws: {region: us-west-2, vpcID: vpc-fake}}
cluster: {name: blue}
"""
Run = Callable[..., Result]


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> FakeEfs:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "VPC_ID", "CLUSTER_NAME", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    made = FakeEfs()

    @asynccontextmanager
    async def given(*arguments: Any) -> AsyncIterator[Places]:
        yield Places(made, made, made, made, SystemClock())

    monkeypatch.setattr(efs_cli, "_places", given)
    return made


@pytest.fixture
def run(tmp_path: Path, cloud: FakeEfs) -> Run:
    path = tmp_path / "provider.yaml"
    path.write_text(PROVIDER)
    return lambda command, *options: CliRunner().invoke(
        cli.main, ["efs", command, "--config", str(path), *options]
    )


def test_setup_ends_with_what_to_write_where(run: Run) -> None:
    result = run("setup")
    assert result.exit_code == 0, result.output
    endpoint = "fs-00000000000000001.efs.us-west-2.amazonaws.com:/"
    assert f"export NFS_VOLUME_ENDPOINT={endpoint}\n" in result.stdout
    assert f"cells:\n  imageCache:\n    endpoint: {endpoint}\n" in result.stdout
    lines = result.stderr.splitlines()
    assert len([line for line in lines if " made" in line]) == 6
    assert all("s " in line[:8] for line in lines)


def test_a_dry_run_says_what_would_be_made_and_makes_nothing(run: Run, cloud: FakeEfs) -> None:
    result = run("setup", "--dry-run")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("create ") == 6
    assert "NFS_VOLUME_ENDPOINT" not in result.stdout
    assert not cloud.called("CreateFileSystem")
    assert not cloud.called("CreateSecurityGroup")


def test_json_has_it_all(run: Run) -> None:
    told = json.loads(run("setup", "-o", "json").stdout)
    assert told["endpoint"] == "fs-00000000000000001.efs.us-west-2.amazonaws.com:/"
    assert (told["cluster"], told["region"], told["vpc"]) == ("blue", "us-west-2", "vpc-fake")
    assert [step["action"] for step in told["steps"]] == ["create"] * 6
    assert all(step["id"] for step in told["done"])
    assert (told["refused"], told["failed"], told["leftOut"]) == (False, [], [])


def test_the_choices_about_the_file_system_are_passed_on(run: Run, cloud: FakeEfs) -> None:
    group = cloud.add_group("nodes")
    options = ("--throughput", "bursting", "--no-encrypt", "--infrequent-access", "30", "--admit", group)
    result = run("setup", *options)
    assert result.exit_code == 0, result.output
    (system,) = asyncio.run(cloud.file_systems())
    assert (system.throughput, system.encrypted) == ("bursting", False)
    assert asyncio.run(cloud.lifecycle_days(system.id)) == 30
    (mount,) = asyncio.run(cloud.tagged_groups("blue"))
    assert group in mount.admits


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--vpc", "mine"), "no VPC"),
        (("--subnet", "subnet"), "no subnet"),
        (("--admit", "nodes"), "no security group"),
        (("--infrequent-access", "31"), "--infrequent-access"),
        (("--no-encrypt", "--kms-key", "k"), "exclude each other"),
    ],
)
def test_wrong_usage_is_said(run: Run, options: tuple[str, ...], expected: str) -> None:
    result = run("setup", *options)
    assert result.exit_code == 2
    assert expected in result.output


def test_what_cannot_be_is_refused(run: Run, cloud: FakeEfs) -> None:
    cloud.add_group("kip-blue-efs-mt")
    result = run("setup")
    assert result.exit_code == 3
    assert "refused: sg-00000000 in vpc-fake is called kip-blue-efs-mt" in result.stdout
    assert not cloud.called("CreateFileSystem")


def test_what_failed_is_said_and_is_a_failure(run: Run, cloud: FakeEfs) -> None:
    cloud.fail("CreateFileSystem", NotAuthorized("no", action="CreateFileSystem"))
    result = run("setup")
    assert result.exit_code == 1
    assert "not done: file system kip-blue-efs: not allowed to call elasticfilesystem:Create" in result.stdout


def test_an_error_of_aws_at_looking_is_one_line(run: Run, cloud: FakeEfs) -> None:
    cloud.fail("DescribeFileSystems", NotAuthorized("no", action="DescribeFileSystems"))
    result = run("status")
    assert result.exit_code == 1
    assert "Error: not allowed to call elasticfilesystem:DescribeFileSystems" in result.output


def test_status_before_and_after(run: Run) -> None:
    before = run("status")
    assert before.exit_code == 1
    assert "6 to do: kip efs setup" in before.stdout
    run("setup")
    after = run("status")
    assert after.exit_code == 0, after.output
    assert after.stdout.endswith("complete\n")
    assert "endpoint fs-00000000000000001.efs.us-west-2.amazonaws.com:/" in after.stdout
    assert json.loads(run("status", "-o", "json").stdout)["complete"] is True


def test_status_sees_what_went(run: Run, cloud: FakeEfs) -> None:
    run("setup")
    (system,) = asyncio.run(cloud.file_systems())
    first, _ = asyncio.run(cloud.mount_targets(system.id))
    asyncio.run(cloud.delete_mount_target(first.id))
    told = json.loads(run("status", "-o", "json").stdout)
    assert told["missing"] == ["mount target us-east-1a subnet-fake-a: missing"]


def test_teardown_says_what_goes_and_what_stays(run: Run, cloud: FakeEfs) -> None:
    run("setup")
    result = run("teardown", "--dry-run")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("delete ") == 4
    assert "leave   cells' group" in result.stdout
    assert not cloud.called("DeleteFileSystem")
    assert run("teardown", "--yes").exit_code == 0
    again = run("teardown", "--yes")
    assert (again.exit_code, "nothing to remove" in again.stdout) == (0, True)


def test_teardown_asks_and_without_anybody_to_ask_it_is_wrong_usage(run: Run) -> None:
    for options in ((), ("-o", "json")):
        result = run("teardown", *options)
        assert result.exit_code == 2
        assert "--yes or --dry-run" in result.output


def test_teardown_is_refused_while_cells_run(run: Run, cloud: FakeEfs) -> None:
    run("setup")
    asyncio.run(start_cell(cloud))
    result = run("teardown", "--yes")
    assert result.exit_code == 3
    assert "refused: cells may have it mounted" in result.stdout
    assert "--force does it nevertheless" in result.stdout
    forced = run("teardown", "--yes", "--force")
    assert forced.exit_code == 0, forced.output
    assert "warning: cells may have it mounted" in forced.stdout


async def start_cell(cloud: FakeEfs) -> None:
    await launched(cloud, "cell", tags={names.TAG_CLUSTER: "blue"})


def test_without_a_provider_yaml_the_environment_of_the_manual_steps_is_enough(
    cloud: FakeEfs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("CLUSTER_NAME", "blue"), ("AWS_REGION", "eu-west-1"), ("VPC_ID", "vpc-fake")):
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(cli.main, ["efs", "setup"])
    assert result.exit_code == 0, result.output
    assert ".efs.eu-west-1.amazonaws.com:/" in result.stdout


def test_what_a_provider_yaml_leaves_out_is_not_taken_from_the_shell(
    cloud: FakeEfs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "provider.yaml"
    path.write_text("apiVersion: v1\ncloud: {aws: {region: us-west-2}}\ncluster: {name: blue}\n")
    monkeypatch.setenv("VPC_ID", "vpc-fake")
    result = CliRunner().invoke(cli.main, ["efs", "setup", "--config", str(path)])
    assert result.exit_code == 2
    assert "give --vpc or --subnet" in result.output


def test_what_is_not_known_is_said_with_what_would_tell_it(cloud: FakeEfs) -> None:
    nowhere = CliRunner().invoke(cli.main, ["efs", "status"])
    assert nowhere.exit_code == 2
    assert "give --region" in nowhere.output
    where = ["--region", "us-west-2", "--cluster", "blue"]
    assert (
        "nothing is set up for cluster blue in us-west-2"
        in CliRunner().invoke(cli.main, ["efs", "status", *where]).stdout
    )


def test_status_finds_the_vpc_by_what_was_made(cloud: FakeEfs) -> None:
    where = ["--region", "us-west-2", "--cluster", "blue"]
    made = CliRunner().invoke(cli.main, ["efs", "setup", *where, "--vpc", "vpc-fake"])
    assert made.exit_code == 0, made.output
    status = CliRunner().invoke(cli.main, ["efs", "status", *where])
    assert "volume of cluster blue in vpc-fake" in status.stdout


def test_china_has_names_of_its_own(cloud: FakeEfs, run: Run) -> None:
    result = run("setup", "--region", "cn-north-1")
    assert ".efs.cn-north-1.amazonaws.com.cn:/" in result.stdout
