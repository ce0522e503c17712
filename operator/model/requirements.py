"""What a pod needs of a machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kip.model.hugepages import SIZES, HugePages
from kip.model.placement import Term
from kip.model.quantity import format_millis, human_bytes
from kip.model.spread import ZoneSpread

#: The resource by which pods request whole GPUs of NVIDIA.
GPU = "nvidia.com/gpu"
#: How an instance is paid for. `spot` may be taken back by EC2 with two minutes' notice.
Market = Literal["on-demand", "spot"]
#: How an instance is launched: `dedicated` is on demand, on hardware that no other account uses.
LaunchType = Literal["on-demand", "spot", "dedicated"]
#: What a pod can ask for; `spot-preferred` is spot while there is some, then on demand.
MarketWish = Literal["on-demand", "spot", "spot-preferred"]


@dataclass(frozen=True, slots=True)
class Part:
    """One reason for a number in the requirements, for people."""

    source: str
    """Like `container web`, `overhead`, `annotation pod.elotl.co/volume-size`."""
    cpu_millis: int = 0
    memory_bytes: int = 0
    volume_bytes: int = 0
    gpus: int = 0
    huge_pages_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """Amounts that the machine must leave to the pod, and conditions on the machine.

    What the machine keeps for itself depends on its size and is subtracted when one is chosen
    (`kip.model.reserve`).
    """

    cpu_millis: int = 0
    memory_bytes: int = 0
    """Huge pages are not in it: they come on top."""
    huge_pages: tuple[HugePages, ...] = ()
    gpus: int = 0
    """Whole NVIDIA GPUs (`nvidia.com/gpu`)."""
    gpu_kinds: tuple[str, ...] = ()
    """Any of these, like `a10g`; empty leaves the choice."""
    other_resources: tuple[str, ...] = ()
    """Names of requested resources that no cell has, like `example.com/fpga`."""
    volume_bytes: int = 0
    """Least size of the root volume; 0 when the default will do."""
    architectures: frozenset[str] | None = None
    """Any of these, as Kubernetes names them; None when neither pod nor image say anything about it."""
    architectures_from: str = "the pod's node selector or affinity wants"
    """The beginning of a sentence about `architectures`."""
    architectures_inferred: bool = False
    """Only the pod's images say so: who asks for instance types by name knows better."""
    market: MarketWish = "on-demand"
    dedicated: bool = False
    """On hardware that no other account uses; on demand only."""
    terms: tuple[Term, ...] = ()
    """What the pod's node selector and affinity say about the machine: any of these, or nothing."""
    volume_zones: frozenset[str] | None = None
    """Zones in which the pod's volumes are; None when they are in no zone in particular."""
    spreads: tuple[ZoneSpread, ...] = ()
    instance_type: str | None = None
    """Exactly this type, or a pattern with `*`; None leaves the choice."""
    private_ip_only: bool | None = None
    """None leaves it to the configuration."""
    security_groups: tuple[str, ...] = ()
    """More groups than those of the configuration."""
    instance_profile: str | None = None
    """Name or ARN; None leaves it to the configuration."""
    inherited: tuple[str, ...] = ()
    """Values that are not the pod's own and whose they are, for people."""
    sized: bool = True
    """False when the pod asks for neither CPU nor memory nor GPUs."""
    parts: tuple[Part, ...] = ()
    """Where the amounts come from."""

    @property
    def huge_pages_bytes(self) -> int:
        """What the machine's kernel takes out of its memory for them."""
        return sum(pages.number * SIZES[pages.resource] for pages in self.huge_pages)

    def __str__(self) -> str:
        amounts = [
            f"{format_millis(self.cpu_millis)} CPU" if self.cpu_millis else "",
            f"{human_bytes(self.memory_bytes)} memory" if self.memory_bytes else "",
            f"{human_bytes(self.huge_pages_bytes)} huge pages" if self.huge_pages_bytes else "",
            (f"{self.gpus} GPUs" if self.gpus > 1 else "1 GPU") if self.gpus else "",
        ]
        return ", ".join(filter(None, amounts)) or "nothing in particular"
