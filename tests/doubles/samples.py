"""Values with everything filled in, for tests that care for little of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from kip.cells.plan import PlanOptions, SelectingPlanner
from kip.cells.site import SiteOptions, Sites
from kip.cloud.base import Instance, LaunchRequest
from kip.cloud.fake import FakeCloud
from kip.cloud.unavailable import UnavailableOfferings
from kip.model.cell import CONNECTED, LAUNCHED, Cell, CloudRoutes, Intent
from kip.model.clock import ManualClock

NOW = datetime(2026, 1, 1, tzinfo=UTC)

PLAN_OPTIONS = PlanOptions(region="us-east-1", default_instance_type="t3.nano", default_volume_bytes=0)
SITE_OPTIONS = SiteOptions(cluster="blue", kubernetes_minor="1.36")

_INTENT = Intent(
    client_token="kip-token",
    attempt=1,
    count=1,
    index=0,
    instance_type="t3.small",
    subnet_id="subnet-1",
    zone="us-east-1a",
    market="on-demand",
    image_id="ami-1",
    parameters_sha256="0" * 32,
    requested_at=NOW,
)


def intent(token: str = _INTENT.client_token, **changes: Any) -> Intent:
    """To launch one cell."""
    return replace(_INTENT, client_token=token, **changes)


def filled(cell: Cell) -> Cell:
    """The cell with a value in every field of its status."""
    known = replace(
        cell,
        attempt=1,
        launches=2,
        intent=intent(
            count=3, index=2, market="spot", tags={"app": "web", "Name": "Kip cell"}, requested_at=NOW
        ),
        instance_id="i-1",
        instance_type="t3.small",
        market="spot",
        zone="us-east-1a",
        address="10.0.0.4",
        pod_ip="10.0.0.5",
        price="0.0208",
        host_key="ssh-ed25519 AAAA",
        routes=CloudRoutes("eni-1", "vpc-1", "subnet-1", ("172.20.0.0/16",)),
    )
    known = known.set(LAUNCHED, "True", "Launched", "EC2 instance i-1", now=NOW)
    known = known.set(CONNECTED, "True", "Connected", "first contact", now=NOW)
    assert None not in known.status().values(), "a field of the status has no value here"
    return known


async def launched(cloud: FakeCloud, token: str, *, cluster: str = "blue", **changes: Any) -> Instance:
    """An instance in a cell's subnet and in the cells' security group of this cluster."""
    subnet = (await cloud.subnets())[0]
    group = await cloud.ensure_cell_security_group(cluster=cluster, vpc_id=subnet.vpc_id)
    request = LaunchRequest(
        client_token=token,
        count=1,
        instance_type="t3.nano",
        image_id=cloud.images[0].image.id,
        subnet_id=subnet.id,
        security_group_ids=(group,),
        user_data=b"",
    )
    [instance] = await cloud.launch(replace(request, **changes))
    return instance


def planner(
    cloud: FakeCloud | None = None,
    options: PlanOptions = PLAN_OPTIONS,
    clock: ManualClock | None = None,
    **more: Any,
) -> SelectingPlanner:
    """Its user data tells what it was asked for, but for the ranges of the VPC."""
    clock = clock or ManualClock()
    cloud = cloud or FakeCloud(clock=clock)
    sites = Sites(cloud, cloud, clock, SITE_OPTIONS, user_data=lambda *asked: repr(asked[1:]).encode())
    return SelectingPlanner(sites, UnavailableOfferings(clock=clock), options, **more)
