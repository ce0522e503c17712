"""The stages of a cell's life, with what they work with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kip.app.directory import Keeper
from kip.app.serving.connections import Connections
from kip.app.serving.ec2 import Ec2Side
from kip.app.serving.kubeletapi import KubeletApi
from kip.app.serving.planning import Planning
from kip.app.serving.shared import ClusterObjects
from kip.app.serving.state import NodeState
from kip.app.serving.surroundings import Surroundings
from kip.cells.admit import Admit
from kip.cells.connect import Connect
from kip.cells.drain import Drain
from kip.cells.launch import Launch
from kip.cells.lifecycle import Lifecycle
from kip.cells.report import Reporter
from kip.cells.rest import Rests
from kip.cells.routes import Routes
from kip.cells.seed import Seeder
from kip.cells.serve import Serve
from kip.cells.settings import CellSettings
from kip.cells.stages import Tools
from kip.cells.terminate import Terminate
from kip.cells.volumewatch import VolumeWatch
from kip.images.rights import PodRights
from kip.oci.access import AccessCheck
from kip.pods import eligibility
from kip.pods.annotations import healthy_timeout_s


def lifecycle(
    around: Surroundings,
    state: NodeState,
    shared: ClusterObjects,
    *,
    ec2: Ec2Side,
    planning: Planning,
    connections: Connections,
    kubelet: KubeletApi,
) -> Lifecycle:
    """What is done for a pod, from its admission to the end of its machine."""
    allow_daemon_sets = around.settings.cells.allow_daemon_sets

    def refusal(pod: Mapping[str, Any]) -> tuple[str, str] | None:
        """Why this pod gets no cell, for its owner; None if it gets one."""
        return eligibility.judge(pod, nodes=(state.node_name,), allow_daemon_sets=allow_daemon_sets).refusal

    tools = _tools(around, state, shared, ec2, connections)
    keeper = Keeper(state.cells, kubelet.directory, kubelet.kept_logs)
    return Lifecycle(
        tools,
        state.pods,
        admit=Admit(tools, planning.planner, refusal, defaults=shared.defaults.of),
        launch=Launch(tools, ec2.launcher, planning.planner, ec2.pod_tags),
        connect=_connect(around, state, tools),
        serve=Serve(tools),
        routes=Routes(tools, ec2.routes, ec2.network, defaults=shared.defaults.of),
        drain=Drain(tools, keeper),
        terminate=Terminate(tools, ec2.launcher, ec2.routes),
        may_write=state.may_write,
    )


def _tools(
    around: Surroundings,
    state: NodeState,
    shared: ClusterObjects,
    ec2: Ec2Side,
    connections: Connections,
) -> Tools:
    cells = around.settings.cells
    return Tools(
        settings=CellSettings(
            node_name=state.node_name,
            cluster=around.cluster.name,
            connect_timeout_s=cells.connect_timeout,
            start_timeout_s=cells.start_timeout,
            devices_timeout_s=cells.gpu.device_plugin_timeout,
        ),
        cells=state.cells,
        fleet=ec2.fleet,
        links=connections.links,
        report=Reporter(
            state.client,
            state.events,
            around.clock,
            seen=state.pods.put,
            cell_of=state.cells.get,
            cell_events=state.cell_events,
        ),
        rests=Rests(around.clock),
        clock=around.clock,
        observe=around.metrics.pod_reached,
        count_launch=around.metrics.launched,
        count_given_up=around.metrics.given_up,
        healthy_timeout_s=lambda pod: healthy_timeout_s(pod, shared.defaults.of(pod)),
    )


def _connect(around: Surroundings, state: NodeState, tools: Tools) -> Connect:
    """With the image cache, if there is one."""
    cache = around.settings.cells.image_cache
    if cache.endpoint is None:
        return Connect(tools)
    check = AccessCheck(around.registries, around.clock)
    seeder = Seeder(
        PodRights(around.registries, check, around.logins),
        around.clock,
        save=state.cells.save,
        report=tools.report,
        told=around.metrics,
        deadline_s=cache.deadline,
    )
    return Connect(tools, seeder, VolumeWatch(tools.report))
