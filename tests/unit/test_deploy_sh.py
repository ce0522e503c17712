"""deploy/deploy.sh: what it makes of its variables, and what it says when one is missing.

kubectl and aws are stand-ins; tests/integration/deploy applies what the real kubectl prints.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kip import config
from kip.config import Settings

VARIABLES = {
    "CLUSTER_NAME": "shop",
    "USE_REGION": "us-west-2",
    "KIP_SERVICE_ACCOUNT_ROLE_ARN": "arn:aws:iam::012345678910:role/kip",
    "IMAGE_REGISTRY": "registry.example.com/team",
}
# `kubectl kustomize DIR` prints the installation; of that, provider.yaml is what these tests look at.
KUBECTL = 'cat "$2/provider.yaml"'
ASKED = "eks describe-cluster --name shop --region us-west-2"

Deploy = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def programs(tmp_path: Path) -> Callable[..., None]:
    """Puts a program of this name and content where deploy.sh finds it."""
    (tmp_path / "bin").mkdir()

    def put(name: str, script: str) -> None:
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    put("kubectl", KUBECTL)
    for name in ("bash", "cat", "cp", "dirname", "env", "envsubst", "mkdir", "mktemp", "rm", "sed"):
        found = next(Path(place, name) for place in os.defpath.split(":") if Path(place, name).exists())
        (tmp_path / "bin" / name).symlink_to(found)
    return put


@pytest.fixture
def deploy(project: Path, tmp_path: Path, programs: Callable[..., None]) -> Deploy:
    """Runs it with these arguments and variables, and no programs but the stand-ins and what a shell needs."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [project / "deploy" / "deploy.sh", *arguments],
            env={"PATH": str(tmp_path / "bin"), "TMPDIR": str(tmp_path), **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    return run


@pytest.fixture
def provider(deploy: Deploy, tmp_path: Path) -> Callable[..., tuple[Settings, str]]:
    """The configuration that comes of these variables, and what was said about it."""

    def made(**variables: str) -> tuple[Settings, str]:
        done = deploy("--dry-run", **VARIABLES, **variables)
        assert done.returncode == 0, done.stderr
        file = tmp_path / "provider.yaml"
        file.write_text(done.stdout)
        settings, warnings = config.load(file, {})
        assert not warnings
        assert not [line for line in done.stdout.splitlines() if line != line.rstrip() or not line]
        return settings, done.stderr

    return made


def test_what_is_required_is_enough(provider) -> None:
    settings, _ = provider(CLUSTER_SECURITY_GROUP="sg-0123abcd")
    assert settings.cluster.name == "shop"
    assert settings.cloud.aws.region == "us-west-2"
    assert settings.cloud.aws.subnet_ids == ()
    assert settings.cloud.aws.vpc_id is None
    assert settings.cells.default_iam_permissions is None


@pytest.mark.parametrize("given", ["subnet-1,subnet-2", "subnet-1 subnet-2", "subnet-1, subnet-2"])
def test_where_cells_go(provider, given: str) -> None:
    settings, said = provider(CLUSTER_SECURITY_GROUP="sg-0123abcd", SUBNET_IDS=given, VPC_ID="vpc-1")
    assert settings.cloud.aws.subnet_ids == ("subnet-1", "subnet-2")
    assert settings.cloud.aws.vpc_id == "vpc-1"
    assert not said


def test_cells_join_the_clusters_security_group(provider, programs) -> None:
    programs("aws", "echo it was asked needlessly >&2; exit 1")
    settings, said = provider(CLUSTER_SECURITY_GROUP="sg-0123abcd")
    assert settings.cells.extra_security_groups == ("sg-0123abcd",)
    assert not said


def test_the_clusters_security_group_is_found(provider, programs) -> None:
    programs("aws", f'case "$*" in "{ASKED}"*clusterSecurityGroupId*) echo sg-4567cdef;; *) exit 1;; esac')
    settings, said = provider()
    assert settings.cells.extra_security_groups == ("sg-4567cdef",)
    assert not said


@pytest.mark.parametrize(
    ("aws", "why"),
    [
        (None, "there is no aws command to ask"),
        ("echo; echo 'AccessDenied: eks:DescribeCluster' >&2; exit 254", "AccessDenied: eks:DescribeCluster"),
        ("echo None", "None"),
    ],
)
def test_that_it_is_not_found_is_said_in_one_line_and_nothing_fails(
    provider, programs, aws: str | None, why: str
) -> None:
    if aws is not None:
        programs("aws", aws)
    settings, said = provider()
    assert settings.cells.extra_security_groups == ()
    [line] = said.splitlines()
    assert line == (
        f"deploy.sh: CLUSTER_SECURITY_GROUP is not set and not found ({why}): "
        "cells will reach neither the cluster's DNS nor its pods"
    )


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("CLUSTER_SECURITY_GROUP", "default", "sg-0123abcd"),
        ("SUBNET_IDS", "subnet-1,vpc-1", "subnet-0123abcd,subnet-4567cdef"),
        ("SUBNET_IDS", "subnet-1,", "subnet-0123abcd,subnet-4567cdef"),
        ("VPC_ID", "subnet-1", "vpc-0123abcd"),
        (
            "CELL_INSTANCE_PROFILE_ARN",
            "arn:aws:iam::11123456789:instance-profile/kip-cell",
            "arn:aws:iam::012345678910:instance-profile/kip-cell (an account has 12 digits)",
        ),
    ],
)
def test_a_wrong_value_is_refused(deploy: Deploy, name: str, value: str, expected: str) -> None:
    refused = deploy("--dry-run", **VARIABLES, **{name: value})
    assert refused.returncode == 1
    assert refused.stderr == f"deploy.sh: {name}={value}: expected something like {expected}\n"
    assert not refused.stdout


