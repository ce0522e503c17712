"""Where cells are put and what they boot: found in AWS by what is configured, looked at again now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, Generic, Literal, TypeVar

import structlog

from kip.cloud.base import Image, Images, ImageSpec, Network, Subnet
from kip.cloud.errors import CloudError, InvalidRequest, NotFound, Throttled, Unreachable
from kip.model.clock import Clock
from kip.model.hugepages import HugePages
from kip.model.instance_type import InstanceType

log = structlog.get_logger(__name__)

Found = TypeVar("Found")

# Free addresses change with every launch, images every week or two. Stale values cost a failed launch at most.
_FRESH_S = 60.0
_IMAGE_FRESH_S = 600.0
_FAILED_FRESH_S = 2.0
# What was found is still good while AWS cannot be asked; RunInstances may work all the same, being throttled apart.
_STALE_S = 900.0
# Also while nothing is launched the security group is looked after: pods on running cells depend on its rules.
_LOOK_S = 300.0

# Making user data takes some 20 ms; pods of one Deployment want the same huge pages, and most pods none.
_KINDS_AT_HAND = 64

# AWS names its EKS images so: https://docs.aws.amazon.com/eks/latest/userguide/eks-optimized-ami.html
_EKS_IMAGE_OWNER = "amazon"
_EKS_IMAGE_NAME = "amazon-eks-node-al2023-{architecture}-{variant}-{minor}-*"

Variant = Literal["standard", "nvidia"]
"""Of the EKS images, and of what cells are told at boot. The NVIDIA one has driver and container toolkit; there is one
for each architecture since 2025-04 (amazon-eks-ami, CHANGELOG.md)."""
VARIANTS: tuple[Variant, ...] = ("standard", "nvidia")


@dataclass(frozen=True)
class SiteOptions:
    """What is configured about the place of the cells."""

    cluster: str
    kubernetes_minor: str
    """Like `1.36`: the cells' kubelets must not be newer than the API server."""
    subnet_ids: tuple[str, ...] = ()
    subnet_tags: Mapping[str, str] = field(default_factory=dict)
    """Instead of ids."""
    vpc_id: str | None = None
    image: ImageSpec | None = None
    extra_security_groups: tuple[str, ...] = ()
    extra_cidrs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Site:
    """The place: its subnets, the security groups of every cell there, and what cells are told at boot."""

    subnets: tuple[Subnet, ...]
    security_group_ids: tuple[str, ...]
    vpc_cidrs: tuple[str, ...]
    user_data: Callable[[Variant, tuple[HugePages, ...]], bytes]
    """Of machines that have these huge pages; raises InvalidRequest when it is too large."""


@dataclass(frozen=True)
class _Known(Generic[Found]):
    value: Found
    since: float


class Sites:
    """Finds the site once for all who ask at the same time; raises CloudError to each of them."""

    def __init__(
        self,
        network: Network,
        images: Images,
        clock: Clock,
        options: SiteOptions,
        *,
        user_data: Callable[[tuple[str, ...], Variant, tuple[HugePages, ...]], bytes],
    ) -> None:
        """`user_data` makes it from the VPC's ranges; raises InvalidRequest when that is impossible."""
        self._network = network
        self._images = images
        self._clock = clock
        self._options = options
        self._user_data = user_data
        self._lock = asyncio.Lock()
        self._site: _Known[Site] | None = None
        self._image: dict[str, _Known[Image]] = {}
        self._failed: dict[str, tuple[float, CloudError]] = {}

    async def current(self) -> Site:
        """The site as it was at most a minute ago, or a while if AWS cannot be asked now; raises CloudError."""
        # Most find it fresh, and a thousand of them in line for the lock take longer than all else that they do.
        if (site := self._site) is not None and self._is_fresh(site, _FRESH_S):
            return site.value
        async with self._lock:
            self._site = await self._fresh("site", self._site, _FRESH_S, self._find)
            return self._site.value

    async def run(self) -> None:
        """Look at the site now and then for ever, whoever asks."""
        while True:
            await self._clock.sleep(_LOOK_S)
            try:
                await self.current()
            except CloudError as error:
                log.warning("the place of the cells not looked at", error=str(error))

    async def image(self, architecture: str, variant: Variant = "standard") -> Image:
        """The machine image for `amd64` or `arm64`; raises CloudError."""
        what = f"{variant} image for {architecture}"
        if (image := self._image.get(what)) is not None and self._is_fresh(image, _IMAGE_FRESH_S):
            return image.value
        async with self._lock:
            known = await self._fresh(
                what, self._image.get(what), _IMAGE_FRESH_S, lambda: self._find_image(architecture, variant)
            )
            self._image[what] = known
            return known.value

    def forget(self) -> None:
        """Something of it does not exist any more: ask again whoever comes next."""
        self._site = None
        self._image.clear()

    async def _fresh(
        self,
        what: str,
        known: _Known[Found] | None,
        fresh_s: float,
        find: Callable[[], Awaitable[Found]],
    ) -> _Known[Found]:
        """What is known if that is fresh, else what AWS says now; raises CloudError."""
        now = self._clock.monotonic()
        if known is not None and self._is_fresh(known, fresh_s):
            return known
        try:
            return _Known(await self._asked(what, find), now)
        except (Throttled, Unreachable) as error:
            if known is None or now - known.since > _STALE_S:
                raise
            log.debug("AWS cannot be asked; what was found before counts", what=what, error=str(error))
            return known

    def _is_fresh(self, known: _Known[Any], fresh_s: float) -> bool:
        return self._clock.monotonic() - known.since <= fresh_s

    async def _asked(self, what: str, find: Callable[[], Awaitable[Found]]) -> Found:
        """An answer of AWS. An error is the answer to all who stand in line for it: each would wait as long again."""
        failed = self._failed.get(what)
        if failed is not None and self._clock.monotonic() - failed[0] < _FAILED_FRESH_S:
            raise failed[1].with_traceback(None)
        try:
            return await find()
        except CloudError as error:
            self._failed[what] = (self._clock.monotonic(), error)
            raise

    async def _find_image(self, architecture: str, variant: Variant) -> Image:
        found = await self._images.find(image_spec(self._options, architecture, variant))
        wanted = ec2_architecture(architecture)
        if found.architecture != wanted:
            raise InvalidRequest(
                f"image {found.id} ({found.name}) is for {found.architecture}, the pod needs {wanted}; "
                "cells.bootImageSpec names images of one architecture only"
            )
        return found

    async def _find(self) -> Site:
        subnets = await find_subnets(self._network, self._options)
        vpc_id = subnets[0].vpc_id
        cidrs = await self._network.vpc_cidrs(vpc_id)
        # Not remembered: somebody may have deleted it, or taken a rule away.
        own_group = await self._network.ensure_cell_security_group(
            cluster=self._options.cluster, vpc_id=vpc_id, extra_cidrs=self._options.extra_cidrs
        )
        groups = (own_group, *self._options.extra_security_groups)
        user_data = lru_cache(_KINDS_AT_HAND)(partial(self._user_data, cidrs))
        for variant in VARIANTS:
            user_data(variant, ())  # so that whatever is wrong with it is said before there is a pod
        return Site(subnets, groups, cidrs, user_data)


