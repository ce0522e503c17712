"""Of the network: subnets, their addresses and ways out, security groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kip.cloud.base import Subnet
from kip.cloud.routes import RouteTable
from kip.cloud.securitygroup import changes, rules_of, security_group_name
from kip.doctor.checks.remedies import not_known, region_of
from kip.doctor.facts import ClusterVersion, Facts, Unanswered
from kip.doctor.finding import Finding, Remedy, failure, ok, warning

#: Each cell takes one address for itself and one for its pod.
ADDRESSES = 2
_SUBNETS, _FREE, _OUT, _GROUPS = "subnets", "free addresses", "way out", "security groups"


def subnets(facts: Facts) -> Iterator[Finding]:
    """That there are some, in one VPC."""
    found = facts.subnets
    if isinstance(found, Unanswered):
        if found.reason in ("missing", "refused"):
            yield failure(_SUBNETS, found.why, _list_subnets(facts))
        else:
            yield not_known(facts, _SUBNETS, found)
        return
    listed = ", ".join(f"{subnet.id} ({subnet.zone})" for subnet in found)
    yield ok(_SUBNETS, f"{listed} in {found[0].vpc_id}")


def _list_subnets(facts: Facts) -> Remedy:
    columns = "[SubnetId,VpcId,AvailabilityZone,AvailableIpAddressCount]"
    region = region_of(facts) or "REGION"
    return Remedy(
        text="name subnets of the cluster's VPC in cloud.aws of provider.yaml",
        command=f"aws ec2 describe-subnets --region {region} --query 'Subnets[].{columns}' --output table",
    )


def free_addresses(facts: Facts) -> Iterator[Finding]:
    """That as many cells fit as the virtual nodes offer pods."""
    if isinstance(facts.subnets, Unanswered):
        return
    room = sum(subnet.free_addresses // ADDRESSES for subnet in facts.subnets)
    kubelet = facts.settings.kubelet
    pods = int(float(kubelet.capacity["pods"])) * len(kubelet.node_names)
    free = ", ".join(f"{subnet.id}: {subnet.free_addresses}" for subnet in facts.subnets)
    larger = Remedy(
        text="name larger subnets, or more of them, in cloud.aws.subnetID",
        command=_list_subnets(facts).command,
    )
    if not room:
        yield failure(_FREE, f"none for a cell, which takes {ADDRESSES} ({free})", larger)
    elif room < pods:
        yield warning(
            _FREE, f"for {room} cells, and the virtual nodes offer room for {pods} pods ({free})", larger
        )
    else:
        yield ok(_FREE, f"for {room} cells ({free})")


def way_out(facts: Facts) -> Iterator[Finding]:
    """Cells pull their images themselves."""
    if isinstance(facts.subnets, Unanswered):
        return
    if isinstance(facts.tables, Unanswered):
        yield not_known(facts, _OUT, facts.tables)
        return
    good: list[str] = []
    for subnet in facts.subnets:
        found = _trouble(subnet, facts.tables, private=facts.settings.cells.private_ip_only)
        if found is None:
            good.append(subnet.id)
        else:
            yield warning(_OUT, *found)
    if good:
        yield ok(_OUT, f"{', '.join(good)}: there is a default route")


def table_of(subnet: Subnet, tables: tuple[RouteTable, ...]) -> RouteTable | None:
    """The subnet's own, else the VPC's main one."""
    own = (table for table in tables if subnet.id in table.subnet_ids)
    return next(own, None) or next((table for table in tables if table.main), None)


def _trouble(subnet: Subnet, tables: tuple[RouteTable, ...], *, private: bool) -> tuple[str, Remedy] | None:
    table = table_of(subnet, tables)
    default = table.route("0.0.0.0/0") if table else None
    called = f"{subnet.id} ({table.id})" if table else subnet.id
    if default is None:
        return (
            f"{called} has no default route: its cells reach only registries inside of the VPC or by its endpoints",
            Remedy(
                text="add a route to a NAT gateway, or have endpoints for ECR and S3 or a registry of your own",
                command=f"aws ec2 create-route --route-table-id {table.id if table else 'TABLE'} "
                "--destination-cidr-block 0.0.0.0/0 --nat-gateway-id NAT_GATEWAY",
            ),
        )
    if default.blackhole:
        return (
            f"the default route of {called} leads to {default.to}, which is gone",
            Remedy(
                text="lead it to a gateway that there is",
                command=f"aws ec2 replace-route --route-table-id {table.id if table else 'TABLE'} "
                "--destination-cidr-block 0.0.0.0/0 --nat-gateway-id NAT_GATEWAY",
            ),
        )
    if default.to.startswith("igw-") and (private or not subnet.public):
        because = "cells.privateIPOnly is set" if private else "the subnet gives out no public addresses"
        return (
            f"{called} leads to the internet gateway {default.to}, which serves public addresses only, and {because}",
            Remedy(
                text="use subnets with a NAT gateway, or let cells have public addresses",
                command=f"aws ec2 modify-subnet-attribute --subnet-id {subnet.id} --map-public-ip-on-launch",
            ),
        )
    return None


def security_groups(facts: Facts) -> Iterator[Finding]:
    """Kip's own, and those that are configured."""
    if isinstance(facts.subnets, Unanswered):
        return
    yield from _own_group(facts)
    yield from _extra_groups(facts, facts.subnets[0].vpc_id)


