"""The Cell: one pod's machine. Everything that must outlive the process is in here, nothing of it only in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from kip.model.clock import from_rfc3339, to_rfc3339
from kip.model.conditions import Conditions
from kip.model.names import CELL_FINALIZER, GROUP, VERSION, cell_name

# Conditions, in the order a cell goes through them.
LAUNCHED = "Launched"
CONNECTED = "Connected"
SEEDED = "Seeded"  # only where there is an image cache
SERVING = "Serving"
ROUTED = "Routed"  # only of cells whose pods want cloud routes
DRAINED = "Drained"
TERMINATED = "Terminated"
READY = "Ready"

Phase = Literal[
    "Pending",
    "Launching",
    "Booting",
    "Connecting",
    "Starting",
    "Running",
    "Draining",
    "Terminating",
    "Failed",
]

# What the first Kip shows in the LAUNCH-TYPE column.
LAUNCH_TYPES = {"on-demand": "On-Demand", "spot": "Spot", "dedicated": "Dedicated"}


@dataclass(frozen=True)
class Intent:
    """What is about to be asked of EC2: written before the call, so that it can be repeated and never doubled."""

    client_token: str
    attempt: int
    count: int
    index: int
    instance_type: str
    subnet_id: str
    zone: str
    market: str
    image_id: str
    parameters_sha256: str
    requested_at: datetime
    tags: Mapping[str, str] = field(default_factory=dict)
    """What the cells of the batch have in common beyond whose they are: the call is repeated with the same ones."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "clientToken": self.client_token,
            "attempt": self.attempt,
            "count": self.count,
            "index": self.index,
            "instanceType": self.instance_type,
            "subnetID": self.subnet_id,
            "zone": self.zone,
            "launchType": self.market,
            "imageID": self.image_id,
            "parametersHash": self.parameters_sha256,
            "requestedAt": to_rfc3339(self.requested_at),
            # A list, because a merge patch replaces it as a whole: of a mapping it would keep the former intent's keys.
            "tags": [{"key": key, "value": value} for key, value in sorted(self.tags.items())],
        }

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Intent:
        """Raises KeyError for what is missing; the schema (crds/cells.yaml) demands the same."""
        return cls(
            client_token=d["clientToken"],
            attempt=int(d["attempt"]),
            count=int(d["count"]),
            index=int(d["index"]),
            instance_type=d["instanceType"],
            subnet_id=d["subnetID"],
            zone=d["zone"],
            market=d["launchType"],
            image_id=d["imageID"],
            parameters_sha256=d["parametersHash"],
            requested_at=from_rfc3339(d["requestedAt"]),
            tags={tag["key"]: tag["value"] for tag in d.get("tags") or ()},
        )


@dataclass(frozen=True)
class CloudRoutes:
    """The routes to this cell that may be there: written before one is made, and kept until all are gone.

    EC2's routes carry no tags. Only by this can any later process tell them from those that others have made.
    """

    network_interface_id: str
    vpc_id: str
    subnet_id: str
    cidrs: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "networkInterfaceID": self.network_interface_id,
            "vpcID": self.vpc_id,
            "subnetID": self.subnet_id,
            "cidrs": list(self.cidrs),
        }

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> CloudRoutes:
        return cls(d["networkInterfaceID"], d["vpcID"], d["subnetID"], tuple(d["cidrs"]))


