"""From a pod to the requests that EC2 may be asked, best first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import structlog

from kip.cells import machine
from kip.cells.launch import NoOffer
from kip.cells.site import Site, Sites, variant_of
from kip.cells.spec import LaunchSpec
from kip.cells.stages import Pod
from kip.cloud import catalogue
from kip.cloud.base import Market, Subnet
from kip.cloud.errors import CloudError, InvalidRequest, NotFound, SubnetFull
from kip.cloud.instance_data import InstanceData
from kip.cloud.unavailable import UnavailableOfferings
from kip.model.cell import Intent
from kip.model.instance_type import InstanceType
from kip.model.market import NOTHING_KNOWN, MarketData
from kip.model.offer import Offer
from kip.model.quantity import GIB, MIB
from kip.model.requirements import LaunchType, Requirements
from kip.pods.annotations import InvalidAnnotationError, Layer
from kip.pods.architecture import NOTHING_SAID, OfImages
from kip.pods.requirements import Known, requirements
from kip.pods.spread import Neighbour
from kip.selection.choose import Choice, Chooser, Constraints, NoFit

log = structlog.get_logger(__name__)

# What the EKS images have; the cells' kubelets report what theirs really is.
_USUAL_VOLUME_GIB = 20
# A pod's packets take one more hop to the metadata service than the cell's own. Only a pod that was given a role
# needs to get there.
_HOPS_OF_A_CELL, _HOPS_OF_A_POD = 1, 2
# Pods that were admitted and have not been launched yet: more than there are at once.
_REMEMBERED = 2000
# More alternatives are not tried in one go: each refusal takes EC2 a second.
_OFFERS_IN_ONE_GO = 8


@dataclass(frozen=True)
class PlanOptions:
    """What is configured about the machines."""

    region: str
    default_instance_type: str
    default_volume_bytes: int
    private_ip_only: bool = False
    instance_profile: str | None = None
    max_pods: int = 8
    allowed_types: tuple[str, ...] = ()
    """Families, types or patterns; empty allows all."""
    excluded_types: tuple[str, ...] = ()
    instance_data: InstanceData = field(default_factory=InstanceData)


class Around(Protocol):
    """What decides about a pod's zone besides the pod itself (kip.cells.neighbourhood)."""

    async def volume_zones(self, pod: Pod) -> frozenset[str] | None:
        """Zones in which all of its bound volumes are; None when they are in none in particular. Raises KubeError."""
        ...

    def neighbours(self, pod: Pod) -> tuple[Neighbour, ...]:
        """Pods among which it wants to be spread, and where they are."""
        ...

    def expect(self, pod: Pod, zone: str | None) -> None:
        """It is about to get a machine there; None takes that back."""
        ...


class _Nothing:
    """Nothing is around."""

    async def volume_zones(self, pod: Pod) -> frozenset[str] | None:
        return None

    def neighbours(self, pod: Pod) -> tuple[Neighbour, ...]:
        return ()

    def expect(self, pod: Pod, zone: str | None) -> None:
        pass


async def _nothing_said(pod: Pod) -> OfImages:
    return NOTHING_SAID


