"""What the machine room knows of an instance, and the EC2 endpoint's control API it learns it from."""

from __future__ import annotations

from typing import Any

import aiohttp
import msgspec

# Tags that make a machine fail in a chosen way; `true` switches a fault on.
FAULT_NO_SSHD = "kip-room/no-sshd"
FAULT_NO_KUBELET = "kip-room/no-kubelet"
FAULT_NO_BOOT = "kip-room/no-boot"


class ControlError(Exception):
    """The EC2 endpoint cannot be asked, or answers something that is not the control API."""


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One instance as the control API tells it; memory in MiB, user data in base64."""

    id: str
    state: str
    type: str
    vcpus: int
    memory_mib: int
    private_ip: str
    mac: str
    subnet_cidr: str
    vpc_cidr: str
    zone: str
    secondary_ips: list[str] = msgspec.field(default_factory=list)
    # Ranges that the VPC's route table leads to other instances, and the address of each.
    routes: dict[str, str] = msgspec.field(default_factory=dict)
    user_data_b64: str = ""
    launch_index: int = 0
    image_id: str = ""
    image_name: str = ""
    gpus: int = 0  # NVIDIA's
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    launch_time: str = ""
    shutdown_behavior: str = "stop"
    market: str = "on-demand"
    # HttpPutResponseHopLimit: how many hops an IMDS token travels; a pod is one hop further than the machine.
    hop_limit: int | None = None

    @property
    def addresses(self) -> list[str]:
        """Every private address, the primary first."""
        return [self.private_ip, *self.secondary_ips]

    @property
    def hostname(self) -> str:
        """The name EC2 gives to an instance by default."""
        return "ip-" + self.private_ip.replace(".", "-")

    @property
    def has_nvidia_driver(self) -> bool:
        """Whether its image is the variant with NVIDIA's driver and container toolkit."""
        return "-nvidia-" in self.image_name

    def has_fault(self, tag: str) -> bool:
        """Whether the instance's tags ask for that fault."""
        return self.tags.get(tag, "").lower() == "true"


class Listing(msgspec.Struct, frozen=True):
    """The endpoint's running instances at one revision; any change gives another revision."""

    revision: int
    running: list[Instance]


class _Answer(msgspec.Struct, frozen=True):
    """The control API's answer; instances are taken apart one by one, because only a running one is complete."""

    revision: int
    instances: list[dict[str, Any]]


def read_listing(body: bytes) -> Listing:
    """The control API's answer as a listing. Raises msgspec.MsgspecError for anything else."""
    answer = msgspec.json.decode(body, type=_Answer)
    running = [entry for entry in answer.instances if entry.get("state") == "running"]
    return Listing(answer.revision, [msgspec.convert(entry, Instance) for entry in running])


class ControlApi:
    """Client of the EC2 endpoint's control API below `/_kip/instances`."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = f"{url.rstrip('/')}/_kip/instances"

    async def list(self, *, newer_than: int | None = None, wait: float = 25.0) -> Listing:
        """The running instances; with `newer_than` the answer waits, `wait` seconds at most, for another revision.

        Raises:
            ControlError: no answer in time, or none that can be understood.
        """
        params: dict[str, str] = {}
        if newer_than is not None:
            params = {"wait": str(wait), "revision": str(newer_than)}
        body = await self._request("GET", self._url, params=params, timeout=wait + 10)
        try:
            return read_listing(body)
        except msgspec.MsgspecError as error:
            raise ControlError(f"GET {self._url}: not a list of instances: {error}") from error

    async def report(self, instance_id: str, state: str, reason: str) -> None:
        """Tells the endpoint that an instance changed its state by itself.

        Raises:
            ControlError: the endpoint cannot be reached or refuses.
        """
        url = f"{self._url}/{instance_id}/state"
        await self._request("POST", url, json={"state": state, "reason": reason}, timeout=10)

    async def _request(self, method: str, url: str, *, timeout: float, **options: Any) -> bytes:
        limit = aiohttp.ClientTimeout(total=timeout)
        try:
            async with self._session.request(method, url, timeout=limit, **options) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ControlError(f"{method} {url}: {str(error) or type(error).__name__}") from error
        if answer.status >= 300:
            raise ControlError(f"{method} {url}: {answer.status} {body[:200]!r}")
        return body
