"""What the commands do: the same as the controller, once, for whoever asks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from kubernetes_asyncio.config import ConfigException
from rich.console import Console

from kip.app.aws import sdk_settings
from kip.cloud.ecr import EcrLogins
from kip.cloud.sdk import Session
from kip.config import Settings
from kip.imagecache import eviction
from kip.imagecache.bars import Bars
from kip.imagecache.eviction import Limits, Removal, Use
from kip.imagecache.fetch import Fetcher
from kip.imagecache.held import ask
from kip.imagecache.inventory import Inventory, forget_images, take
from kip.imagecache.keeper import carry_out
from kip.imagecache.process import ANY_REGION, image_cache, share_of
from kip.images.errors import CachingError
from kip.images.logins import EcrCredentials
from kip.images.volume import Volume
from kip.kube.client import ApiClient
from kip.kube.errors import KubeError
from kip.model.clock import SystemClock
from kip.model.quantity import human_bytes
from kip.oci.client import open_registries
from kip.oci.credentials import Both, Credentials, from_docker_config
from kip.oci.errors import RegistryError
from kip.oci.reference import is_digest, parse

_NOW = timedelta(0)
_WITHOUT = "--force goes on regardless"


class Refused(Exception):
    """It might take something from a cell; the text says from which, or why that is not known."""


async def look(volume: Path) -> tuple[Inventory, datetime]:
    """All of the volume, and when. Raises VolumeUnavailable."""
    clock = SystemClock()
    return await take(Volume(volume, clock)), clock.now()


async def add(
    directory: Path, names: Sequence[str], platforms: Sequence[str], auth: Path | None, settings: Settings
) -> list[str]:
    """Caches images, one after the other, and shows how far it is; returns those that could not be had.

    Raises InvalidName before anything is done, CredentialError, OSError.
    """
    references = [parse(name) for name in names]
    clock, console = SystemClock(), Console(stderr=True, highlight=False)
    volume = Volume(directory, clock)
    cache = image_cache(volume, share_of(settings.cells.image_cache.controller), clock)
    credentials = _credentials(auth, settings)
    failed = []
    async with open_registries(clock, mirrors=settings.registries.mirrors) as registries:
        fetch = Fetcher(volume, cache, registries, clock, check_after=_NOW)
        for reference, platform in ((r, p) for r in references for p in platforms):
            console.print(f"{reference} for {platform}", markup=False, soft_wrap=True)
            try:
                with Bars(console) as bars:
                    done = await fetch(reference, platform, credentials, bars.layer)
            except (CachingError, RegistryError) as error:
                console.print(f"  not cached: {error}", markup=False, soft_wrap=True)
                failed.append(str(reference))
                continue
            took = (
                f"{human_bytes(done.fetched_bytes)} in {done.seconds:.0f} s"
                if done.fetched_bytes
                else "was there"
            )
            console.print(f"  {done.digest}: {took}", markup=False, soft_wrap=True)
    return failed


def _credentials(auth: Path | None, settings: Settings) -> Credentials:
    region = settings.cloud.aws.region or ANY_REGION
    session = Session(sdk_settings(settings.cloud.aws, region))
    ecr = EcrCredentials(EcrLogins(session.ecr, SystemClock()))
    return Both(from_docker_config(auth.read_bytes(), str(auth)), ecr) if auth else ecr


async def remove(directory: Path, names: Sequence[str], kubeconfig: Path | None, *, force: bool) -> list[str]:
    """Takes images away, and says which. Raises Refused, InvalidName, CachingError, KubeError."""
    volume = Volume(directory, SystemClock())
    inventory = await take(volume)
    digests = {name for name in names if is_digest(name)}
    references = {str(parse(name)) for name in names if not is_digest(name)}
    going = _going(inventory, references, digests)
    if not force:
        refuse_held(inventory, going, await held_now(kubeconfig))
    for reference in references:
        await volume.remove_reference(reference)
    await forget_images(volume, inventory, going)
    return [*sorted(references), *sorted(going)]


def _going(inventory: Inventory, references: Collection[str], digests: Collection[str]) -> set[str]:
    """Images that nothing leads to any more once these names are gone. Raises CachingError for a name that is not there."""
    known = {reference.reference: reference for reference in inventory.references}
    missing = (set(references) - known.keys()) | (set(digests) - {image.digest for image in inventory.images})
    if missing:
        raise CachingError(f"not cached: {', '.join(sorted(missing))}")
    left = {d for name, r in known.items() if name not in references for d in r.platforms.values()}
    named = {d for name in references for d in known[name].platforms.values()}
    return (named - left) | set(digests)


def limits(max_bytes: int | None, unused_for: timedelta | None) -> Limits:
    """For `prune`."""
    return Limits(max_bytes=max_bytes, keep_unused=unused_for)


async def prune(
    directory: Path,
    within: Limits,
    grace: timedelta,
    kubeconfig: Path | None,
    *,
    dry_run: bool,
    force: bool,
) -> list[str]:
    """Takes away what nobody needs, and says what. Raises Refused, CachingError, KubeError."""
    clock = SystemClock()
    volume = Volume(directory, clock)
    inventory = await take(volume)
    use = Use({} if force else await held_now(kubeconfig))
    free = inventory.usage.free_bytes
    plan = eviction.plan(
        inventory.cached_images(),
        inventory.layers,
        use,
        within,
        free_bytes=free,
        now=clock.now(),
        grace=grace,
    )
    lines: list[str] = []
    if dry_run:
        lines += [_line("would remove image", removal) for removal in plan.images]
        lines += [_line("would remove layer", removal) for removal in plan.layers]
    else:
        await volume.sweep()
        await carry_out(
            volume, inventory, plan, lambda what, removal: lines.append(_line(f"removed {what}", removal))
        )
    lines += [f"layers stay: {plan.blocked}"] if plan.blocked else []
    return lines or ["there is nothing to remove"]


def _line(did: str, removal: Removal) -> str:
    return f"{did} {removal.name or removal.what}: {human_bytes(removal.bytes)}, {removal.why}"


async def held_now(kubeconfig: Path | None) -> dict[str, str]:
    """Digests that Cells were given, each with a Cell's name. Raises Refused where no cluster can be asked."""
    try:
        client = await ApiClient.connect(kubeconfig)
    except ConfigException as error:
        raise Refused(f"no cluster to ask what its cells have ({error}); {_WITHOUT}") from error
    try:
        return await ask(client)
    except KubeError as error:
        raise Refused(f"the cells are not known: {error}; {_WITHOUT}") from error
    finally:
        await client.close()


def refuse_held(inventory: Inventory, digests: Collection[str], cells: Mapping[str, str]) -> None:
    """Raises Refused if one of these images is a cell's."""
    for image in inventory.cached_images():
        if image.digest in digests:
            for name in sorted({image.digest, *image.roots} & cells.keys()):
                raise Refused(f"cell {cells[name]} has {image.name or image.digest}; {_WITHOUT}")
