"""What Prometheus is told, as data: docs/metrics.md is made from it, and dashboards and alerts are checked against it.

Every label has a bounded set of values: none is a pod's or a cell's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from kip.model.cell import Phase

Kind = Literal["counter", "gauge", "histogram"]
#: `stable`: name, labels and meaning change with a major version only. `beta`: a minor version may change them, and
#: CHANGELOG.md says so.
Stability = Literal["stable", "beta"]

PHASES: tuple[Phase, ...] = get_args(Phase)
#: The way of a pod to its start, in order; each is measured from the pod's creation.
START_STAGES = ("cell_created", "launch_requested", "launched", "reachable", "connected", "shown", "running")
#: Why EC2 gives no instance: the reasons of kip.cloud.errors.
LAUNCH_ERRORS = (
    "InsufficientCapacity",
    "Throttled",
    "QuotaExceeded",
    "SubnetFull",
    "NotAuthorized",
    "InvalidRequest",
    "NotFound",
    "ClientTokenConflict",
    "CloudUnreachable",
    "CloudError",
)
#: Why a machine is ended before its pod has run on it.
GIVEN_UP_REASONS = ("BootFailed", "CellUnreachable", "InstanceGone", "KubeletSilent", "NoDevices")
#: What becomes of a pod's image with the image cache: kip.images.seeding.Outcome.
SEED_OUTCOMES = ("cached", "partly", "missing", "present", "denied", "late", "broken")
#: How a pass over a cell ends.
RESULTS = ("done", "wait", "stop", "error", "cancelled")
#: Where the keys of the work queue are.
QUEUE_STATES = ("scheduled", "waiting", "active")
TUNNEL_STATES = ("open", "dialling")

#: Values that a label may have before further ones are counted as `OTHERS`: no client of ours may fill a Prometheus.
MOST_NAMESPACES = 1000
MOST_CODES = 100
OTHERS = "(others)"

# Fine where the goals are: 150 and 500 ms to the launch, some seconds from there; coarse up to the timeouts.
_START_BUCKETS = (0.05, 0.1, 0.15, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600)
_CALL_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


@dataclass(frozen=True, kw_only=True)
class Definition:
    """One metric. A counter's name ends in `_total`, as it is scraped."""

    name: str
    kind: Kind
    help: str
    labels: Mapping[str, str] = field(default_factory=dict)
    """What the values of each label are, for people."""
    stability: Stability = "stable"
    buckets: tuple[float, ...] = ()
    """Upper bounds in seconds, of a histogram."""

    def __post_init__(self) -> None:
        if self.name.endswith("_total") != (self.kind == "counter"):
            raise ValueError(f"{self.name}: counters, and nothing else, end in _total")
        if bool(self.buckets) != (self.kind == "histogram"):
            raise ValueError(f"{self.name}: histograms, and nothing else, have buckets")


def _one_of(values: Iterable[str]) -> str:
    return ", ".join(f"`{value}`" for value in values)


_NODE = "name of the virtual node"
_PRODUCT = "product code of AWS Marketplace"
_ACTION = "AWS action, like `RunInstances`"
_NAMESPACE = f"namespace of the pod; those beyond {MOST_NAMESPACES} are counted together as `{OTHERS}`"

