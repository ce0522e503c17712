"""What AWS says."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

from kip.app.aws import sdk_settings
from kip.app.location import Location, locate
from kip.app.site import site_options
from kip.cells.site import SiteOptions, Variant, find_subnets, image_spec
from kip.cloud.base import GONE_STATES, Image, Instance
from kip.cloud.date import date_of
from kip.cloud.ec2 import to_instance
from kip.cloud.images import Ec2Images
from kip.cloud.metadata import Whereabouts
from kip.cloud.network import Ec2Network
from kip.cloud.routes import Ec2Routes
from kip.cloud.sdk import Ec2Sdk, Session, filters
from kip.cloud.securitygroup import CellSecurityGroups
from kip.config import Aws
from kip.doctor.asking import Asking
from kip.doctor.facts import (
    CONFIGURED,
    NOT_ASKED,
    ClusterVersion,
    Fact,
    Facts,
    Identity,
    Profile,
    Tried,
    Unanswered,
)
from kip.doctor.look.dryruns import calls, dry_run
from kip.doctor.look.reads import price_list, reads, registry_login
from kip.doctor.quotas import SERVICE, quota_of, vcpus, watched
from kip.model import names
from kip.model.clock import Clock
from kip.model.requirements import GPU

# EC2 answers 100 calls at once and 20 a second of each kind; few at a time disturb nobody.
_AT_ONCE = 5


@dataclass(frozen=True)
class Cloud:
    """How AWS is asked, and by whose clock."""

    whereabouts: Callable[[], Awaitable[Whereabouts | None]]
    clock: Clock
    open_session: Callable[[Any], Session] = Session


async def look_at_aws(facts: Facts, asking: Asking, cloud: Cloud) -> Facts:
    """The facts with those of AWS; the cluster's have to be there."""
    aws = facts.settings.cloud.aws
    location, here = await asyncio.gather(
        asking.ask(lambda: locate(aws, cloud.whereabouts)),
        asking.ask(cloud.whereabouts) if facts.in_cluster else asking.ask(_nowhere),
    )
    facts = replace(facts, location=location, here=here)
    region = location.region if isinstance(location, Location) else aws.region
    if region is None:
        return facts
    settings = replace(sdk_settings(aws, region), read_timeout=asking.timeout_s, max_attempts=2)
    session = cloud.open_session(settings)
    facts = await _who(facts, asking, session)
    async with AsyncExitStack() as stack:
        ec2 = await asking.ask(lambda: stack.enter_async_context(session.ec2()))
        if isinstance(ec2, Unanswered):
            return facts
        facts = replace(
            facts, clocks={**facts.clocks, "AWS": await asking.ask(lambda: _ahead(ec2, asking, aws, cloud))}
        )
        # Nothing more can be asked by nobody, nor of nobody.
        if isinstance(facts.credentials, Unanswered) or isinstance(facts.clocks["AWS"], Unanswered):
            return facts
        facts = await _looked(facts, asking, session, ec2)
        return await _tried(facts, asking, session, ec2)


async def _nowhere() -> Whereabouts | None:
    return None


async def _who(facts: Facts, asking: Asking, session: Session) -> Facts:
    credentials = await asking.ask(session.credentials)
    if isinstance(credentials, Unanswered):
        return replace(facts, credentials=credentials)
    return replace(facts, credentials=credentials, identity=await asking.ask(lambda: _identity(session)))


async def _identity(session: Session) -> Identity:
    answer = await session.account().get_caller_identity()
    return Identity(answer["Account"], answer["Arn"])


async def _ahead(ec2: Ec2Sdk, asking: Asking, aws: Aws, cloud: Cloud) -> float:
    """Seconds that our clock is ahead of EC2's."""
    before = cloud.clock.now()
    theirs = await date_of(
        ec2.endpoint_url, timeout_s=asking.timeout_s, verify_tls=not aws.insecure_tls_skip_verify
    )
    between = before + (cloud.clock.now() - before) / 2
    # Cut to the second, so it is half a second ago on average.
    return (between - theirs - timedelta(seconds=0.5)).total_seconds()


async def _looked(facts: Facts, asking: Asking, session: Session, ec2: Ec2Sdk) -> Facts:
    """With what there is in AWS."""
    name = facts.cluster
    cells, running = await asyncio.gather(
        _not_asked() if isinstance(name, Unanswered) else asking.ask(lambda: _cells(ec2, name)),
        asking.ask(lambda: _running_vcpus(ec2)),
    )
    facts = replace(
        facts,
        cells=cells,
        running_vcpus=running,
        quotas=await _quotas(facts, asking, session),
        profile=await _profile(facts, asking, session),
    )
    if isinstance(facts.location, Unanswered):
        return facts
    cluster = facts.cluster if isinstance(facts.cluster, str) else ""
    minor = facts.version.minor if isinstance(facts.version, ClusterVersion) else ""
    options = site_options(facts.settings, facts.location, cluster=cluster, kubernetes_minor=minor)
    network = Ec2Network(ec2)
    subnets, images = await asyncio.gather(
        asking.ask(lambda: find_subnets(network, options)), _images(facts, asking, ec2, options)
    )
    facts = replace(facts, subnets=subnets, images=images)
    if isinstance(subnets, Unanswered):
        return facts
    return await _in_the_vpc(facts, asking, ec2, subnets[0].vpc_id, options)


