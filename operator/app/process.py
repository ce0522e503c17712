"""`kip run`: wait for a virtual node that nobody serves, serve it, and let go in time."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import kopf
import structlog

from kip.app import cluster, keys
from kip.app.aws import sdk_settings
from kip.app.cluster import CannotStart
from kip.app.ending import Ending
from kip.app.location import locate
from kip.app.serving.node import NodeServing
from kip.app.serving.surroundings import Surroundings
from kip.app.turns import CannotLetGo, Current, serve_in_turns
from kip.app.whereabouts import here
from kip.cells.platforms import ImagePlatforms
from kip.cloud import pricing
from kip.cloud.base import Marketplace
from kip.cloud.ecr import EcrLogins
from kip.cloud.metering import AwsMarketplace
from kip.cloud.sdk import Session
from kip.config import Aws, Settings
from kip.images.lending import for_pods
from kip.images.logins import PodLogins
from kip.kube.client import ApiClient, not_strict
from kip.kube.leasethread import lease_thread
from kip.kube.waiting import when_available
from kip.metering.register import register
from kip.model.clock import Clock, SystemClock
from kip.observe.metrics import Metrics
from kip.observe.probes import Probes
from kip.oci.client import Registries, open_registries
from kip.oci.transport import Patience

log = structlog.get_logger(__name__)

# A launch does not wait for so long; the pods after it have the answer.
_OF_REGISTRIES = Patience(attempts=2, connect_s=5.0, silence_s=10.0)


async def run(settings: Settings, *, kubeconfig: Path | None = None) -> None:
    """Serve virtual nodes until SIGTERM or SIGINT.

    Raises CannotStart, CannotLetGo, KubeError, CloudError, and kubernetes_asyncio's ConfigException.
    """
    ending = Ending()
    try:
        await ending.run(_run(settings, kubeconfig), "kip")
    except CannotLetGo:
        # What hangs would also keep the event loop from closing.
        ending.within_bounds()
        raise


async def _run(settings: Settings, kubeconfig: Path | None) -> None:
    async with AsyncExitStack() as stack:
        around = await stack.enter_async_context(_surroundings(settings, kubeconfig))
        holder = await stack.enter_async_context(
            lease_thread(
                lambda: ApiClient.connect(kubeconfig),
                around.clock,
                namespace=settings.cluster.namespace,
                identity=around.identity,
            )
        )
        current = Current()
        around.metrics.count(current.snapshot)
        for node_name in settings.kubelet.node_names:
            # So that a node which nobody serves can be told from one that there is not.
            around.metrics.leads(node_name, holder=False)
        probes = Probes(around.metrics, clock=around.clock)
        probes.ready("serving", current.trouble)
        await stack.enter_async_context(
            probes.serve(str(settings.health.listen_address), settings.health.port)
        )
        await serve_in_turns(
            holder,
            settings.kubelet.node_names,
            lambda node_name: NodeServing(around, node_name, may_write=holder.grant()),
            current,
            around.clock,
            leads=around.metrics.leads,
        )


@asynccontextmanager
async def _surroundings(settings: Settings, kubeconfig: Path | None) -> AsyncIterator[Surroundings]:
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        client = await ApiClient.connect(kubeconfig)
        stack.push_async_callback(client.close)
        facts = await when_available(
            lambda: cluster.learn(client, settings), clock, what="the cluster's facts"
        )
        own_keys = await when_available(
            lambda: keys.load(client, settings.cluster.namespace, clock), clock, what="the operator's keys"
        )
        aws = settings.cloud.aws
        location = await locate(aws, lambda: here(aws, client, clock))
        metrics = Metrics()
        session = Session(
            sdk_settings(aws, location.region),
            observe=metrics.aws_called,
        )
        ec2 = await stack.enter_async_context(session.ec2())
        marketplace = await _marketplace(aws, session, clock, metrics, stack)
        registries = await stack.enter_async_context(
            open_registries(clock, mirrors=settings.registries.mirrors, patience=_OF_REGISTRIES)
        )
        own = EcrLogins(session.ecr, clock)
        stack.push_async_callback(own.close)
        general, lending = for_pods(own, settings.registries.ecr_logins)
        logins = PodLogins(client, general, impersonate=settings.cluster.impersonate_node)
        platforms = await stack.enter_async_context(_platforms(settings, registries, logins, clock))
        # Unix socket paths have 107 bytes: not below a directory with a long name.
        run_dir = Path(tempfile.mkdtemp(prefix="kip-", dir=os.environ.get("KIP_RUN_DIR")))
        stack.callback(shutil.rmtree, run_dir, ignore_errors=True)
        yield Surroundings(
            settings=settings,
            client=client,
            clock=clock,
            ec2=ec2,
            registries=registries,
            logins=logins,
            lending=lending,
            prices=pricing.price_list(session, location.region, clock),
            marketplace=marketplace,
            keys=own_keys,
            cluster=facts,
            location=location,
            metrics=metrics,
            identity=_identity(os.environ),
            platforms=platforms,
            run_dir=run_dir,
            login=lambda: _login(client),
        )


async def _marketplace(
    aws: Aws, session: Session, clock: Clock, metrics: Metrics, stack: AsyncExitStack
) -> Marketplace | None:
    """Where the use is told, if that is configured; this process is registered there in the background."""
    sold = aws.marketplace
    if sold.product_code is None:
        return None
    endpoint = str(sold.endpoint_url) if sold.endpoint_url else None
    market = AwsMarketplace(await stack.enter_async_context(session.metering(endpoint)))
    metrics.metering.begin(sold.product_code)
    registering = asyncio.create_task(
        register(market, clock, product_code=sold.product_code, public_key_version=sold.public_key_version),
        name="registration",
    )
    stack.callback(registering.cancel)
    return market


@asynccontextmanager
async def _platforms(
    settings: Settings, registries: Registries, logins: PodLogins, clock: Clock
) -> AsyncIterator[ImagePlatforms]:
    """What images are built for, as the registries tell it to whoever pulls them."""
    platforms = ImagePlatforms(
        registries.platforms, logins.of, clock, patience_s=settings.cells.image_architecture.timeout
    )
    try:
        yield platforms
    finally:
        await platforms.close()


def _identity(environ: Mapping[str, str]) -> str:
    """Who holds a Lease: the pod, whose container may end and begin again, else this very process."""
    if pod := environ.get("POD_NAME"):
        return "_".join(filter(None, (pod, environ.get("POD_UID"))))
    return f"{socket.gethostname()}_{uuid4().hex[:8]}"


class _Connection(kopf.ConnectionInfo):
    """Verifies the API server as our own client does."""

    def as_ssl_context(self) -> ssl.SSLContext:
        return not_strict(super().as_ssl_context())


async def _login(client: ApiClient) -> kopf.ConnectionInfo:
    """The client's credentials for kopf; called in kopf's own event loop."""
    configuration = client.configuration
    authorization = (await client.headers()).get("Authorization", "")
    scheme, _, token = authorization.partition(" ")
    return _Connection(
        server=str(configuration.host),
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        scheme=scheme or None,
        token=token or None,
    )


__all__ = ["CannotLetGo", "CannotStart", "run"]