BUILD = Definition(
    name="kip_build_info",
    kind="gauge",
    help="Always 1; the label tells the running version.",
    labels={"version": "version of Kip"},
)
LEADER = Definition(
    name="kip_leader",
    kind="gauge",
    help="Whether this process serves the virtual node: 1 or 0.",
    labels={"node": _NODE},
)
NODE_READY = Definition(
    name="kip_node_ready",
    kind="gauge",
    help="Whether the virtual node is Ready: 1 or 0; told by the process that serves it.",
    labels={"node": _NODE},
)
CELLS = Definition(
    name="kip_cells",
    kind="gauge",
    help="Cells, by phase.",
    labels={"phase": _one_of(PHASES)},
)
OLDEST = Definition(
    name="kip_cells_oldest_seconds",
    kind="gauge",
    help="How long ago anything last changed about the cell of this phase of which that is longest; 0 without cells.",
    labels={"phase": "as in kip_cells"},
    stability="beta",
)
INSTANCES = Definition(
    name="kip_instances",
    kind="gauge",
    help="EC2 instances that cells have.",
    labels={
        "instance_type": "EC2 instance type",
        "zone": "availability zone",
        "market": "`on-demand`, `spot`, `dedicated`",
    },
    stability="beta",
)
PRICE = Definition(
    name="kip_cells_price_usd_per_hour",
    kind="gauge",
    help="What the running instances of cells cost an hour, by list price; those of unknown price are not in it.",
    labels={"namespace": _NAMESPACE},
)
UNPRICED = Definition(
    name="kip_cells_of_unknown_price",
    kind="gauge",
    help="Instances of cells whose price is not known.",
)
COST = Definition(
    name="kip_cells_cost_usd_total",
    kind="counter",
    help="What instances of cells have cost by list price, from launch to end, at least 60 seconds each as AWS bills "
    "them; without volumes, traffic, taxes and discounts.",
    labels={"namespace": _NAMESPACE},
)
START = Definition(
    name="kip_pod_start_seconds",
    kind="histogram",
    help="Time from a pod's creation to each stage of its start. The creation is known to the second only.",
    labels={"stage": _one_of(START_STAGES)},
    buckets=_START_BUCKETS,
)
LAUNCHES = Definition(
    name="kip_cell_launches_total",
    kind="counter",
    help="Offers that EC2 was asked for, once for each cell that wanted one.",
    labels={"result": "`ok` or `error`", "reason": f"empty, or of an error {_one_of(LAUNCH_ERRORS)}"},
)
GIVEN_UP = Definition(
    name="kip_cells_given_up_total",
    kind="counter",
    help="Machines that were ended before their pod ran on them.",
    labels={"reason": _one_of(GIVEN_UP_REASONS)},
)
SEEDED = Definition(
    name="kip_image_cache_seeded_total",
    kind="counter",
    help="Images of pods for which the image cache was asked, by what a cell got of them.",
    labels={"outcome": _one_of(SEED_OUTCOMES)},
    stability="beta",
)
SAVED = Definition(
    name="kip_image_cache_saved_bytes_total",
    kind="counter",
    help="Sizes in the registry of layers that cells had from the image cache and did not download.",
    stability="beta",
)
SEEDING = Definition(
    name="kip_image_cache_seeding_seconds",
    kind="histogram",
    help="Time that a pod was held back for the image cache.",
    stability="beta",
    buckets=_CALL_BUCKETS,
)
AWS_CALLS = Definition(
    name="kip_aws_calls_total",
    kind="counter",
    help="Calls of AWS; what the SDK repeats by itself is one.",
    labels={
        "action": _ACTION,
        "result": "`ok`, `cancelled`, or what Kip takes the error for, like `Throttled`",
        "code": f"AWS's error code, empty without one; more than {MOST_CODES} are counted together as `{OTHERS}`",
    },
)
AWS_SECONDS = Definition(
    name="kip_aws_call_seconds",
    kind="histogram",
    help="Time that calls of AWS took.",
    labels={"action": _ACTION},
    buckets=_CALL_BUCKETS,
)
AWS_BUCKET = Definition(
    name="kip_aws_bucket_tokens",
    kind="gauge",
    help="Calls that may be made at once before Kip holds the next one back to stay below AWS's limits; negative while "
    "calls wait.",
    labels={"action": _ACTION},
    stability="beta",
)
QUEUE = Definition(
    name="kip_queue_depth",
    kind="gauge",
    help="Pods in the work queue: to be looked at again later, waiting for their turn, and being worked on.",
    labels={"state": _one_of(QUEUE_STATES)},
)
RECONCILES = Definition(
    name="kip_reconciles_total",
    kind="counter",
    help="Passes over one cell's stages.",
    labels={"result": _one_of(RESULTS)},
)
TUNNELS = Definition(
    name="kip_tunnels",
    kind="gauge",
    help="SSH connections to cells.",
    labels={"state": _one_of(TUNNEL_STATES)},
)
CELLAPI_REQUESTS = Definition(
    name="kip_cellapi_requests_total",
    kind="counter",
    help="Requests of cells' kubelets to the API that they see, when they have been answered.",
    labels={"rule": "rule that decided", "verdict": "what it decided", "code": "HTTP status"},
)
KUBELET_REQUESTS = Definition(
    name="kip_kubelet_requests_total",
    kind="counter",
    help="Requests to the virtual node's kubelet API.",
    labels={"path": "`containerLogs`, `exec`, `stats/summary`, …, `other`", "code": "HTTP status"},
)
KUBELET_SECONDS = Definition(
    name="kip_kubelet_request_seconds",
    kind="histogram",
    help="Time to answer them; a stream's is its whole life.",
    labels={"path": "as in kip_kubelet_requests_total"},
    buckets=(*_CALL_BUCKETS, 60, 600, 3600),
)
NOT_SCRAPED = Definition(
    name="kip_kubelet_cells_not_scraped_total",
    kind="counter",
    help="Cells that were missing in an answer about the whole node.",
    labels={"path": "`pods`, `stats/summary`, `metrics/cadvisor`, …"},
)
CATALOGUE_AS_OF = Definition(
    name="kip_catalogue_as_of_timestamp_seconds",
    kind="gauge",
    help="Unix time of which is known what instances are chosen by; a source that AWS has not told is missing, but for "
    "the prices that come with Kip.",
    labels={"source": "`types`, `offerings`, `prices`, `spot`"},
)
CATALOGUE_REFRESHES = Definition(
    name="kip_catalogue_refreshes_total",
    kind="counter",
    help="Attempts to learn it from AWS; each may take many calls.",
    labels={"source": "as above", "result": "`ok` or the error's kind"},
)