async def _in_the_vpc(facts: Facts, asking: Asking, ec2: Ec2Sdk, vpc_id: str, options: SiteOptions) -> Facts:
    cidrs, tables, own, extra = await asyncio.gather(
        asking.ask(lambda: Ec2Network(ec2).vpc_cidrs(vpc_id)),
        asking.ask(lambda: Ec2Routes(ec2).route_tables([vpc_id])),
        asking.ask(lambda: CellSecurityGroups(ec2).find(options.cluster, vpc_id))
        if options.cluster
        else _not_asked(),
        asking.ask(lambda: _groups(ec2, options.extra_security_groups)),
    )
    known = tables if isinstance(tables, Unanswered) else tuple(tables)
    return replace(facts, vpc_cidrs=cidrs, tables=known, own_group=own, extra_groups=extra)


async def _not_asked() -> Unanswered:
    return NOT_ASKED


async def _cells(ec2: Ec2Sdk, cluster: str) -> tuple[Instance, ...]:
    found = await ec2.describe_instances(filters(tags={names.TAG_CLUSTER: cluster}))
    cells = [cell for cell in map(to_instance, found) if cell.state not in GONE_STATES]
    # One that runs is the better one to try things on.
    return tuple(sorted(cells, key=lambda cell: (cell.state != "running", cell.id)))


async def _running_vcpus(ec2: Ec2Sdk) -> dict[str, int]:
    """Of everybody's instances: all of the account's count."""
    found: Counter[str] = Counter()
    for instance in await ec2.describe_instances(filters({"instance-state-name": ["pending", "running"]})):
        code = quota_of(instance)
        if code is not None:
            found[code] += vcpus(instance)
    return dict(found)


async def _groups(ec2: Ec2Sdk, ids: tuple[str, ...]) -> dict[str, str]:
    if not ids:
        return {}
    found = await ec2.describe_security_groups(filters({"group-id": list(ids)}))
    return {group["GroupId"]: group["VpcId"] for group in found}


def _variants(facts: Facts) -> dict[str, tuple[str, Variant]]:
    """What cells may boot; a configured image is the same for all, of whatever architecture."""
    if facts.settings.cells.boot_image_spec.given:
        return {CONFIGURED: ("amd64", "standard")}
    found: dict[str, tuple[str, Variant]] = {
        "amd64 standard": ("amd64", "standard"),
        "arm64 standard": ("arm64", "standard"),
    }
    return {**found, "amd64 nvidia": ("amd64", "nvidia")} if GPU in facts.settings.kubelet.capacity else found


async def _images(facts: Facts, asking: Asking, ec2: Ec2Sdk, options: SiteOptions) -> dict[str, Fact[Image]]:
    images = Ec2Images(ec2)
    found: dict[str, Fact[Image]] = {}
    for name, (architecture, variant) in _variants(facts).items():
        if not options.kubernetes_minor and options.image is None:
            continue  # which one it would be goes by the cluster's version
        spec = image_spec(options, architecture, variant)
        found[name] = await asking.ask(partial(images.find, spec))
    return found


async def _profile(facts: Facts, asking: Asking, session: Session) -> Fact[Profile] | None:
    given = facts.settings.cells.default_iam_permissions
    if not given:
        return None

    async def profile() -> Profile:
        answer = (await session.account().get_instance_profile(given.rpartition("/")[2]))["InstanceProfile"]
        return Profile(answer["Arn"], tuple(role["Arn"] for role in answer.get("Roles") or ()))

    return await asking.ask(profile)


async def _quotas(facts: Facts, asking: Asking, session: Session) -> dict[str, Fact[float]]:
    wanted = watched(facts.settings)

    async def value(code: str) -> float:
        return float((await session.account().get_service_quota(SERVICE, code))["Quota"]["Value"])

    return {quota.code: await asking.ask(partial(value, quota.code)) for quota in wanted}


async def _tried(facts: Facts, asking: Asking, session: Session, ec2: Ec2Sdk) -> Facts:
    """With what became of calls, harmless ones and dry runs."""
    limit = asyncio.Semaphore(_AT_ONCE)
    found: dict[str, Fact[Tried]] = {}

    async def read(permission: str, call: Callable[[], Awaitable[Any]]) -> None:
        async with limit:
            answer = await asking.ask(call)
        found[permission] = answer if isinstance(answer, Unanswered) else Tried()

    async def tried(permission: str, call: Callable[[], Awaitable[Any]] | Unanswered) -> None:
        async with limit:
            found[permission] = call if isinstance(call, Unanswered) else await dry_run(asking, call)

    await asyncio.gather(
        *(read(permission, call) for permission, call in reads(ec2).items()),
        *(tried(permission, call) for permission, call in calls(ec2, facts)),
    )
    region = facts.location.region if isinstance(facts.location, Location) else ""
    if region and facts.settings.registries.ecr_logins.enabled:
        found["ecr:GetAuthorizationToken"] = await registry_login(asking, session, region)
    found["pricing:GetProducts"] = await price_list(asking, session, region)
    return replace(facts, calls=found)
