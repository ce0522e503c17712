"""The virtual node's kubelet API, and the logs that it still has when their cells are gone."""

from __future__ import annotations

import structlog

from kip.app.directory import Directory
from kip.app.journals import CellJournals
from kip.app.serving.connections import Connections
from kip.app.serving.side import Closers, Loops
from kip.app.serving.state import NodeState
from kip.app.serving.surroundings import Surroundings
from kip.kube.errors import KubeError
from kip.kubelet import pki
from kip.kubelet.auth import Authenticator, Authorizer
from kip.kubelet.certificate import ServingCertificate, Wanted
from kip.kubelet.clientca import ClientCa
from kip.kubelet.logs import KeptLogs
from kip.kubelet.server import KubeletServer

log = structlog.get_logger(__name__)

_SWEEP_S = 60.0


class KubeletApi:
    """What `kubectl logs`, `exec` and Prometheus reach at the virtual node's address."""

    def __init__(self, around: Surroundings, state: NodeState, connections: Connections) -> None:
        self._clock = around.clock
        self._pods = state.pods
        self._background = state.background
        cell_tls = pki.CellClient(around.keys.ca, around.clock)
        self.directory = Directory(state.cells, connections.links, state.pods)
        self.kept_logs = KeptLogs(
            state.client,
            cell_tls,
            around.clock,
            namespace=around.settings.cluster.namespace,
            node_name=state.node_name,
            limit_bytes=around.settings.cells.kept_logs.max_size,
        )
        kubelet = around.settings.kubelet
        self._certificate = ServingCertificate(
            state.client,
            Wanted(state.node_name, (around.cluster.node_ip,), kubelet.serving_certificate.signer_name),
            around.clock,
        )
        self._server = KubeletServer(
            host=str(kubelet.listen_address),
            port=kubelet.port,
            tls=self._certificate,
            client_ca=ClientCa(state.client, around.clock),
            authenticator=Authenticator(state.client, around.clock),
            authorizer=Authorizer(state.client, state.node_name, around.clock),
            directory=self.directory,
            cell_tls=cell_tls,
            kept_logs=self.kept_logs,
            system_logs=CellJournals(state.cells, connections.pool, connections.links),
            node_name=state.node_name,
            clock=around.clock,
            metrics=around.metrics.kubelet,
        )

    async def start(self) -> None:
        """Listen; raises OSError when the port is taken."""
        await self._server.start()

    def loops(self) -> Loops:
        return {"serving certificate": self._keep_certificate(), "kept logs": self._sweep_logs()}

    def closers(self) -> Closers:
        return (self._server.close,)

    def forget_logs(self, pod_uid: str) -> None:
        """At once, so that a new pod of the same name does not show them; the sweep finds what this misses."""

        async def forget() -> None:
            try:
                await self.kept_logs.delete(pod_uid)
            except KubeError as error:
                log.info("kept logs not deleted yet", pod_uid=pod_uid, error=str(error))

        self._background.start(forget())

    async def _keep_certificate(self) -> None:
        await self._certificate.start()
        await self._certificate.keep_renewed()

    async def _sweep_logs(self) -> None:
        while True:
            await self._clock.sleep(_SWEEP_S)
            if self._pods.synced:
                try:
                    await self.kept_logs.sweep({p["metadata"]["uid"] for p in self._pods.items()})
                except KubeError as error:
                    log.warning("kept logs not swept", error=str(error))
