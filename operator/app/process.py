"""`kip run`: wait for a virtual node that nobody serves, serve it, and let go in time."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from uuid import uuid4

import kopf
import structlog

from kip.app import cluster, keys
from kip.app.cluster import CannotStart
from kip.app.location import locate
from kip.app.serving import NodeServing, Surroundings
from kip.cloud.metadata import whereabouts
from kip.cloud.sdk import SdkSettings, open_ec2
from kip.config import Settings
from kip.kube.client import ApiClient
from kip.kube.errors import Unavailable
from kip.kube.lease import LeaseHolder
from kip.model.cell import Phase
from kip.model.clock import Clock, SystemClock
from kip.observe.metrics import Metrics
from kip.observe.probes import Probes

log = structlog.get_logger(__name__)

# An API server that restarts is away for some seconds; a person who started Kip too early waits longer.
_RETRY_S = 2.0


async def run(settings: Settings, *, kubeconfig: Path | None = None) -> None:
    """Serve virtual nodes until SIGTERM or SIGINT; raises CannotStart, KubeError, CloudError, ConfigException."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    work = asyncio.create_task(_run(settings, kubeconfig), name="kip")
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    work.cancel()
    with suppress(asyncio.CancelledError):
        await work


async def _run(settings: Settings, kubeconfig: Path | None) -> None:
    async with AsyncExitStack() as stack:
        around = await stack.enter_async_context(_surroundings(settings, kubeconfig))
        holder = LeaseHolder(
            around.client, around.clock, namespace=settings.cluster.namespace, identity=around.identity
        )
        current = _Current()
        around.metrics.count_cells(current.phases)
        probes = Probes(around.metrics, clock=around.clock)
        probes.ready("serving", current.trouble)
        await stack.enter_async_context(
            probes.serve(str(settings.health.listen_address), settings.health.port)
        )
        while True:
            log.info("waiting for a virtual node to serve", nodes=list(settings.kubelet.node_names))
            node_name = await holder.acquire(settings.kubelet.node_names)
            around.metrics.leads(node_name, holder=True)
            try:
                await _serve_while_held(around, node_name, holder, current)
            finally:
                around.metrics.leads(node_name, holder=False)


class _Current:
    """What this process serves just now, for those who ask from outside."""

    def __init__(self) -> None:
        self.serving: NodeServing | None = None

    def phases(self) -> list[Phase]:
        return self.serving.phases() if self.serving is not None else []

    def trouble(self) -> str | None:
        """A spare is ready too: it is there to take over."""
        return self.serving.trouble() if self.serving is not None else None


async def _serve_while_held(
    around: Surroundings, node_name: str, holder: LeaseHolder, current: _Current
) -> None:
    """Serve until the Lease is lost or serving breaks; in both cases everything is let go before this returns."""
    serving = current.serving = NodeServing(around, node_name, may_write=lambda: holder.holding)
    keeping = asyncio.create_task(holder.keep(), name="lease")
    working = asyncio.create_task(serving.run(), name="serving")
    try:
        await asyncio.wait((keeping, working), return_when=asyncio.FIRST_COMPLETED)
        if keeping.done():
            log.error("the node's lease is lost; letting go", node=node_name, reason=keeping.result())
        elif working.exception() is not None:
            log.error("serving broke off; letting go", node=node_name, exc_info=working.exception())
    finally:
        current.serving = None
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await serving.close()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await holder.release()
    await around.clock.sleep(1)


@asynccontextmanager
async def _surroundings(settings: Settings, kubeconfig: Path | None) -> AsyncIterator[Surroundings]:
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        client = await ApiClient.connect(kubeconfig)
        stack.push_async_callback(client.close)
        facts = await _when_reachable(client, settings, clock)
        aws = settings.cloud.aws
        location = await locate(aws, whereabouts)
        metrics = Metrics()
        ec2 = await stack.enter_async_context(
            open_ec2(
                SdkSettings(
                    region=location.region,
                    endpoint_url=str(aws.endpoint_url) if aws.endpoint_url else None,
                    access_key_id=aws.access_key_id,
                    verify_tls=not aws.insecure_tls_skip_verify,
                    secret_access_key=aws.secret_access_key.get_secret_value()
                    if aws.secret_access_key
                    else None,
                ),
                observe=lambda action, result, seconds: metrics.aws_called(
                    action, result=result, seconds=seconds
                ),
            )
        )
        # Unix socket paths have 107 bytes: not below a directory with a long name.
        run_dir = Path(tempfile.mkdtemp(prefix="kip-", dir=os.environ.get("KIP_RUN_DIR")))
        stack.callback(shutil.rmtree, run_dir, ignore_errors=True)
        yield Surroundings(
            settings=settings,
            client=client,
            clock=clock,
            ec2=ec2,
            keys=await keys.load(client, settings.cluster.namespace, clock),
            cluster=facts,
            location=location,
            metrics=metrics,
            identity=_identity(os.environ),
            run_dir=run_dir,
            login=lambda: _login(client),
        )


async def _when_reachable(client: ApiClient, settings: Settings, clock: Clock) -> cluster.ClusterFacts:
    told = ""
    while True:
        try:
            return await cluster.learn(client, settings)
        except Unavailable as error:
            if str(error) != told:
                log.warning("waiting for the API server", error=str(error))
                told = str(error)
            await clock.sleep(_RETRY_S)


def _identity(environ: Mapping[str, str]) -> str:
    """Who holds a Lease: the pod, whose container may end and begin again, else this very process."""
    if pod := environ.get("POD_NAME"):
        return "_".join(filter(None, (pod, environ.get("POD_UID"))))
    return f"{socket.gethostname()}_{uuid4().hex[:8]}"


async def _login(client: ApiClient) -> kopf.ConnectionInfo:
    """The client's credentials for kopf; called in kopf's own event loop."""
    configuration = client.configuration
    authorization = (await client.headers()).get("Authorization", "")
    scheme, _, token = authorization.partition(" ")
    return kopf.ConnectionInfo(
        server=str(configuration.host),
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        scheme=scheme or None,
        token=token or None,
    )


__all__ = ["CannotStart", "run"]