METERING_RECORDS = Definition(
    name="kip_metering_records_total",
    kind="counter",
    help="Calls of AWS Marketplace to tell an hour's use; there only when `cloud.aws.marketplace` is configured.",
    labels={"product": _PRODUCT, "result": "`ok` or the error's kind"},
    stability="beta",
)
METERING_UNTIL = Definition(
    name="kip_metering_told_timestamp_seconds",
    kind="gauge",
    help="Unix time until which AWS Marketplace knows the use; before the first record, since when it is counted.",
    labels={"product": _PRODUCT},
    stability="beta",
)
METERING_UNTOLD = Definition(
    name="kip_metering_untold_cell_hours",
    kind="gauge",
    help="Use that is counted and that AWS Marketplace does not know yet.",
    labels={"product": _PRODUCT},
    stability="beta",
)

_LARGE_BUCKETS = (0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
#: What the image cache controller is doing with images.
FETCH_STATES = ("waiting", "running", "failed")
#: How the caching of an image ended; anything else is the reason of an error.
FETCH_RESULTS = ("cached", "present")

CACHE_IMAGES = Definition(
    name="kip_image_cache_images",
    kind="gauge",
    help="Images on the volume.",
)
CACHE_LAYERS = Definition(
    name="kip_image_cache_layers",
    kind="gauge",
    help="Layers on the volume, also such as no image has any more.",
)
CACHE_BYTES = Definition(
    name="kip_image_cache_bytes",
    kind="gauge",
    help="What the cache takes on the volume: finished layers, and files in the making or left in it.",
    labels={"kind": "`layers`, `temporary`"},
)
CACHE_FREE = Definition(
    name="kip_image_cache_volume_free_bytes",
    kind="gauge",
    help="What is free on the volume; EFS says 8 EiB.",
)
CACHE_BLOCKED = Definition(
    name="kip_image_cache_blocked",
    kind="gauge",
    help="1 while something keeps the controller from its work, else 0; its log says what.",
    labels={
        "what": "`fetching`: no space, or the volume cannot be used; `evicting`: the cells cannot be asked what they "
        "have, or one has an image that is not known any more"
    },
)
CACHE_FETCHES = Definition(
    name="kip_image_cache_fetches_total",
    kind="counter",
    help="Images that were looked at, by how that ended.",
    labels={
        "result": "`cached`, `present` (nothing was to be done), or why not, like `ImageDenied`, `VolumeFull`, `NotAnImage`"
    },
)
CACHE_FETCHED_BYTES = Definition(
    name="kip_image_cache_fetched_bytes_total",
    kind="counter",
    help="Bytes of blobs that were downloaded from registries.",
)
CACHE_SECONDS = Definition(
    name="kip_image_cache_fetch_seconds",
    kind="histogram",
    help="Time to download and convert an image of which something was missing.",
    buckets=_LARGE_BUCKETS,
)
CACHE_QUEUE = Definition(
    name="kip_image_cache_queue",
    kind="gauge",
    help="Images that are wanted and not cached: waiting for their turn, being fetched, and waiting after a failure.",
    labels={"state": ", ".join(f"`{s}`" for s in FETCH_STATES)},
)
CACHE_EVICTIONS = Definition(
    name="kip_image_cache_evictions_total",
    kind="counter",
    help="What was taken from the volume.",
    labels={"what": "`image`, `layer`, `temporary`"},
)

#: All of the operator's, in the order in which people want to read about them.
DEFINITIONS: tuple[Definition, ...] = (
    BUILD,
    LEADER,
    NODE_READY,
    CELLS,
    OLDEST,
    INSTANCES,
    PRICE,
    UNPRICED,
    COST,
    START,
    LAUNCHES,
    GIVEN_UP,
    SEEDED,
    SAVED,
    SEEDING,
    AWS_CALLS,
    AWS_SECONDS,
    AWS_BUCKET,
    QUEUE,
    RECONCILES,
    TUNNELS,
    CELLAPI_REQUESTS,
    KUBELET_REQUESTS,
    KUBELET_SECONDS,
    NOT_SCRAPED,
    CATALOGUE_AS_OF,
    CATALOGUE_REFRESHES,
    METERING_RECORDS,
    METERING_UNTIL,
    METERING_UNTOLD,
)

#: Those of `kip image-cache run`.
IMAGE_CACHE: tuple[Definition, ...] = (
    CACHE_IMAGES,
    CACHE_LAYERS,
    CACHE_BYTES,
    CACHE_FREE,
    CACHE_BLOCKED,
    CACHE_QUEUE,
    CACHE_FETCHES,
    CACHE_FETCHED_BYTES,
    CACHE_SECONDS,
    CACHE_EVICTIONS,
)