def test_all_that_is_wrong_is_said_at_once(deploy: Deploy, tmp_path: Path) -> None:
    for program in ("kubectl", "envsubst"):
        (tmp_path / "bin" / program).unlink()
    refused = deploy("--dry-run", USE_REGION="west", NAMESPACE="Kip", VPC_ID="default")
    assert refused.returncode == 1
    said = refused.stderr.splitlines()
    wrong = (
        "CLUSTER_NAME",
        "USE_REGION",
        "KIP_SERVICE_ACCOUNT_ROLE_ARN",
        "NAMESPACE",
        "VPC_ID",
        "kubectl",
        "envsubst",
    )
    assert [line.split()[1].partition("=")[0] for line in said] == [*wrong]


def test_that_the_default_registry_does_not_have_it_is_said(deploy: Deploy) -> None:
    without = {name: value for name, value in VARIABLES.items() if name != "IMAGE_REGISTRY"}
    done = deploy("--dry-run", **without, CLUSTER_SECURITY_GROUP="sg-1")
    assert done.returncode == 0
    assert re.fullmatch(
        r"deploy.sh: IMAGE_REGISTRY is not set: \S+/kip:1.0-latest is .* not published there\n", done.stderr
    )


@pytest.mark.parametrize("action", [(), ("--uninstall",), ("--uninstall", "--drain")])
def test_without_a_cluster_nothing_is_tried_but_told(
    deploy: Deploy, programs, tmp_path: Path, action
) -> None:
    programs("kubectl", f'echo "$*" >>{tmp_path}/called; echo connection refused >&2; exit 1')
    done = deploy(*action, **VARIABLES)
    assert done.returncode == 1
    assert done.stderr == (
        "deploy.sh: kubectl reaches no cluster (connection refused); for one on EKS: "
        "aws eks update-kubeconfig --name shop --region us-west-2\n"
    )
    assert (tmp_path / "called").read_text() == "get --raw /version --request-timeout=15s\n"


def test_where_kip_is_not_nothing_is_uninstalled(deploy: Deploy, programs, tmp_path: Path) -> None:
    programs("kubectl", f'echo "$1" >>{tmp_path}/called')
    done = deploy("--uninstall", **VARIABLES)
    assert done.returncode == 1
    assert done.stderr.startswith("deploy.sh: there is no namespace kip: Kip is not installed there")
    assert set((tmp_path / "called").read_text().split()) == {"get", "kustomize"}


def test_no_array_that_may_be_empty_breaks_the_bash_of_macos(project: Path) -> None:
    """Until bash 4.4 `set -u` took an empty array for a variable that is not set."""
    script = (project / "deploy" / "deploy.sh").read_text()
    bare = re.findall(r'(?<!\+)"\$\{(\w+)\[@\]\}"', script)
    assert bare == ["problems"], "which is looped over only when there are some"


def test_it_is_also_where_the_guide_has_always_called_it(project: Path) -> None:
    assert (project / "kustomize" / "deploy.sh").samefile(project / "deploy" / "deploy.sh")


def test_how_pods_are_treated_is_a_question_of_uninstalling(deploy: Deploy) -> None:
    refused = deploy("--drain", **VARIABLES)
    assert refused.returncode == 1
    assert refused.stderr == "deploy.sh: --drain and --kill are for --uninstall\n"


def test_help_names_every_variable_and_needs_none(deploy: Deploy, project: Path) -> None:
    helped = deploy("--help")
    assert helped.returncode == 0, helped.stderr
    assert helped.stdout.startswith("Usage: deploy/deploy.sh [--dry-run]\n")
    script = (project / "deploy" / "deploy.sh").read_text()
    taken = set(re.findall(r"^expect(?:_if_set)? ([A-Z_]+)", script, re.MULTILINE))
    assert {"CLUSTER_NAME", "SUBNET_IDS", "CLUSTER_SECURITY_GROUP"} <= taken
    named = re.findall(r"^  ([A-Z][A-Z_, ]+?)  ", helped.stdout, re.MULTILINE)
    assert taken <= set(", ".join(named).split(", "))
    assert "set -euo" not in helped.stdout


def test_an_argument_that_there_is_not_installs_nothing(deploy: Deploy) -> None:
    refused = deploy("--prnt", **VARIABLES)
    assert refused.returncode == 1
    assert (
        refused.stderr
        == "deploy.sh: unknown argument --prnt; expected --dry-run, --uninstall, --help or none\n"
    )