def _own_group(facts: Facts) -> Iterator[Finding]:
    if isinstance(facts.own_group, Unanswered):
        yield not_known(facts, _GROUPS, facts.own_group)
    elif facts.own_group is None:
        name = security_group_name(facts.cluster if isinstance(facts.cluster, str) else "")
        yield ok(_GROUPS, f"{name} is not there yet; Kip makes it")
    elif isinstance(facts.vpc_cidrs, Unanswered):
        yield not_known(facts, _GROUPS, facts.vpc_cidrs)
    else:
        yield _rules(facts, facts.own_group, facts.vpc_cidrs)


def _rules(facts: Facts, group: Mapping[str, object], cidrs: tuple[str, ...]) -> Finding:
    wanted = (*cidrs, *(str(cidr) for cidr in facts.settings.cells.extra_cidrs))
    missing = changes(rules_of(dict(group)), wanted).missing
    called = f"{group['GroupName']} ({group['GroupId']})"
    if not missing:
        return ok(_GROUPS, f"{called} lets in {', '.join(wanted)}")
    return warning(
        _GROUPS,
        f"{called} lacks {len(missing)} rules for {', '.join(sorted({rule.cidr for rule in missing}))}; Kip adds them "
        "within minutes",
        Remedy(
            text="if it does not: allow ec2:AuthorizeSecurityGroupIngress; by hand",
            command=" && ".join(
                f"aws ec2 authorize-security-group-ingress --group-id {group['GroupId']} --protocol {rule.protocol} "
                f"{'--port 22 ' if rule.ports else ''}--cidr {rule.cidr}"
                for rule in missing
            ),
        ),
    )


def _extra_groups(facts: Facts, vpc_id: str) -> Iterator[Finding]:
    wanted = facts.settings.cells.extra_security_groups
    if not wanted:
        if isinstance(facts.version, ClusterVersion) and "-eks-" in facts.version.version:
            yield warning(
                _GROUPS,
                "cells.extraSecurityGroups is empty: EKS nodes admit members of the cluster's group only, so pods on cells "
                "reach neither the cluster's DNS nor pods on nodes",
                _find_cluster_group(facts),
            )
        return
    if isinstance(facts.extra_groups, Unanswered):
        yield not_known(facts, _GROUPS, facts.extra_groups)
        return
    bad = False
    for group in wanted:
        where = facts.extra_groups.get(group)
        if where != vpc_id:
            bad = True
            why = "does not exist" if where is None else f"is in {where}, and the cells are in {vpc_id}"
            yield failure(_GROUPS, f"{group} of cells.extraSecurityGroups {why}", _find_cluster_group(facts))
    if not bad:
        yield ok(_GROUPS, f"{', '.join(wanted)} of cells.extraSecurityGroups")


def _find_cluster_group(facts: Facts) -> Remedy:
    region = region_of(facts) or "REGION"
    return Remedy(
        text="set cells.extraSecurityGroups (deploy.sh: CLUSTER_SECURITY_GROUP, Helm: clusterSecurityGroup) to",
        command=f"aws eks describe-cluster --region {region} --name EKS_CLUSTER "
        "--query cluster.resourcesVpcConfig.clusterSecurityGroupId --output text",
    )