@dataclass(frozen=True)
class Cell:
    """A Cell object as this process last knew it. Immutable: each step returns the next one."""

    name: str
    uid: str
    resource_version: str
    created: datetime
    deleting: bool
    node: str
    pod_namespace: str
    pod_name: str
    pod_uid: str
    finalized: bool = True
    attempt: int = 0
    """How many machines were given up for this pod so far."""
    launches: int = 0
    """How many launches were ever intended for this cell; each has a client token of its own."""
    intent: Intent | None = None
    instance_id: str | None = None
    instance_type: str | None = None
    market: str | None = None
    zone: str | None = None
    address: str | None = None
    pod_ip: str | None = None
    price: str | None = None
    host_key: str | None = None
    """The public half of the cell's own SSH host key, once it has been read at first contact."""
    cached_images: tuple[str, ...] = ()
    """Manifest digests of images whose layers the machine may have from the image cache: written before they are looked
    at, so that whoever removes layers knows (docs/designs/0006-image-cache.md)."""
    routes: CloudRoutes | None = None
    conditions: Conditions = field(default_factory=Conditions)

    @property
    def ending(self) -> bool:
        """True once the end of this cell has begun; that is never undone."""
        begun = self.conditions.get(DRAINED) or self.conditions.get(TERMINATED)
        return self.deleting or begun is not None

    @property
    def launched_at(self) -> datetime | None:
        """When EC2 told of its instance; None before."""
        launched = self.conditions.get(LAUNCHED)
        return launched.last_transition if self.instance_id and launched and launched.is_true else None

    @property
    def changed_at(self) -> datetime:
        """When anything last changed about it."""
        return max((c.last_transition for c in self.conditions.items), default=self.created)

    @property
    def pod_may_run(self) -> bool:
        """True once the pod may have been shown to a kubelet: from here on it must never be hidden from it again."""
        return self.host_key is not None

    @property
    def phase(self) -> Phase:
        """One word for people, derived from the conditions."""
        return _phase(self)

    def set(
        self,
        kind: str,
        status: Literal["True", "False", "Unknown"],
        reason: str,
        message: str,
        *,
        now: datetime,
    ) -> Cell:
        """The cell with this condition, and with the Ready that follows from all of them."""
        conditions = self.conditions.set(kind, status, reason, message, now=now)
        return replace(self, conditions=_with_ready(conditions, now))

    def given_up(self, *, now: datetime, reason: str, message: str) -> Cell:
        """The cell without its machine, ready for another attempt."""
        fresh = replace(
            self,
            attempt=self.attempt + 1,
            intent=None,
            instance_id=None,
            instance_type=None,
            market=None,
            zone=None,
            address=None,
            pod_ip=None,
            price=None,
            host_key=None,
            cached_images=(),
            conditions=self.conditions.without(CONNECTED, SEEDED, SERVING, DRAINED, TERMINATED),
        )
        return fresh.set(LAUNCHED, "False", reason, message, now=now)

    def status(self) -> dict[str, Any]:
        """The whole `.status`; a field that is not known is null, so that a merge patch takes the old one away."""
        return {
            "phase": self.phase,
            "podName": self.pod_name,
            "podNamespace": self.pod_namespace,
            "node": self.node,
            "attempt": self.attempt,
            "launches": self.launches,
            "launchType": LAUNCH_TYPES.get(self.market, self.market) if self.market else None,
            "instanceType": self.instance_type,
            "instanceID": self.instance_id,
            "ip": self.address,
            "podIP": self.pod_ip,
            "zone": self.zone,
            "pricePerHour": self.price,
            "hostKey": self.host_key,
            # A list, and never absent: a merge patch would keep the former one.
            "cachedImages": list(self.cached_images),
            "cloudRoutes": self.routes.to_dict() if self.routes else None,
            "launch": self.intent.to_dict() if self.intent else None,
            "conditions": self.conditions.to_list(),
        }

    @classmethod
    def from_object(cls, obj: Mapping[str, Any]) -> Cell:
        """Read a Cell object; raises KeyError if it lacks what the schema demands."""
        metadata, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
        launch_types = {shown: market for market, shown in LAUNCH_TYPES.items()}
        shown = status.get("launchType")
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            resource_version=metadata["resourceVersion"],
            created=from_rfc3339(metadata["creationTimestamp"]),
            deleting=bool(metadata.get("deletionTimestamp")),
            finalized=CELL_FINALIZER in (metadata.get("finalizers") or ()),
            node=spec["nodeName"],
            pod_namespace=spec["podNamespace"],
            pod_name=spec["podName"],
            pod_uid=spec["podUID"],
            attempt=int(status.get("attempt") or 0),
            launches=int(status.get("launches") or 0),
            intent=Intent.from_dict(status["launch"]) if status.get("launch") else None,
            instance_id=status.get("instanceID"),
            instance_type=status.get("instanceType"),
            market=launch_types.get(shown, shown) if shown else None,
            zone=status.get("zone"),
            address=status.get("ip"),
            pod_ip=status.get("podIP"),
            price=status.get("pricePerHour"),
            host_key=status.get("hostKey"),
            cached_images=tuple(status.get("cachedImages") or ()),
            routes=CloudRoutes.from_dict(status["cloudRoutes"]) if status.get("cloudRoutes") else None,
            conditions=Conditions.from_list(status.get("conditions") or []),
        )


def new_cell_object(pod: Mapping[str, Any]) -> dict[str, Any]:
    """The Cell object to create for this pod. Its name follows from the pod's UID, its finalizer guards the instance."""
    metadata = pod["metadata"]
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "Cell",
        "metadata": {
            "name": cell_name(metadata["uid"]),
            "finalizers": [CELL_FINALIZER],
            # The first Kip copies the pod's labels too: `kubectl get cells -l app=web`.
            "labels": {**(metadata.get("labels") or {}), f"{GROUP}/node": pod["spec"]["nodeName"]},
        },
        "spec": {
            "nodeName": pod["spec"]["nodeName"],
            "podName": metadata["name"],
            "podNamespace": metadata["namespace"],
            "podUID": metadata["uid"],
        },
    }


def _with_ready(conditions: Conditions, now: datetime) -> Conditions:
    """Ready is the sum: launched, connected and serving, and not on the way out."""
    for kind in (TERMINATED, DRAINED):
        ending = conditions.get(kind)
        if ending is not None:
            return conditions.set(READY, "False", ending.reason, ending.message, now=now)
    for kind in (LAUNCHED, CONNECTED, SERVING):
        step = conditions.get(kind)
        if step is None:
            return conditions.set(READY, "False", f"Not{kind}", f"waiting for {kind}", now=now)
        if not step.is_true:
            return conditions.set(READY, "False", step.reason, step.message, now=now)
    return conditions.set(READY, "True", "Serving", "the cell's kubelet runs the pod", now=now)


def _phase(cell: Cell) -> Phase:
    conditions = cell.conditions
    reached: tuple[tuple[bool, Phase], ...] = (
        (cell.deleting or conditions.get(TERMINATED) is not None, "Terminating"),
        (conditions.get(DRAINED) is not None, "Draining"),
        (conditions.is_true(SERVING), "Running"),
        (conditions.is_true(CONNECTED), "Starting"),
        (conditions.is_true(LAUNCHED), "Connecting" if cell.pod_may_run else "Booting"),
        (cell.intent is not None, "Launching"),
        (conditions.get(LAUNCHED) is not None, "Failed"),
    )
    return next((phase for is_so, phase in reached if is_so), "Pending")
