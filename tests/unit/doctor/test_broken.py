"""Deliberately broken set-ups: each gets the line that says what is wrong, and what mends it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from patient import ACCOUNT, CIDR, GPU_NODES, VPC, group, healthy, image, subnet, table, told

from kip.cloud.metadata import Whereabouts
from kip.cloud.routes import Route
from kip.config import Settings
from kip.doctor.access import Access, Permission
from kip.doctor.checks.cluster import shipped_schema
from kip.doctor.facts import (
    CONFIGURED,
    CellType,
    ClusterVersion,
    Connection,
    Facts,
    Identity,
    Profile,
    Tried,
    Unanswered,
)

DENIED = "User: arn:aws:… is not authorized to perform: {} because no identity-based policy allows it"
NO_ANSWER = Unanswered("no answer", "no answer within 10 s")
OPERATOR = "system:serviceaccount:kip:kip-provider"


def denied(*permissions: str, named: str = "", words: str = DENIED) -> dict[str, Any]:
    """The calls, some of which are refused for lack of a permission, maybe another than the call's own."""
    calls = dict(healthy().calls)
    for permission in permissions:
        calls[permission] = Unanswered("denied", words.format(named or permission), named or permission)
    return {"calls": calls}


def lacking(*permissions: Permission) -> dict[str, Any]:
    return {"access": Access(OPERATOR, 90, permissions)}


def old_schema() -> CellType:
    schema = deepcopy(dict(shipped_schema()))
    status = schema["properties"]["status"]["properties"]
    del status["cloudRoutes"]
    status["phase"]["enum"].remove("Draining")
    return CellType(schema)


def without_egress(**changes: Any) -> dict[str, Any]:
    return {"tables": (table(**changes),)}


def unruly_group() -> dict[str, Any]:
    found = group()
    found["IpPermissions"] = [p for p in found["IpPermissions"] if p["IpProtocol"] == "-1"]
    return found


PEER = Whereabouts("us-west-2", "vpc-2", "subnet-9")
ELSEWHERE = {
    "here": PEER,
    "own_address": "10.9.0.4",
    "ssh": None,
    "cells": (),
    "own_group": group("10.9.0.0/16"),
}

