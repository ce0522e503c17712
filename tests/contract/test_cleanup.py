"""`kip cleanup` against every cloud: what it finds by tags and records is what there is, and it goes."""

from __future__ import annotations

from typing import Any

from kip.cleanup.execute import Cleanup
from kip.cleanup.look import Places, look
from kip.cleanup.plan import plan
from kip.kube.fake import FakeApi
from kip.model import names
from kip.model.clock import SystemClock

Cloud = Any

CLUSTER, NODE, NET = "to-be-cleaned", "kip-provider-0", "172.30.0.0/16"


async def test_routes_instances_and_group_go_and_nothing_else(cloud: Cloud) -> None:
    subnet, theirs_group = await cloud.place()
    group = await cloud.network.ensure_cell_security_group(cluster=CLUSTER, vpc_id=subnet.vpc_id)
    tags = {names.TAG_CLUSTER: CLUSTER, names.TAG_NODE: NODE}
    (ours,) = await cloud.compute.launch(await cloud.request(security_group_ids=(group,), tags=tags))
    (theirs,) = await cloud.compute.launch(await cloud.request(security_group_ids=(theirs_group,)))
    tables = await cloud.routing.route_tables([subnet.vpc_id])
    (main,) = (table for table in tables if table.main)
    await cloud.routing.create_route(main.id, NET, ours.network_interface_id)
    await cloud.routing.create_route(main.id, "172.31.0.0/16", theirs.network_interface_id)

    places = Places(FakeApi(), cloud.compute, cloud.network, cloud.routing, SystemClock())
    told: list[str] = []
    for expected in (["route", "instance", "security group"], []):
        todo = plan(await look(places, cluster=CLUSTER, node_names=(NODE,), namespace="kip"))
        outcome = await Cleanup(places, tell=told.append, timeout_s=10).run(todo)
        assert [step.kind for step in outcome.done] == expected, outcome.failed

    assert [i.state for i in await cloud.compute.describe_ids([theirs.id])] == ["running"]
    assert await cloud.network.cell_security_groups(CLUSTER) == []
    (main,) = (table for table in await cloud.routing.route_tables([subnet.vpc_id]) if table.main)
    assert main.route(NET) is None
    assert main.route("172.31.0.0/16") is not None
    await cloud.routing.delete_route(main.id, "172.31.0.0/16")
