"""The control plane: etcd, API server, controller manager and scheduler, as processes on this host.

Set up as a real cluster's: TLS everywhere, RBAC and the Node authorizer, kubelets' certificates verified,
an aggregation layer. What differs is only what a laboratory does not need: leader election and fsync.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from pathlib import Path

from kip.local.api import client_context, get_https
from kip.local.build import KUBERNETES, program
from kip.local.parts import Part, ProcessPart
from kip.local.pki import ADMINISTRATOR, ControlPlanePki, Pair
from kip.local.processes import Command
from kip.local.world import World

_QPS = "--kube-api-qps=200"
_BURST = "--kube-api-burst=400"


class _ControlPlanePart(ProcessPart):
    """A process of the compiled Kubernetes, asked over TLS whether it is ready."""

    builds = (KUBERNETES,)
    health = "/readyz"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.pki = ControlPlanePki(world)

    @abstractmethod
    def flags(self) -> list[str]:
        """The command line after the program's name."""

    @property
    def program(self) -> str:
        """The component's name in Kubernetes."""
        return f"kube-{self.name}"

    def command(self) -> Command:
        """The component under its own name, which selects it in the one compiled file."""
        return Command(self.name, (str(program(KUBERNETES, self.program)), *self.flags()))

    def answer(self) -> str | None:
        """Asks the health path; a refusal's text names the checks that fail."""
        context = client_context(self.authority(), self.client())
        status, body = get_https(self.world.address(self.name), self.health, context)
        return None if status == 200 else f"{self.health} answers {status}: {' '.join(body.split())[-300:]}"

    def authority(self) -> Path:
        """Who signed the component's serving certificate."""
        return self.pki.cluster.pair.certificate

    def client(self) -> Pair:
        """The certificate shown when asking."""
        return self.pki.administrator()

    def serving(self) -> list[str]:
        """Flags of the component's address and certificate; one made beforehand spares it making its own."""
        host, port = self.world.address(self.name)
        pair = self.pki.cluster.server(self.name, self.program, [host, "localhost"])
        return [
            f"--bind-address={host}",
            f"--secure-port={port}",
            f"--tls-cert-file={pair.certificate}",
            f"--tls-private-key-file={pair.key}",
        ]

    def identity(self) -> list[str]:
        """Flags of a kubeconfig for the component's own user, `system:kube-…`, known to RBAC from the start."""
        path = self.pki.kubeconfig(self.world.pki / f"{self.name}.kubeconfig", f"system:{self.program}")
        return [f"--{use}kubeconfig={path}" for use in ("", "authentication-", "authorization-")]


class Etcd(_ControlPlanePart):
    """etcd, on the loopback, answering only certificates of its own authority."""

    name = "etcd"
    health = "/health"

    @property
    def program(self) -> str:
        """etcd is called by its own name."""
        return "etcd"

    def authority(self) -> Path:
        """etcd's certificate is its own authority's."""
        return self.pki.etcd.pair.certificate

    def client(self) -> Pair:
        """The API server's, the only client there is."""
        return etcd_client(self.pki)

    def flags(self) -> list[str]:
        """One member, which forgets nothing when killed, but may when the machine loses power."""
        client, peer = self.world.url("etcd", "https"), self.world.url("etcd-peer", "https")
        pair = self.pki.etcd.server("etcd", "etcd", ["127.0.0.1", "localhost"], peer=True)
        authority = self.pki.etcd.pair.certificate
        return [
            f"--name={self.world.name}",
            f"--data-dir={self.world.state / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster={self.world.name}={peer}",
            f"--cert-file={pair.certificate}",
            f"--key-file={pair.key}",
            f"--trusted-ca-file={authority}",
            "--client-cert-auth",
            f"--peer-cert-file={pair.certificate}",
            f"--peer-key-file={pair.key}",
            f"--peer-trusted-ca-file={authority}",
            "--peer-client-cert-auth",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]


def etcd_client(pki: ControlPlanePki) -> Pair:
    """The API server's client certificate for etcd."""
    return pki.etcd.client("apiserver-etcd-client", "kube-apiserver")


# A real cluster's API server has processors of its own. This one would spend a fifth of its time collecting garbage of some
# 100 MB; it may keep more, up to the limit, which is a soft one.
_ROOMY = {"GOGC": "400", "GOMEMLIMIT": "1GiB"}


