"""What a process has before it serves a node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import kopf

from kip.app.cluster import ClusterFacts
from kip.app.keys import OperatorKeys
from kip.app.location import Location
from kip.cells.platforms import ImagePlatforms
from kip.cloud.base import Marketplace, PriceList
from kip.cloud.sdk import Ec2Sdk
from kip.config import Settings
from kip.images.lending import Lending, NothingLent
from kip.images.logins import PodLogins
from kip.kube.client import ApiClient
from kip.model.clock import Clock
from kip.observe.metrics import Metrics
from kip.oci.client import Registries


@dataclass(frozen=True)
class Surroundings:
    """The same for every node that the process serves, one after the other."""

    settings: Settings
    client: ApiClient
    clock: Clock
    ec2: Ec2Sdk
    registries: Registries
    logins: PodLogins
    """As whom registries are asked."""
    lending: Lending | NothingLent
    """Kip's own logins, for kubelets."""
    prices: PriceList | None
    """None where there is none to ask."""
    keys: OperatorKeys
    cluster: ClusterFacts
    location: Location
    marketplace: Marketplace | None
    """None unless Kip was bought there."""
    metrics: Metrics
    identity: str
    """Of this process, for events and Leases."""
    platforms: ImagePlatforms
    run_dir: Path
    """For unix sockets; private to this process."""
    login: Callable[[], Awaitable[kopf.ConnectionInfo]]
