"""EC2's side: the machines and routes of the node's cells, kept as the Cells say."""

from __future__ import annotations

from kip.app.serving.side import Closers, Loops
from kip.app.serving.state import NodeState
from kip.app.serving.surroundings import Surroundings
from kip.cells.fleet import Fleet
from kip.cells.garbage import SWEEP_S, Sweeper
from kip.cells.launcher import Launcher
from kip.cells.routekeeper import RouteKeeper
from kip.cells.tagger import Tagger
from kip.cells.tags import PodTags
from kip.cloud.ec2 import Ec2Compute
from kip.cloud.network import Ec2Network
from kip.cloud.routes import Ec2Routes
from kip.model import names


class Ec2Side:
    """Who launches, tags, routes to and ends machines; no call that changes anything once the node is let go."""

    def __init__(self, around: Surroundings, state: NodeState) -> None:
        clock, cells, mark = around.clock, state.cells, state.queue.mark
        ec2 = around.ec2.fenced(state.may_write)
        nametag = around.settings.cells.nametag
        called = f"Kip cell {nametag or around.cluster.name}/{state.node_name}"
        tags = {names.TAG_CLUSTER: around.cluster.name, names.TAG_NODE: state.node_name}
        self.compute = Ec2Compute(ec2)
        self.network = Ec2Network(ec2)
        self.fleet = Fleet(self.compute, clock, tags=tags)
        self.pod_tags = PodTags(called, nametag)
        self.launcher = Launcher(
            self.compute, clock, save=cells.save, holders=cells.holders, tags=tags, called=called
        )
        self.routes = RouteKeeper(Ec2Routes(ec2), self.network, cells, clock, mark=mark)
        self._tagger = Tagger(self.compute, self.fleet, cells, state.pods, clock, wanted=self.pod_tags)
        self._sweeper = Sweeper(
            self.fleet,
            cells,
            clock,
            mark=mark,
            abandon=self.routes.abandon,
            give_way=lambda: state.queue.wait_quiet(at_most_s=2 * SWEEP_S),
        )

    def loops(self) -> Loops:
        return {
            "sweep": self._sweeper.run(),
            "cloud routes": self.routes.run(),
            "tags": self._tagger.run(),
        }

    def closers(self) -> Closers:
        return (self.launcher.close, self.routes.close, self.compute.close)