async def find_subnets(network: Network, options: SiteOptions) -> tuple[Subnet, ...]:
    """The subnets that are configured, at least one and all in one VPC.

    Raises:
        NotFound: there is none, or not the one that is named.
        InvalidRequest: they are in several VPCs, or in another than is configured.
        CloudError.
    """
    if options.subnet_ids:
        found = [await network.subnet(subnet_id) for subnet_id in options.subnet_ids]
    else:
        found = await network.subnets(vpc_id=options.vpc_id, tags=options.subnet_tags)
    if not found:
        raise NotFound(_no_subnets(options))
    if len({subnet.vpc_id for subnet in found}) > 1:
        by = "subnetTags (set vpcID too)" if options.subnet_tags else "subnetID"
        where = ", ".join(f"{subnet.id} in {subnet.vpc_id}" for subnet in found)
        raise InvalidRequest(f"cloud.aws.{by}: all subnets must be in one VPC, and found were {where}")
    if options.vpc_id not in (None, "default", found[0].vpc_id):
        raise InvalidRequest(
            f"cloud.aws.subnetID {', '.join(s.id for s in found)} is in {found[0].vpc_id}, "
            f"cloud.aws.vpcID says {options.vpc_id}: set one of them only, or both to the same"
        )
    return tuple(found)


def _no_subnets(options: SiteOptions) -> str:
    vpc = "the default VPC" if options.vpc_id == "default" else options.vpc_id
    if options.subnet_tags:
        tags = ", ".join(f"{key}={value}" for key, value in options.subnet_tags.items())
        return f"no subnet{f' in {vpc}' if vpc else ''} has the tags {tags} (cloud.aws.subnetTags)"
    return f"no subnets in {vpc or 'the default VPC'}; set cloud.aws.subnetID"


def ec2_architecture(architecture: str) -> str:
    """`amd64` as EC2 calls it."""
    return "x86_64" if architecture == "amd64" else architecture


def variant_of(kind: InstanceType) -> Variant:
    """What machines of this type boot. GPUs of other makers have no variant, and no device plugin."""
    return "nvidia" if kind.gpus and kind.gpu_manufacturer == "NVIDIA" else "standard"


def image_spec(options: SiteOptions, architecture: str, variant: Variant = "standard") -> ImageSpec:
    """What is configured, whatever the variant, else AWS's own EKS image (Amazon Linux 2023) for the cluster's
    Kubernetes."""
    if options.image is not None:
        return options.image
    name = _EKS_IMAGE_NAME.format(
        architecture=ec2_architecture(architecture), variant=variant, minor=options.kubernetes_minor
    )
    filters: Mapping[str, tuple[str, ...]] = {"name": (name,)}
    return ImageSpec(owners=(_EKS_IMAGE_OWNER,), filters=filters)
