"""The choice of machines: where they can be, what there is to be had, and which of it a pod gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kip.app.serving.ec2 import Ec2Side
from kip.app.serving.shared import ClusterObjects
from kip.app.serving.side import Loops
from kip.app.serving.state import NodeState
from kip.app.serving.surroundings import Surroundings
from kip.app.site import site_options
from kip.app.userdata import cell_user_data
from kip.cells.market import MarketWatch
from kip.cells.neighbourhood import Neighbourhood
from kip.cells.plan import PlanOptions, SelectingPlanner
from kip.cells.site import Sites, Variant
from kip.cloud import instance_data
from kip.cloud.images import Ec2Images
from kip.cloud.offerings import Ec2Offerings
from kip.cloud.unavailable import UnavailableOfferings
from kip.model.hugepages import HugePages
from kip.pods import architecture, placement
from kip.pods.architecture import OfImages

_GIVE_WAY_S = 30.0  # for each of some 80 pages


class Planning:
    """The planner, and what it chooses from."""

    def __init__(self, around: Surroundings, state: NodeState, shared: ClusterObjects, ec2: Ec2Side) -> None:
        self._around = around
        self._node_name = state.node_name
        self._sites = self._make_sites(ec2)
        self.planner = self._make_planner(state, shared)
        self.market = MarketWatch(
            # What instances are chosen by may be an hour older; pods that wait for one may not.
            Ec2Offerings(
                around.ec2, around.clock, give_way=lambda: state.queue.wait_quiet(at_most_s=_GIVE_WAY_S)
            ),
            around.prices,
            around.clock,
            region=around.location.region,
            tell=self.planner.refresh,
            metrics=around.metrics.catalogue,
        )

    def loops(self) -> Loops:
        return {"site": self._sites.run(), "market": self.market.run()}

    def _make_sites(self, ec2: Ec2Side) -> Sites:
        around = self._around
        options = site_options(
            around.settings,
            around.location,
            cluster=around.cluster.name,
            kubernetes_minor=around.cluster.minor,
        )
        return Sites(ec2.network, Ec2Images(around.ec2), around.clock, options, user_data=self._user_data)

    def _make_planner(self, state: NodeState, shared: ClusterObjects) -> SelectingPlanner:
        around, cells = self._around, self._around.settings.cells
        return SelectingPlanner(
            self._sites,
            UnavailableOfferings(clock=around.clock),
            PlanOptions(
                region=around.location.region,
                default_instance_type=cells.default_instance_type,
                default_volume_bytes=cells.default_volume_size,
                private_ip_only=cells.private_ip_only,
                instance_profile=cells.default_iam_permissions,
                allowed_types=cells.instance_types.allowed,
                excluded_types=cells.instance_types.excluded,
                instance_data=instance_data.of(cells.instance_data, around.location.region),
            ),
            around=Neighbourhood(state.client, state.pods, state.cells),
            defaults=shared.defaults.of,
            built=self._built,
        )

    def _user_data(
        self, vpc_cidrs: tuple[str, ...], variant: Variant, huge_pages: tuple[HugePages, ...]
    ) -> bytes:
        around = self._around
        return cell_user_data(
            around.settings,
            self._node_name,
            dns=around.cluster.dns,
            vpc_cidrs=vpc_cidrs,
            keys=around.keys,
            gpus=variant == "nvidia",
            huge_pages=huge_pages,
        )

    async def _built(self, pod: Mapping[str, Any]) -> OfImages:
        """What the pod's images are built for, if it leaves the architecture open."""
        around, by_pod = self._around, placement.architectures(pod)
        if by_pod is not None and len(by_pod) < 2:
            return architecture.NOTHING_SAID
        preference = around.settings.cells.image_architecture.multi_platform
        return architecture.of_images(await around.platforms.of(pod), preference)