class SelectingPlanner:
    """Chooses from the catalogue, for the site and the market as they are now."""

    def __init__(
        self,
        sites: Sites,
        unavailable: UnavailableOfferings,
        options: PlanOptions,
        *,
        around: Around | None = None,
        defaults: Callable[[Pod], tuple[Layer, ...]] = lambda pod: (),
        built: Callable[[Pod], Awaitable[OfImages]] = _nothing_said,
    ) -> None:
        """What is known of a pod besides itself: what is `around` it (without it nothing), the annotations that count for
        those that it lacks, and what its images are `built` for."""
        self._sites = sites
        self._unavailable = unavailable
        self._options = options
        self._around = around or _Nothing()
        self._defaults = defaults
        self._built = built
        self._types: Mapping[str, InstanceType] = {}
        self._market = NOTHING_KNOWN
        self._chooser: tuple[Mapping[str, str], Chooser] | None = None
        self._made: dict[str, tuple[Pod, Site, tuple[LaunchSpec, ...]]] = {}
        self.refresh(NOTHING_KNOWN)

    def refresh(self, market: MarketData, types: Iterable[InstanceType] | None = None) -> None:
        """Choose by these facts from now on; the file of one's own still goes on top.

        `types` are all that the region has (`kip.cloud.shapes` reads what EC2 says of them); None keeps to the built-in
        catalogue.
        """
        own = self._options.instance_data
        known = catalogue.load(self._options.region) if types is None else types
        self._types = {kind.name: kind for kind in own.types(known)}
        self._market = own.market(market)
        self._chooser = None
        self._made.clear()

    async def plan(self, pod: Pod) -> tuple[LaunchSpec, ...]:
        """What to ask EC2 for, best first; raises NoOffer, CloudError, KubeError."""
        site = await self._sites.current()
        made = self._made.pop(pod["metadata"]["uid"], None)
        if made is not None and made[0] is pod and made[1] is site:
            return made[2]
        return await self._plan(pod, site)

    async def foresee(self, pod: Pod) -> None:
        """The next `plan` for this pod, made now; raises what it raises."""
        site = await self._sites.current()
        self._made[pod["metadata"]["uid"]] = pod, site, await self._plan(pod, site)
        if len(self._made) > _REMEMBERED:
            del self._made[next(iter(self._made))]

    async def _plan(self, pod: Pod, site: Site) -> tuple[LaunchSpec, ...]:
        volume_zones = await self._around.volume_zones(pod)
        built = await self._built(pod)
        # Nothing is awaited from here to `expect`: of pods that come at once, each has to see where those before it go.
        try:
            needs = self._requirements(pod, volume_zones, built)
            subnets = _by_zone(site, self._unavailable.subnets())
            choice = self._choose(needs, site, tuple(subnets))
        except NoOffer:
            self._around.expect(pod, None)
            raise
        self._around.expect(pod, choice.offers[0].zone)
        why = "; ".join(filter(None, (str(choice), built.told)))
        log.debug("chose", pod=pod["metadata"]["name"], choice=why)
        specs = [await self._spec(needs, offer, site, subnets[offer.zone]) for offer in choice.offers]
        return tuple(replace(spec, why=why) for spec in specs)

    def _requirements(self, pod: Pod, volume_zones: frozenset[str] | None, built: OfImages) -> Requirements:
        known = Known(
            volume_zones=volume_zones,
            image_architectures=built.architectures,
            neighbours=self._around.neighbours(pod),
            defaults=self._defaults(pod),
        )
        return _requirements(pod, known)

    def _choose(self, needs: Requirements, site: Site, zones: tuple[str, ...]) -> Choice:
        options = self._options
        constraints = Constraints(
            zones=zones,
            default_instance_type=options.default_instance_type,
            allowed=options.allowed_types,
            excluded=options.excluded_types,
            max_offers=_OFFERS_IN_ONE_GO,
        )
        choice = self._chooser_for(site).choose(needs, constraints, self._unavailable.current())
        if isinstance(choice, NoFit):
            raise NoOffer(choice.message, reason=choice.reason)
        return choice

    def _chooser_for(self, site: Site) -> Chooser:
        """One for the zones as they are; what EC2 said of a zone counts before the catalogue."""
        zone_ids = {subnet.zone: subnet.zone_id for subnet in site.subnets if subnet.zone_id}
        if self._chooser is None or self._chooser[0] != zone_ids:
            types = tuple(self._types.values())
            offered = {**catalogue.offered_by_zone(types, zone_ids), **self._market.offered}
            self._chooser = zone_ids, Chooser(types, replace(self._market, offered=offered))
        return self._chooser[1]

    async def replan(self, pod: Pod, intent: Intent) -> LaunchSpec | None:
        """The request that led to this intent, if it can still be made in the same way; raises CloudError."""
        try:
            return await self._again(pod, intent)
        except (NoOffer, InvalidRequest, NotFound) as error:
            # Somebody has changed an annotation or the configuration since: what was launched can still be looked for.
            log.info("a launch cannot be repeated", pod=pod["metadata"]["name"], error=str(error))
            return None

    async def _again(self, pod: Pod, intent: Intent) -> LaunchSpec | None:
        site = await self._sites.current()
        subnet = next((s for s in site.subnets if s.id == intent.subnet_id), None)
        kind = self._types.get(intent.instance_type)
        if subnet is None or kind is None:
            return None
        market: Market = "spot" if intent.market == "spot" else "on-demand"
        offer = Offer(kind, subnet.zone, market, None, dedicated=intent.market == "dedicated")
        # Where it goes is settled, so what is around the pod is no matter.
        needs = _requirements(pod, Known(defaults=self._defaults(pod)))
        return await self._spec(needs, offer, site, subnet)

    def unavailable(self, spec: LaunchSpec, error: CloudError) -> None:
        """Leave this offer out for a while, or its subnet for every machine."""
        self._made.clear()
        if isinstance(error, SubnetFull):
            self._unavailable.mark_subnet(spec.subnet_id, error.summary)
        else:
            self._unavailable.mark(spec.instance_type, spec.zone, spec.launch_type, str(error))

    def left_out(self, spec: LaunchSpec) -> bool:
        """Was this refused lately, to whomever?"""
        if spec.subnet_id in self._unavailable.subnets():
            return True
        return self._unavailable.why(spec.instance_type, spec.zone, spec.launch_type) is not None

    def forget_site(self) -> None:
        """Look again before the next plan."""
        self._made.clear()
        self._sites.forget()

    def price(self, instance_type: str, zone: str, launch_type: LaunchType) -> str | None:
        """US dollars an hour as text; None when it is not known."""
        kind = self._types.get(instance_type)
        if launch_type == "spot":
            usd = self._market.spot_price(instance_type, zone)
        elif launch_type == "dedicated":
            usd = self._market.dedicated.get(instance_type)
        else:
            usd = self._market.on_demand.get(instance_type, kind.usd_per_hour if kind else None)
        return None if usd is None else f"{usd:.6f}".rstrip("0").rstrip(".")

    def capacity(self, instance_type: str) -> dict[str, str]:
        """What a machine of this type has, as Kubernetes quantities; nothing for an unknown type."""
        kind = self._types.get(instance_type)
        if kind is None:
            return {}
        return {
            "cpu": str(kind.vcpus),
            "memory": f"{kind.memory_mib}Mi",
            "pods": str(self._options.max_pods),
            "ephemeral-storage": f"{_USUAL_VOLUME_GIB * GIB // MIB}Mi",
        }

    def labels(self, instance_type: str, *, zone: str, market: str) -> dict[str, str]:
        """What a Node on this machine says of it; nothing for an unknown type."""
        kind = self._types.get(instance_type)
        return machine.labels(kind, region=self._options.region, zone=zone, market=market) if kind else {}

    async def _spec(self, needs: Requirements, offer: Offer, site: Site, subnet: Subnet) -> LaunchSpec:
        options = self._options
        variant = variant_of(offer.instance_type)
        image = await self._sites.image(offer.instance_type.architecture, variant)
        private = options.private_ip_only if needs.private_ip_only is None else needs.private_ip_only
        profile = needs.instance_profile or options.instance_profile
        volume = -(-max(needs.volume_bytes, options.default_volume_bytes) // GIB)
        return LaunchSpec(
            instance_type=offer.instance_type.name,
            market=offer.market,
            subnet_id=subnet.id,
            zone=subnet.zone,
            image_id=image.id,
            root_device_name=image.root_device_name,
            security_group_ids=tuple(dict.fromkeys((*site.security_group_ids, *needs.security_groups))),
            user_data=site.user_data(variant, needs.huge_pages),
            root_volume_gib=max(volume, image.root_volume_gib),
            instance_profile=profile,
            associate_public_ip=False if private else None,
            hop_limit=_HOPS_OF_A_POD if profile else _HOPS_OF_A_CELL,
            dedicated=offer.dedicated,
            inherited=needs.inherited,
        )


def _requirements(pod: Pod, known: Known) -> Requirements:
    try:
        return requirements(pod, known)
    except InvalidAnnotationError as error:
        raise NoOffer(str(error), reason="InvalidAnnotation") from error


def _by_zone(site: Site, full: Mapping[str, str]) -> dict[str, Subnet]:
    """One subnet for each zone: the one with most free addresses. Zones with more room come first; raises NoOffer.

    `full` are subnets without a free address, and EC2's words for it.
    """
    roomy = sorted(site.subnets, key=lambda s: (-s.free_addresses, s.id))
    found: dict[str, Subnet] = {}
    for subnet in roomy:
        if subnet.id not in full:
            found.setdefault(subnet.zone, subnet)
    if not found:
        words = "; ".join(f"{s.id}: {full[s.id]}" for s in roomy)
        raise NoOffer(f"every subnet of cells is full: {words}", reason=SubnetFull.reason)
    return found