# Name: what is broken; then the check, its status, words of the line and words of what mends it.
BROKEN: dict[str, tuple[Facts, str, str, str, str]] = {
    "a key of the first Kip": (
        healthy(config_warnings=("line 3: etcd: ignored",)),
        "configuration", "warning", "etcd: ignored", "kip config check provider.yaml",
    ),
    "user data that does not fit": (
        healthy(user_data_trouble="user data has 20000 bytes"),
        "configuration", "failure", "20000 bytes", "cells.cloudInitFile",
    ),
    "no API server": (
        healthy(version=Unanswered("no answer", "GET https://api/version: connection refused")),
        "api-server", "failure", "connection refused", "kubectl get --raw /version",
    ),
    "an old cluster": (
        healthy(version=ClusterVersion("v1.29.4", "1.29"), images={"amd64 standard": image("1.29")}),
        "api-server", "warning", "v1.29.4, and Kip is made for 1.32 and newer", "bring the cluster to 1.32",
    ),
    "no type Cell": (
        healthy(cell_type=Unanswered("missing", "the server could not find the requested resource (404)")),
        "cell-type", "failure", "kip.elotl.co/v1beta1 is not served", "kubectl apply --server-side --force-conflicts",
    ),
    "the type Cell of an older Kip": (
        healthy(cell_type=old_schema()),
        "cell-type", "failure", "lacks status.phase=Draining, status.cloudRoutes", "crds/cells.yaml",
    ),
    "a permission in the cluster is missing": (
        healthy(**lacking(Permission("kip.elotl.co", "cells/status", "patch"))),
        "rbac", "failure", f"{OPERATOR} may not patch cells/status.kip.elotl.co",
        "add to the ClusterRole kip-provider: {apiGroups: [kip.elotl.co], resources: [cells/status], verbs: [patch]}",
    ),
    "more virtual nodes than RBAC names": (
        healthy(**lacking(*(Permission("", "nodes/status", "patch", "", f"kip-provider-{n}") for n in (4, 5)))),
        "rbac", "failure", "may not patch nodes/status kip-provider-4, kip-provider-5",
        "resourceNames: [kip-provider-4, kip-provider-5]",
    ),
    "no permission in the cluster at all": (
        healthy(**lacking(*(Permission("", f"thing{n}", "get") for n in range(90)))),
        "rbac", "failure", "lacks 90 of 90 permissions", "kubectl apply -f deploy/kustomize/base/rbac.yaml",
    ),
    "a cluster without kube-dns": (
        healthy(dns=Unanswered("refused", "the cluster's DNS is not the Service kube-system/kube-dns")),
        "dns", "failure", "not the Service kube-system/kube-dns", "set cluster.dns",
    ),
    "a node of that name is somebody else's": (
        healthy(nodes={"kip-provider-0": "aws:///us-west-2a/i-0123"}),
        "virtual-nodes", "failure", "provider ID aws:///us-west-2a/i-0123", "kubelet.nodeNamePrefix",
    ),
    "nobody knows where to launch": (
        healthy(location=Unanswered("refused", "where to launch cells is not known; set cloud.aws.region")),
        "place", "failure", "where to launch cells is not known", "cloud.aws.subnetID",
    ),
    "where to launch is left to where Kip runs, and that is not here": (
        healthy(location=Unanswered("refused", "where to launch cells is not known"), in_cluster=False),
        "place", "unknown", "leaves it to where Kip runs", "kip doctor --in-cluster",
    ),
    "a clock that AWS refuses": (
        healthy(clocks={"AWS": -400.0}),
        "clock", "failure", "400 s behind it", "timedatectl set-ntp true",
    ),
    "a clock that goes wrong": (
        healthy(clocks={"the API server": 42.0}),
        "clock", "warning", "clock of the API server: this machine is 42 s ahead of it", "NTP",
    ),
    "no AWS credentials": (
        healthy(credentials=Unanswered("denied", "no AWS credentials", code="NoCredentials")),
        "credentials", "failure", "no AWS credentials",
        "kubectl -n kip annotate serviceaccount kip-provider --overwrite eks.amazonaws.com/role-arn=",
    ),
    "no AWS credentials of whoever looks from elsewhere": (
        healthy(credentials=Unanswered("denied", "no AWS credentials", code="NoCredentials"), in_cluster=False),
        "credentials", "failure", "no AWS credentials", "aws sts get-caller-identity",
    ),
    "credentials that AWS refuses": (
        healthy(identity=Unanswered("denied", "The security token included in the request is invalid")),
        "credentials", "failure", "security token included in the request is invalid", "annotate serviceaccount",
    ),
    "the node's role instead of one of its own": (
        healthy(credentials="iam-role"),
        "credentials", "warning", "every pod on that node has it", f"role-arn=arn:aws:iam::{ACCOUNT}:role/",
    ),
    "may not look at subnets": (
        healthy(**denied("ec2:DescribeSubnets"), subnets=Unanswered("denied", "no", "ec2:DescribeSubnets")),
        "permissions-to-look", "failure", "Kip cannot see what there is", "'Sid': 'Look'",
    ),
    "may not launch": (
        healthy(**denied("ec2:RunInstances")),
        "permissions-to-do", "failure", "ec2:RunInstances: no cell can be launched",
        "kip iam policy --account 012345678910 --region us-west-2 --cluster shop >policy.json && aws iam put-role-policy "
        "--role-name kip",
    ),
    "may not tag what it launches": (
        healthy(**denied("ec2:RunInstances", named="ec2:CreateTags")),
        "permissions-to-do", "failure", "perform: ec2:CreateTags", "'Sid': 'TagWhatIsBeingMade'",
    ),
    "may not end cells": (
        healthy(**denied("ec2:TerminateInstances")),
        "permissions-to-do", "failure", "cells cannot be ended", "'aws:ResourceTag/kip.elotl.co/cluster': 'shop'",
    ),
    "may not pass the profile's role": (
        healthy(**denied("iam:PassRole")),
        "permissions-to-do", "failure", "not authorized to perform: iam:PassRole",
        f"'Resource': 'arn:aws:iam::{ACCOUNT}:role/*'",
    ),
    "the organisation forbids launches": (
        healthy(**denied("ec2:RunInstances", words="{} with an explicit deny in a service control policy")),
        "permissions-to-do", "failure", "explicit deny", "a service control policy forbids it",
    ),
    "a permissions boundary forbids launches": (
        healthy(**denied("ec2:RunInstances", words="{} because no permissions boundary allows it")),
        "permissions-to-do", "failure", "no permissions boundary allows", "a permissions boundary forbids it",
    ),
    "may not make routes": (
        healthy(**denied("ec2:CreateRoute")),
        "permissions-to-do", "warning", "cloud-route run without their routes", "'Sid': 'RouteToCells'",
    ),
    "may not log in to ECR": (
        healthy(**denied("ecr:GetAuthorizationToken")),
        "permissions-to-pull", "warning", "images in ECR are pulled with the pods' own pull secrets", "--with ecr",
    ),
    "may not know prices": (
        healthy(**denied("pricing:GetProducts")),
        "permissions-to-know", "warning", "prices that came with Kip are used", "--with market",
    ),
    "EC2 would refuse the launch for another reason": (
        healthy(calls={**healthy().calls, "ec2:RunInstances": Tried("your vCPU limit of 0 (VcpuLimitExceeded)")}),
        "permissions-to-do", "failure", "allowed, but EC2 would refuse a cell: your vCPU limit", "",
    ),
    "a hanging EC2": (
        healthy(calls={**healthy().calls, "ec2:DescribeVpcs": NO_ANSWER}),
        "permissions-to-look", "unknown", "ec2:DescribeVpcs: no answer within 10 s", "",
    ),
    "no cell to try things on": (
        healthy(calls={
            **healthy().calls,
            "ec2:TerminateInstances": Unanswered("not asked", "there is no cell to try it on"),
            "ec2:CreateTags": Unanswered("not asked", "there is no cell to try it on"),
        }),
        "permissions-to-do", "unknown", "ec2:TerminateInstances, ec2:CreateTags: there is no cell", "kubectl run",
    ),
    "a subnet that there is not": (
        healthy(subnets=Unanswered("missing", "there is no subnet subnet-1 (DescribeSubnets)")),
        "subnets", "failure", "there is no subnet subnet-1", "aws ec2 describe-subnets --region us-west-2",
    ),
    "subnets in two VPCs": (
        healthy(subnets=Unanswered("refused", "all subnets must be in one VPC")),
        "subnets", "failure", "all subnets must be in one VPC", "cloud.aws",
    ),
    "a full subnet": (
        healthy(subnets=(subnet("subnet-1", free_addresses=1),)),
        "addresses", "failure", "none for a cell, which takes 2 (subnet-1: 1)", "larger subnets",
    ),
    "a subnet that is too small": (
        healthy(subnets=(subnet("subnet-1", free_addresses=11),)),
        "addresses", "warning", "for 5 cells, and the virtual nodes offer room for 20 pods", "larger subnets",
    ),
    "no way out": (
        healthy(**without_egress()),
        "way-out", "warning", "subnet-1 (rtb-1) has no default route", "--destination-cidr-block 0.0.0.0/0",
    ),
    "a gateway that is gone": (
        healthy(tables=(table(Route("0.0.0.0/0", to="nat-9", blackhole=True)),)),
        "way-out", "warning", "leads to nat-9, which is gone", "aws ec2 replace-route --route-table-id rtb-1",
    ),
    "an internet gateway without public addresses": (
        healthy(tables=(table(Route("0.0.0.0/0", to="igw-1")),)),
        "way-out", "warning", "the subnet gives out no public addresses", "--map-public-ip-on-launch",
    ),
    "a table of the subnet's own without a way out": (
        healthy(tables=(
            table(Route("0.0.0.0/0", to="nat-1")), table(id="rtb-2", main=False, subnet_ids=frozenset({"subnet-2"})),
        )),
        "way-out", "warning", "subnet-2 (rtb-2) has no default route", "rtb-2",
    ),
    "EKS without the cluster's security group": (
        healthy({"cells": {"extraSecurityGroups": []}}),
        "security-groups", "warning", "reach neither the cluster's DNS", "clusterSecurityGroupId",
    ),
    "a security group that there is not": (
        healthy(extra_groups={}),
        "security-groups", "failure", "sg-eks of cells.extraSecurityGroups does not exist", "CLUSTER_SECURITY_GROUP",
    ),
    "a security group of another VPC": (
        healthy(extra_groups={"sg-eks": "vpc-7"}),
        "security-groups", "failure", f"is in vpc-7, and the cells are in {VPC}", "describe-cluster",
    ),
    "a security group that lost its rule for SSH": (
        healthy(own_group=unruly_group()),
        "security-groups", "warning", f"lacks 1 rules for {CIDR}", f"--protocol tcp --port 22 --cidr {CIDR}",
    ),
    "no image for the cluster's version": (
        healthy(images={"amd64 standard": Unanswered("missing", "no machine image matches")}),
        "images", "failure", "no machine image matches", "amazon-eks-node-al2023-x86_64-standard-*",
    ),
    "an image of one's own that there is not": (
        healthy(
            {"cells": {"bootImageSpec": {"imageIDs": ["ami-9"]}}},
            images={CONFIGURED: Unanswered("missing", "InvalidAMIID.NotFound")},
        ),
        "images", "failure", "InvalidAMIID.NotFound", "mend cells.bootImageSpec",
    ),
    "no image for ARM": (
        healthy(images={"amd64 standard": image(), "arm64 standard": Unanswered("missing", "no machine image matches")}),
        "images", "warning", "image for arm64 standard", "amazon-eks-node-al2023-arm64-standard-*",
    ),
    "a kubelet newer than the API server": (
        healthy(images={"amd64 standard": image("1.37")}),
        "images", "failure", "its kubelet 1.37 is newer than the API server 1.36", "cells.bootImageSpec",
    ),
    "a kubelet that is too old": (
        healthy(images={"amd64 standard": image("1.32")}),
        "images", "failure", "its kubelet 1.32 is over 3 minor versions older than 1.36", "cells.bootImageSpec",
    ),
    "an image that does not say its kubelet": (
        healthy(images={"amd64 standard": replace(image(), name="ours")}),
        "images", "unknown", "does not say which kubelet", "",
    ),
    "an instance profile that there is not": (
        healthy(profile=Unanswered("refused", "Instance Profile kip-cell cannot be found", code="NoSuchEntity")),
        "instance-profile", "failure", "cannot be found", "aws iam create-instance-profile --instance-profile-name kip-cell",
    ),
    "an instance profile without a role": (
        healthy(profile=Profile("arn:aws:iam::1:instance-profile/kip-cell", ())),
        "instance-profile", "failure", "has no role", "add-role-to-instance-profile --instance-profile-name kip-cell",
    ),
    "a new account's quota": (
        healthy(quotas={"L-1216C47A": 5.0}),
        "quotas", "failure", "5 vCPUs, 8 of them in use; the virtual nodes offer 20 CPUs",
        "--quota-code L-1216C47A --desired-value 28",
    ),
    "a quota smaller than the nodes": (
        healthy(quotas={"L-1216C47A": 16.0}),
        "quotas", "warning", "16 vCPUs", "offer less in kubelet.capacity",
    ),
    "no GPUs for this account": (
        healthy(GPU_NODES, quotas={"L-DB2E81BA": 0.0}),
        "quotas", "warning", "Running On-Demand G and VT instances: 0 vCPUs", "--quota-code L-DB2E81BA",
    ),
    "may not look at quotas": (
        healthy(quotas={"L-1216C47A": Unanswered("denied", "no", "servicequotas:GetServiceQuota")}),
        "quotas", "unknown", "Running On-Demand Standard", "--with doctor",
    ),
    "a cell that cannot be reached": (
        healthy(ssh=Connection("i-1 (10.0.1.1:22)", "no answer within 10 s")),
        "way-to-cells", "failure", "i-1 (10.0.1.1:22) does not answer", "network ACLs",
    ),
    "Kip's address is not let in": (
        healthy(ssh=None, own_address="100.64.0.9"),
        "way-to-cells", "failure", "100.64.0.9 is in none of the ranges", "cells.extraCIDRs",
    ),
    "another VPC without a way back": (
        healthy({"cells": {"extraCIDRs": ["10.9.0.0/16"]}}, **ELSEWHERE),
        "way-to-cells", "failure", "Kip runs in vpc-2, the cells are in vpc-1, and subnet-1 has no route to 10.9.0.4",
        "aws ec2 create-route --route-table-id rtb-1 --destination-cidr-block 10.9.0.4/32",
    ),
    "nobody knows where Kip runs": (
        healthy(ssh=None, here=None),
        "way-to-cells", "unknown", "where Kip runs is not known", "NODE_NAME",
    ),
    "seen from somebody's laptop": (
        healthy(in_cluster=False),
        "way-to-cells", "unknown", "this is not where Kip runs", "kubectl -n kip exec deploy/kip-provider -- kip doctor",
    ),
    "an image cache that nobody can reach": (
        healthy(image_cache=Connection("fs-1:2049", "no answer within 10 s")),
        "image-cache", "warning", "fs-1:2049 does not answer to Kip", "--port 2049 --source-group sg-1",
    ),
}  # fmt: skip


