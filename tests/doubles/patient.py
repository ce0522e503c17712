"""An installation where everything is as it should be, to be broken by tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from kip.app.location import Location
from kip.cloud.base import Image, Instance, Subnet
from kip.cloud.metadata import Whereabouts
from kip.cloud.routes import Route, RouteTable
from kip.cloud.securitygroup import creation, permissions, wanted_rules
from kip.config import Settings
from kip.doctor.access import Access, needed
from kip.doctor.checks.cluster import shipped_schema
from kip.doctor.checks.permissions import DOING, KNOWING, LOOKING, PULLING
from kip.doctor.facts import CellType, ClusterVersion, Connection, Facts, Identity, Profile, Tried
from kip.doctor.table import judge

ACCOUNT, REGION, VPC, CIDR = "012345678910", "us-west-2", "vpc-1", "10.0.0.0/16"
GPU_NODES = {"kubelet": {"capacity": {"nvidia.com/gpu": "4"}}}
PROVIDER = {
    "cloud": {"aws": {"region": REGION, "subnetID": ["subnet-1", "subnet-2"]}},
    "cluster": {"name": "shop"},
    "kubelet": {"nodeIP": "10.0.3.4"},
    "cells": {"extraSecurityGroups": ["sg-eks"], "defaultIAMPermissions": "kip-cell"},
}


def settings(changes: dict[str, Any] | None = None) -> Settings:
    """The configuration, with other values in some sections."""
    data: dict[str, Any] = {name: dict(section) for name, section in PROVIDER.items()}
    for name, section in (changes or {}).items():
        data[name] = {**data.get(name, {}), **section}
    return Settings.model_validate(data)


def subnet(id_: str, **changes: Any) -> Subnet:
    found = Subnet(
        id=id_, vpc_id=VPC, cidr="10.0.0.0/20", zone=f"{REGION}a", free_addresses=4000, public=False
    )
    return replace(found, **changes)


def table(*routes: Route, **changes: Any) -> RouteTable:
    local = Route(CIDR, to="local")
    found = RouteTable(id="rtb-1", vpc_id=VPC, main=True, subnet_ids=frozenset(), routes=(local, *routes))
    return replace(found, **changes)


def image(minor: str = "1.36", architecture: str = "x86_64", variant: str = "standard") -> Image:
    return Image(
        id="ami-1",
        name=f"amazon-eks-node-al2023-{architecture}-{variant}-{minor}-v20261105",
        root_device_name="/dev/xvda",
        architecture=architecture,
        creation=datetime(2026, 11, 5, tzinfo=UTC),
        root_volume_gib=20,
    )


def group(*more: str) -> dict[str, Any]:
    """Kip's security group, which lets in the VPC and these ranges."""
    rules = wanted_rules([CIDR, *more])
    name = creation("shop", VPC)["GroupName"]
    return {"GroupId": "sg-1", "GroupName": name, "VpcId": VPC, "IpPermissions": permissions(rules, rules)}


CELL = Instance(
    id="i-1",
    state="running",
    instance_type="t3.small",
    zone=f"{REGION}a",
    network_interface_id="eni-1",
    private_ip="10.0.1.1",
    launch_time=datetime(2026, 11, 5, tzinfo=UTC),
)
CALLS = [row.permission for row in (*LOOKING, *DOING, *PULLING, *KNOWING)]


def healthy(config: dict[str, Any] | None = None, **changes: Any) -> Facts:
    """Facts without a fault, but for `changes`; `config` are other values in provider.yaml."""
    given = settings(config)
    facts = Facts(
        settings=given,
        in_cluster=True,
        server="https://api",
        clocks={"the API server": 0.4, "AWS": -1.0},
        version=ClusterVersion("v1.36.3-eks-1a2b3c", "1.36"),
        cluster="shop",
        dns=("172.20.0.10",),
        nodes={"kip-provider-0": "kip://shop/kip-provider-0"},
        access=Access("system:serviceaccount:kip:kip-provider", len(needed(given)), ()),
        cell_type=CellType(shipped_schema()),
        location=Location(REGION, ("subnet-1", "subnet-2"), None),
        here=Whereabouts(REGION, VPC, "subnet-3"),
        own_address="10.0.3.4",
        credentials="assume-role-with-web-identity",
        identity=Identity(ACCOUNT, f"arn:aws:sts::{ACCOUNT}:assumed-role/kip/botocore-session-1"),
        calls={permission: Tried() for permission in CALLS},
        subnets=(subnet("subnet-1"), subnet("subnet-2", zone=f"{REGION}b")),
        vpc_cidrs=(CIDR,),
        tables=(table(Route("0.0.0.0/0", to="nat-1")),),
        cells=(CELL,),
        own_group=group(),
        extra_groups={"sg-eks": VPC},
        images={"amd64 standard": image(), "arm64 standard": image(architecture="arm64")},
        profile=Profile(
            f"arn:aws:iam::{ACCOUNT}:instance-profile/kip-cell", (f"arn:aws:iam::{ACCOUNT}:role/kip-cell",)
        ),
        quotas={"L-1216C47A": 64.0, "L-34B43A08": 64.0},
        running_vcpus={"L-1216C47A": 8},
        ssh=Connection("i-1 (10.0.1.1:22)"),
        image_cache=Connection("fs-1.efs.us-west-2.amazonaws.com:2049"),
    )
    return replace(facts, **changes)


def told(facts: Facts) -> list[tuple[str, str, str, str]]:
    """(check, status, what and why, what mends it) of all that is not as it should be."""
    found = []
    for line in judge(facts):
        if line.finding.status != "ok":
            remedy = line.finding.remedy
            mend = f"{remedy.text}\n{remedy.command}\n{list(remedy.statements)}" if remedy else ""
            found.append(
                (line.check.id, line.finding.status, f"{line.finding.what}: {line.finding.why}", mend)
            )
    return found
