"""`kip image-cache run`: put together once, run until SIGTERM."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

import structlog

from kip.app.aws import sdk_settings
from kip.app.ending import Ending
from kip.cells.repository import CELLS_PATH
from kip.cloud.ecr import EcrLogins
from kip.cloud.sdk import Session
from kip.config import ImageCacheController, Settings
from kip.imagecache import memory
from kip.imagecache.caching import Caching
from kip.imagecache.controller import Controller, Seen, Wanted, held_by_cells
from kip.imagecache.eviction import Limits
from kip.imagecache.fetch import Fetcher
from kip.imagecache.held import ask
from kip.imagecache.keeper import Keeper
from kip.imagecache.memory import Share
from kip.imagecache.queue import Queue
from kip.images.lending import for_pods
from kip.images.logins import EcrCredentials, PodLogins
from kip.images.pull import ImageCache
from kip.images.volume import Volume
from kip.kube.client import ApiClient
from kip.kube.events import EventRecorder
from kip.kube.informer import Informer
from kip.model.clock import Clock, SystemClock
from kip.model.quantity import human_bytes
from kip.observe.imagecache import ImageCacheMetrics
from kip.observe.probes import Probes
from kip.oci.client import Registries, open_registries

log = structlog.get_logger(__name__)

COMPONENT = "kip-image-cache"
_PODS = "/api/v1/pods"
# A round of the keeper is one a minute; it waits for a file server, which may take its time.
_KEEPER_STALL_S = 900.0
#: A registry of ECR says its own region; any will do to make a session.
ANY_REGION = "us-east-1"


async def run(settings: Settings, volume: Path, *, kubeconfig: Path | None = None) -> None:
    """Fill the volume and keep it in bounds until SIGTERM or SIGINT; then what is under way is given up.

    Raises KubeError, OSError and kubernetes_asyncio's ConfigException.
    """
    await Ending().run(_run(settings, volume, kubeconfig), COMPONENT)


async def _run(settings: Settings, directory: Path, kubeconfig: Path | None) -> None:
    clock = SystemClock()
    metrics = ImageCacheMetrics()
    probes = Probes(metrics, clock=clock)
    client = await ApiClient.connect(kubeconfig)
    try:
        async with open_registries(clock, mirrors=settings.registries.mirrors) as registries:
            watched = _watch(settings, client, clock)
            controller = _put_together(
                settings, directory, client, registries, metrics=metrics, watched=watched
            )
            watched.news = controller.changed
            probes.ready("volume", lambda: controller.volume_trouble)
            probes.ready(
                "cluster", lambda: None if watched.seen.synced else "pods and Cells are not known yet"
            )
            turning = probes.loop("keeper", stall_s=_KEEPER_STALL_S)
            controller.turn = turning.turn
            async with probes.serve(str(settings.health.listen_address), settings.health.port):
                log.info("serving", volume=str(directory), nodes=list(settings.kubelet.node_names))
                async with asyncio.TaskGroup() as tasks:
                    for informer in watched.informers:
                        tasks.create_task(informer.run(), name="informer")
                    tasks.create_task(controller.run(), name="controller")
    finally:
        await client.close()


@dataclass
class _Watched:
    """What is followed of the cluster, and who hears of it."""

    seen: Seen
    informers: tuple[Informer, ...]
    news: Callable[[], None] = lambda: None


def _watch(settings: Settings, client: ApiClient, clock: Clock) -> _Watched:
    def news() -> None:
        watched.news()

    def follow(path: str, **fields: str) -> Informer:
        params = (
            {"fieldSelector": ",".join(f"{key}={value}" for key, value in fields.items())} if fields else {}
        )
        return Informer(client, path, clock=clock, params=params, on_change=news)

    pods = tuple(follow(_PODS, **{"spec.nodeName": name}) for name in settings.kubelet.node_names)
    wanted = settings.cells.image_cache.controller
    unbound = {"spec.nodeName": "", "status.phase": "Pending"}
    waiting = (follow(_PODS, **unbound),) if wanted.unscheduled_pods else ()
    # All of the cluster: whoever serves them, their cells read this volume.
    cells = follow(CELLS_PATH)
    watched = _Watched(Seen(pods, waiting, cells), (*pods, *waiting, cells))
    return watched


def _put_together(
    settings: Settings,
    directory: Path,
    client: ApiClient,
    registries: Registries,
    *,
    metrics: ImageCacheMetrics,
    watched: _Watched,
) -> Controller:
    clock, options, host = SystemClock(), settings.cells.image_cache.controller, socket.gethostname()
    volume = Volume(directory, clock)
    wanted = Wanted()
    session = Session(sdk_settings(settings.cloud.aws, settings.cloud.aws.region or ANY_REGION))
    ecr = EcrLogins(session.ecr, clock)
    # As their kubelets pull: what a pod could not, nobody who reads the volume shall get by naming it in one.
    for_kubelets, _ = for_pods(ecr, settings.registries.ecr_logins)

    def trouble(need_bytes: int) -> None:
        controller.trouble(need_bytes)

    keeper = Keeper(
        volume,
        clock,
        limits_of(options),
        metrics,
        held=lambda: held_by_cells(watched.seen, wanted),
        ask=lambda: ask(client),
        wanted=wanted.keys,
    )
    caching = Caching(
        Fetcher(
            volume,
            image_cache(volume, share_of(options), clock),
            registries,
            clock,
            check_after=timedelta(seconds=options.check_tags_every),
        ),
        PodLogins(client, for_kubelets, impersonate=settings.cluster.impersonate_node),
        own=EcrCredentials(ecr),
        events=EventRecorder(client, clock, component=COMPONENT, host=os.environ.get("POD_NAME", host)),
        metrics=metrics,
        clock=clock,
        trouble=trouble,
    )
    queue = Queue(
        caching,
        clock,
        parallel=options.parallel,
        again_s=options.check_tags_every,
        changed=metrics.queue_is,
    )
    controller = Controller(
        watched.seen,
        wanted,
        queue=queue,
        keeper=keeper,
        metrics=metrics,
        clock=clock,
        listed=options.images,
        platforms=options.platforms,
    )
    return controller


def limits_of(options: ImageCacheController) -> Limits:
    """For `eviction.plan`."""
    return Limits(
        max_bytes=options.max_size,
        min_free_bytes=options.min_free_space,
        keep_unused=timedelta(seconds=options.keep_unused_for),
    )


def share_of(options: ImageCacheController) -> Share:
    """What conversions may use of this process' memory, told to people."""
    cgroups = Path("/proc/self/cgroup")  # of Linux; images are added by hand elsewhere, too
    found = memory.share(
        memory.limit_of(cgroups.read_text() if cgroups.exists() else ""),
        parallel=options.parallel,
        processors=options.processors,
        memory_bytes=options.memory,
    )
    say = log.warning if found.short else log.info
    say(
        "memory for conversions",
        parallel=found.parallel,
        memory=f"{found.limits.memory_mib}Mi",
        names=human_bytes(found.limits.names_bytes),
        reason=found.reason,
    )
    return found


def image_cache(volume: Volume, share: Share, clock: Clock) -> ImageCache:
    """What converts, within these limits."""
    return ImageCache(
        volume,
        clock=clock,
        creator=f"kip {version('kip-operator')} on {socket.gethostname()}",
        slots=asyncio.Semaphore(share.parallel),
        limits=share.limits,
    )