def test_nothing_is_said_against_an_installation_that_is_as_it_should_be() -> None:
    assert told(healthy()) == []
    assert (
        told(healthy({"cells": {"extraCIDRs": ["10.9.0.0/16"]}}, **{**ELSEWHERE, "tables": (PEERED,)})) == []
    )
    without_cells = replace(healthy(), ssh=None, cells=())
    assert told(without_cells) == []


PEERED = table(Route("0.0.0.0/0", to="nat-1"), Route("10.9.0.0/16", to="pcx-1"))


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_gets_its_line_and_its_remedy(name: str) -> None:
    facts, check, status, words, mend = BROKEN[name]
    found = told(facts)
    matching = [line for line in found if line[:2] == (check, status) and words in line[2]]
    assert matching, "\n".join(map(str, found))
    assert mend in matching[0][3], matching[0][3]


@pytest.mark.parametrize("name", BROKEN)
def test_nothing_else_is_called_a_failure(name: str) -> None:
    facts, check, *_ = BROKEN[name]
    assert {line[0] for line in told(facts) if line[1] == "failure"} <= {check}


def test_there_is_a_remedy_for_every_failure_that_is_not_ec2s_own_word() -> None:
    for name, (facts, *_) in BROKEN.items():
        for check, status, why, mend in told(facts):
            assert mend or status != "failure" or "EC2 would refuse a cell" in why, f"{name}: {check}"


def test_nothing_known_is_nothing_failed_but_what_was_not_reached() -> None:
    facts = Facts(settings=Settings())
    assert {line[1] for line in told(facts)} == {"unknown", "failure"}
    assert [line[0] for line in told(facts) if line[1] == "failure"] == ["api-server", "place"]


def test_a_users_keys_are_mended_at_the_user() -> None:
    user = Identity(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/kip")
    (line,) = told(replace(healthy(**denied("ec2:RunInstances")), identity=user))
    assert "aws iam put-user-policy --user-name kip" in line[3]


def test_a_group_that_is_there_need_not_be_made() -> None:
    with_group = told(healthy(**denied("ec2:CreateSecurityGroup")))
    without = told(healthy(**denied("ec2:CreateSecurityGroup"), own_group=None))
    assert [line[1] for line in with_group] == ["warning"]
    assert [line[1] for line in without] == ["failure"]


def test_cells_are_counted_in_the_quota_as_everybody_elses_machines() -> None:
    assert told(healthy(running_vcpus={"L-1216C47A": 63}))[0][:2] == ("quotas", "failure")
