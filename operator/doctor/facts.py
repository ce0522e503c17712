"""What was found out before anything is judged. Each fact is a value, or says why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

from kip.app.location import Location
from kip.cloud.base import Image, Instance, Subnet
from kip.cloud.metadata import Whereabouts
from kip.cloud.routes import RouteTable
from kip.config import Settings
from kip.doctor.access import Access

Value = TypeVar("Value")

Reason = Literal["denied", "no answer", "refused", "missing", "not asked"]
"""`denied`: a permission is missing. `no answer`: it hung, or nothing is there. `refused`: any other error. `missing`:
there is no such thing. `not asked`: something else has to be mended first."""


@dataclass(frozen=True)
class Unanswered:
    """Why a question has no answer."""

    reason: Reason
    why: str
    permission: str = ""
    """The IAM permission that is missing, as far as AWS or the code names one."""
    code: str = ""
    """AWS's code of the error."""


#: Key of the image that `cells.bootImageSpec` names.
CONFIGURED = "cells.bootImageSpec"

Fact: TypeAlias = Value | Unanswered

NOT_ASKED = Unanswered("not asked", "something else has to be mended first")


@dataclass(frozen=True)
class ClusterVersion:
    """Of the API server."""

    version: str
    minor: str
    """Like `1.36`."""


@dataclass(frozen=True)
class CellType:
    """What the API server publishes of the type Cell."""

    schema: Mapping[str, Any]


@dataclass(frozen=True)
class Identity:
    """Who AWS takes us for."""

    account: str
    arn: str


@dataclass(frozen=True)
class Profile:
    """An instance profile."""

    arn: str
    roles: tuple[str, ...]
    """ARNs."""


@dataclass(frozen=True)
class Connection:
    """An attempt to reach something by TCP."""

    target: str
    problem: str = ""
    """Empty when it is reached."""


@dataclass(frozen=True)
class Tried:
    """A call that was allowed: with it, or with anything but the permission, EC2 may still have found fault."""

    objection: str = ""
    """What else EC2 said against it; empty when it would have succeeded."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All of it."""

    settings: Settings
    config_file: str = "provider.yaml"
    config_warnings: tuple[str, ...] = ()
    user_data_trouble: str = ""
    """Why cells could not be told at boot what is configured."""
    in_cluster: bool = False
    server: str = ""
    """The API server's address."""
    clocks: Mapping[str, Fact[float]] = field(default_factory=dict)
    """By whose clock: seconds that ours is ahead of it."""

    version: Fact[ClusterVersion] = NOT_ASKED
    cluster: Fact[str] = NOT_ASKED
    """Its name, as in tags."""
    dns: Fact[tuple[str, ...]] = NOT_ASKED
    nodes: Fact[Mapping[str, str]] = NOT_ASKED
    """Of the virtual nodes those that there are: name to provider ID."""
    access: Fact[Access] = NOT_ASKED
    cell_type: Fact[CellType] = NOT_ASKED

    location: Fact[Location] = NOT_ASKED
    here: Fact[Whereabouts | None] = NOT_ASKED
    """Where this process runs; None when it cannot know."""
    own_address: str = ""
    """From which it would reach cells; empty outside of the cluster."""

    credentials: Fact[str] = NOT_ASKED
    """Where they are from, in botocore's words."""
    identity: Fact[Identity] = NOT_ASKED
    calls: Mapping[str, Fact[Tried]] = field(default_factory=dict)
    """IAM permission to what became of a dry run or a harmless call."""

    subnets: Fact[tuple[Subnet, ...]] = NOT_ASKED
    vpc_cidrs: Fact[tuple[str, ...]] = NOT_ASKED
    tables: Fact[tuple[RouteTable, ...]] = NOT_ASKED
    cells: Fact[tuple[Instance, ...]] = NOT_ASKED
    """Instances with the cluster's tag that have not ended."""
    own_group: Fact[Mapping[str, Any] | None] = NOT_ASKED
    """Kip's security group as EC2 describes it; None while there is none."""
    extra_groups: Fact[Mapping[str, str]] = NOT_ASKED
    """Of `cells.extraSecurityGroups` those that there are: id to VPC."""
    images: Mapping[str, Fact[Image]] = field(default_factory=dict)
    """`amd64 standard` to the image that such cells get; or `CONFIGURED` to the one of all."""
    profile: Fact[Profile] | None = None
    """Of `cells.defaultIAMPermissions`; None when there is none."""

    quotas: Mapping[str, Fact[float]] = field(default_factory=dict)
    """Code of a quota to vCPUs."""
    running_vcpus: Fact[Mapping[str, int]] = NOT_ASKED
    """Code of a quota to the vCPUs that count against it now."""

    ssh: Fact[Connection | None] = NOT_ASKED
    """To a cell that runs; None while none does."""
    image_cache: Connection | None = None
    """None without an image cache."""