class ApiServer(_ControlPlanePart):
    """kube-apiserver."""

    name = "apiserver"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.needs = ("etcd", "network") if world.rooted else ("etcd",)

    def command(self) -> Command:
        """With room for a heap that is seldom collected."""
        return replace(super().command(), environment=_ROOMY)

    def flags(self) -> list[str]:
        """As kubeadm sets it up, with the addresses of kubelets restricted to what their certificates hold."""
        return [
            *self._serving(),
            *self._storage(),
            *self._authentication(),
            *self._kubelets(),
            *self._services(),
            *self._audit(),
        ]

    def _serving(self) -> list[str]:
        host, port = self.world.address("apiserver")
        pair = self.pki.apiserver()
        flags = [
            f"--bind-address={host}",
            f"--secure-port={port}",
            f"--tls-cert-file={pair.certificate}",
            f"--tls-private-key-file={pair.key}",
            "--profiling=false",
        ]
        if self.world.rooted:
            return [*flags, f"--advertise-address={host}"]
        # Endpoints may not be loopback addresses, so `kubernetes.default` has none without root.
        return [*flags, f"--advertise-address={self.world.cidr[1]}", "--endpoint-reconciler-type=none"]

    def _storage(self) -> list[str]:
        client = etcd_client(self.pki)
        return [
            f"--etcd-servers={self.world.url('etcd', 'https')}",
            f"--etcd-cafile={self.pki.etcd.pair.certificate}",
            f"--etcd-certfile={client.certificate}",
            f"--etcd-keyfile={client.key}",
        ]

    def _authentication(self) -> list[str]:
        accounts = self.pki.service_accounts()
        proxy = self.pki.front_proxy.client("front-proxy-client", "front-proxy-client")
        return [
            f"--client-ca-file={self.pki.cluster.pair.certificate}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={accounts.certificate}",
            f"--service-account-signing-key-file={accounts.key}",
            f"--requestheader-client-ca-file={self.pki.front_proxy.pair.certificate}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={proxy.certificate}",
            f"--proxy-client-key-file={proxy.key}",
        ]

    def _kubelets(self) -> list[str]:
        client = self.pki.kubelet_client()
        return [
            f"--kubelet-client-certificate={client.certificate}",
            f"--kubelet-client-key={client.key}",
            f"--kubelet-certificate-authority={self.pki.cluster.pair.certificate}",
            "--kubelet-preferred-address-types=InternalIP",
        ]

    def _services(self) -> list[str]:
        return [
            f"--service-cluster-ip-range={self.world.service_cidr}",
            # This host has no rules for ClusterIPs: aggregated APIs and webhooks are called by endpoint.
            "--enable-aggregator-routing=true",
        ]

    def _audit(self) -> list[str]:
        if not self.world.audit_policy.exists():
            return []
        return [
            f"--audit-policy-file={self.world.audit_policy}",
            f"--audit-log-path={self.world.audit_log}",
            "--audit-log-mode=blocking",
        ]


class ControllerManager(_ControlPlanePart):
    """kube-controller-manager, which also signs certificates (kubelets' serving ones among them)."""

    name = "controller-manager"
    needs = ("apiserver",)
    health = "/healthz"

    def flags(self) -> list[str]:
        """Every controller but those of a cloud, each as its own service account."""
        authority = self.pki.cluster.pair
        return [
            *self.serving(),
            *self.identity(),
            "--leader-elect=false",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={self.pki.service_accounts().key}",
            f"--root-ca-file={authority.certificate}",
            f"--client-ca-file={authority.certificate}",
            f"--requestheader-client-ca-file={self.pki.front_proxy.pair.certificate}",
            f"--cluster-signing-cert-file={authority.certificate}",
            f"--cluster-signing-key-file={authority.key}",
            f"--service-cluster-ip-range={self.world.service_cidr}",
            _QPS,
            _BURST,
        ]


class Scheduler(_ControlPlanePart):
    """kube-scheduler."""

    name = "scheduler"
    needs = ("apiserver",)

    def flags(self) -> list[str]:
        """The scheduler's defaults."""
        return [
            *self.serving(),
            *self.identity(),
            "--leader-elect=false",
            f"--client-ca-file={self.pki.cluster.pair.certificate}",
            f"--requestheader-client-ca-file={self.pki.front_proxy.pair.certificate}",
            _QPS,
            _BURST,
        ]


def control_plane(world: World) -> list[Part]:
    """Its parts; the administrator's kubeconfig is written with them."""
    ControlPlanePki(world).kubeconfig(world.kubeconfig, ADMINISTRATOR, ["system:masters"])
    return [Etcd(world), ApiServer(world), ControllerManager(world), Scheduler(world)]
