"""What the cells of one RunInstances call have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from kip.cloud.base import LaunchRequest, Market
from kip.model.requirements import LaunchType


@dataclass(frozen=True)
class LaunchSpec:
    """Everything that the cells of one RunInstances call have in common."""

    instance_type: str
    market: Market
    subnet_id: str
    zone: str
    image_id: str
    root_device_name: str
    security_group_ids: tuple[str, ...]
    user_data: bytes
    root_volume_gib: int | None = None
    instance_profile: str | None = None
    associate_public_ip: bool | None = None
    hop_limit: int = 1
    dedicated: bool = False
    why: str = field(default="", compare=False)
    """How it was chosen, for people; no part of the request."""
    inherited: tuple[str, ...] = field(default=(), compare=False)
    """What of it the pod has not asked for itself, and whose wish that was, for people."""

    def __str__(self) -> str:
        return f"{self.instance_type} in {self.zone}, {self.launch_type}"

    @property
    def launch_type(self) -> LaunchType:
        """As the annotation `launch-type` has it."""
        return "dedicated" if self.dedicated else self.market

    def digest(self, tags: Mapping[str, str] | None = None) -> str:
        """A short fingerprint of all of it and of the tags: the same parameters of the call, the same digest."""
        parts = (
            self.instance_type,
            self.launch_type,
            self.subnet_id,
            self.image_id,
            self.root_device_name,
            ",".join(self.security_group_ids),
            str(self.root_volume_gib),
            str(self.instance_profile),
            str(self.associate_public_ip),
            str(self.hop_limit),
            *(f"{key}={value}" for key, value in sorted((tags or {}).items())),
        )
        return hashlib.sha256("\0".join(parts).encode() + b"\0" + self.user_data).hexdigest()[:32]

    def request(self, *, client_token: str, count: int, tags: Mapping[str, str]) -> LaunchRequest:
        """The call for `count` of them."""
        return LaunchRequest(
            client_token=client_token,
            count=count,
            instance_type=self.instance_type,
            image_id=self.image_id,
            subnet_id=self.subnet_id,
            security_group_ids=self.security_group_ids,
            user_data=self.user_data,
            market=self.market,
            root_volume_gib=self.root_volume_gib,
            root_device_name=self.root_device_name,
            instance_profile=self.instance_profile,
            associate_public_ip=self.associate_public_ip,
            hop_limit=self.hop_limit,
            dedicated=self.dedicated,
            tags=tags,
        )
