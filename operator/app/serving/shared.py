"""What all cells of a node share of the cluster: one watch of each kind, whatever the number of cells."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from kip.app.defaults import PodDefaults
from kip.app.serving.side import Loops
from kip.cells.services import ServiceRules
from kip.kube.client import ApiClient
from kip.kube.informer import Informer
from kip.model.clock import Clock

# For the first list; an API server that is up answers within a second.
_FIRST_LISTS_S = 60.0


class ClusterObjects:
    """Services, CSIDrivers, RuntimeClasses and Namespaces, and what follows from them."""

    def __init__(self, client: ApiClient, clock: Clock, default_annotations: Mapping[str, str]) -> None:
        self.services = Informer(client, "/api/v1/services", clock=clock, on_change=self._rules_changed)
        self.csidrivers = Informer(client, "/apis/storage.k8s.io/v1/csidrivers", clock=clock)
        self.runtimeclasses = Informer(client, "/apis/node.k8s.io/v1/runtimeclasses", clock=clock)
        self._slices = Informer(
            client, "/apis/discovery.k8s.io/v1/endpointslices", clock=clock, on_change=self._rules_changed
        )
        self._namespaces = Informer(
            client, "/api/v1/namespaces", clock=clock, on_change=self._namespaces_changed
        )
        self.rules = ServiceRules(self.services.items, self._slices.items, clock)
        self.defaults = PodDefaults(self._namespaces.items, default_annotations)

    def loops(self) -> Loops:
        return {f"informer of {name}": informer.run() for name, informer in self._informers.items()}

    async def wait_synced(self) -> None:
        """Return when all first lists have arrived; raises TimeoutError naming one that has not."""
        await asyncio.gather(*(i.wait_synced(_FIRST_LISTS_S) for i in self._informers.values()))

    @property
    def _informers(self) -> Mapping[str, Informer]:
        return {
            "services": self.services,
            "endpointslices": self._slices,
            "csidrivers": self.csidrivers,
            "runtimeclasses": self.runtimeclasses,
            "namespaces": self._namespaces,
        }

    def _rules_changed(self) -> None:
        self.rules.changed()

    def _namespaces_changed(self) -> None:
        self.defaults.changed()
