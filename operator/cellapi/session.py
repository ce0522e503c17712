"""One cell's side of the cell API: what its kubelet has written, and what it has been shown."""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kip.cellapi.feed import Feed
from kip.cellapi.identity import CellIdentity, Token
from kip.cellapi.limits import Limits
from kip.cellapi.objects import OwnObject
from kip.cellapi.ports import Hooks, Lending, PodStore
from kip.cellapi.problem import unavailable
from kip.cellapi.shadow import ShadowNode
from kip.cellapi.upstream import Upstream
from kip.cellapi.versions import ResourceVersions, Signal
from kip.cellapi.volumes import VolumeSecrets
from kip.model.clock import Clock
from kip.model.quantity import whole
from kip.model.tokens import TokenBucket
from kip.pods.references import Reference, referenced
from kip.pods.tree import dig

MemorySeen = Callable[[int], None]
"""Hears how many bytes of memory the kubelet says its machine has, each time it says so."""

# A kubelet aggregates its events: a pod makes some tens of them, each patched for as long as it repeats.
_REMEMBERED_EVENTS = 256
# Different things that a cell is refused; beyond, it is not a mistake and one line has said so.
_REMEMBERED_REFUSALS = 64
_REMEMBERED_FAILURES = 16
# "Failed: Error: ErrImagePull", after the event that has the registry's answer (kuberuntime, startContainer).
_IN_A_WORD = "Failed: Error: "
# Go names the port from which a connection was tried, another one each time: "read udp 10.0.0.4:49344->10.0.0.2:53: …".
_OWN_PORT = re.compile(r":[0-9]+(?=->)")
# Of what is told to people; a kubelet's message about an image that it cannot pull has some hundred.
_TROUBLE_CHARACTERS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What all cells have in common."""

    upstream: Upstream
    pods: PodStore
    services: Feed
    csidrivers: Feed
    runtimeclasses: Feed
    node: Callable[[], Mapping[str, Any] | None]
    clock: Clock
    limits: Limits
    hooks: Hooks
    lending: Lending
    versions: ResourceVersions
    big_bodies: asyncio.Semaphore
    """Places for big bodies that are decoded; see Limits."""

    def missing(self) -> list[str]:
        """What a kubelet could not be answered yet."""
        parts = {
            "pods": self.pods.synced,
            "services": self.services.synced,
            "csidrivers": self.csidrivers.synced,
            "runtimeclasses": self.runtimeclasses.synced,
            "the virtual node": self.node() is not None,
        }
        return [name for name, known in parts.items() if not known]


class Names:
    """The latest few names of something."""

    __slots__ = ("_limit", "_names")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._names: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def add(self, name: str) -> None:
        self._names[name] = None
        self._names.move_to_end(name)
        if len(self._names) > self._limit:
            self._names.popitem(last=False)


class CellSession:
    """The API for one cell, from before its tunnel is made until the cell is given up."""

    def __init__(
        self,
        identity: CellIdentity,
        token: Token,
        shared: Shared,
        socket_path: Path,
        *,
        pod_shown: bool,
        memory_seen: MemorySeen = lambda seen_bytes: None,
    ) -> None:
        self.identity = identity
        self.token = token
        self.shared = shared
        self.socket_path = socket_path
        """The unix socket that the cell's SSH channel leads to."""
        self.first_request_at: datetime | None = None
        """When the kubelet first asked for something, with its token."""
        self.shown = Signal()
        self._node_changed = Signal()
        self._device_trouble = ""
        self._login_trouble = ""
        self._login_trouble_told = ""
        self.pod_told = False
        """The kubelet may have the pod: it was in its last list, or an event told it since. Also after a DELETED, which
        can get lost; only an empty list takes it back."""
        self.pods_listed = False
        """The kubelet's resourceVersion of the pods is one given out by this session."""
        self.watches = 0
        limits, clock = shared.limits, shared.clock
        self.bodies = asyncio.Semaphore(limits.bodies)
        self.rate = TokenBucket(limits.requests_per_s, limits.request_burst, clock)
        """The kubelet's."""
        self.anonymous = TokenBucket(limits.anonymous_per_s, limits.anonymous_burst, clock)
        self.strangers = 0
        """Requests without the token that wait for their answer."""
        self.events_passed = Names(_REMEMBERED_EVENTS)
        self.events_swallowed = Names(_REMEMBERED_EVENTS)
        self.volume_secrets = VolumeSecrets()
        self.lease = self._own("coordination.k8s.io/v1", "Lease")
        self.csinode = self._own("storage.k8s.io/v1", "CSINode")
        self._pod_shown = pod_shown
        self._memory_seen = memory_seen
        self._shadow: ShadowNode | None = None
        self._admits = False
        self._refusals: set[tuple[str, str]] = set()
        self._failures: set[tuple[str, str, type[Exception]]] = set()
        self._first_request = asyncio.Event()
        self._stop: Callable[[], Awaitable[None]] | None = None

    def _own(self, api_version: str, kind: str) -> OwnObject:
        shared = self.shared
        return OwnObject(
            api_version,
            kind,
            self.identity.node_name,
            versions=shared.versions,
            clock=shared.clock,
            max_bytes=shared.limits.own_object_bytes,
        )

    # What the operator does and sees.

    @property
    def kubelet_asked(self) -> bool:
        """The kubelet has asked for something, with its token."""
        return self.first_request_at is not None

    @property
    def pod_shown(self) -> bool:
        """The kubelet is, or was, told to run the pod."""
        return self._pod_shown

    def offered(self, resource: str) -> int:
        """How many of these devices the kubelet has reported in this session, for pods to use."""
        return 0 if self._shadow is None else int(self._shadow.allocatable(resource))

    @property
    def device_trouble(self) -> str:
        """What the kubelet last warned of about its device plugin; empty if it did not."""
        return self._device_trouble

    async def wait_node_news(self) -> None:
        """Return when the kubelet's Node has changed, or when there is other news of its devices."""
        await self._node_changed.wait()

    def show_pod(self) -> None:
        """Let the kubelet run the pod: from now on its list has it, and open watches tell it at once."""
        self._pod_shown = True
        self.shown.fire()

    async def wait_first_request(self, timeout_s: float | None = None) -> None:
        """Return when the kubelet has asked for something; raises TimeoutError after `timeout_s`."""
        async with asyncio.timeout(timeout_s):
            await self._first_request.wait()

    async def close(self) -> None:
        """Stop serving: open watches end now, and the socket is gone. May be called again."""
        if self._stop is not None:
            stop, self._stop = self._stop, None
            await stop()

    # What requests need.

    def pod(self) -> Mapping[str, Any] | None:
        """The cell's pod as it is now; None if it is gone, or not to be run yet. Raises Problem (503)."""
        if not self.shared.pods.synced:
            raise unavailable("the pods of the node are not known yet")
        return self.shared.pods.get(self.identity.pod_uid) if self._pod_shown else None

    def references(self) -> frozenset[Reference]:
        """What the pod refers to: nothing while there is no pod. Raises Problem (503)."""
        pod = self.pod()
        return referenced(pod) if pod is not None else frozenset()

    def shadow(self) -> ShadowNode:
        """The cell's Node. Raises Problem (503) while the virtual node is not known."""
        shared = self.shared
        if self._shadow is None:
            real = shared.node()
            if real is None:
                raise unavailable("the virtual node is not known yet")
            self._shadow = ShadowNode(
                self.identity,
                real,
                shared.versions,
                changed=self._node_changed,
                max_bytes=shared.limits.own_object_bytes,
            )
        if not self._admits and (pod := shared.pods.get(self.identity.pod_uid)) is not None:
            self._shadow.require(pod)
            self._admits = True
        return self._shadow

    def note_request(self) -> None:
        """The kubelet has asked for something."""
        if self.first_request_at is None:
            self.first_request_at = self.shared.clock.now()
            self._first_request.set()

    def note_device_trouble(self, message: str) -> None:
        """The kubelet warns of its device plugin. Of each failure it tells twice, the second time in a word."""
        trouble = _OWN_PORT.sub("", message)[:_TROUBLE_CHARACTERS]
        if _IN_A_WORD not in trouble and trouble != self._device_trouble:
            self._device_trouble = trouble
            self._node_changed.fire()

    def note_login_trouble(self, trouble: str) -> None:
        """Why logins that the kubelet has just asked for are missing; empty if none are."""
        self._login_trouble = trouble

    def note_failed_pull(self) -> None:
        """The kubelet tells that it could not pull an image: that the login was missing is worth telling now, and was
        not before, as it may well have others."""
        trouble = self._login_trouble
        if trouble and trouble != self._login_trouble_told:
            self._login_trouble_told = trouble
            self.shared.hooks.pull_failed(self.identity, trouble)

    def patch_node(self, patch: Mapping[str, Any]) -> ShadowNode:
        """Take what the kubelet reports of its node. Raises Problem (413, 422, 503)."""
        shadow = self.shadow()
        shadow.patch(patch)
        # Of the patch, because the Node has more where the pod requests more. It was good enough to be merged, so that
        # it has the form of a Node; a deletion is null.
        memory = dig(patch, "status", "capacity", "memory")
        if memory is not None:
            self._memory_seen(whole(memory))
        return shadow

    def note_refusal(self, method: str, resource: str, reason: str) -> None:
        """Tell of a refusal, once for each method and resource."""
        refusal = (method, resource)
        if refusal in self._refusals or len(self._refusals) > _REMEMBERED_REFUSALS:
            return
        self._refusals.add(refusal)
        if len(self._refusals) > _REMEMBERED_REFUSALS:
            reason = "too many different things were refused: no more of them are told"
        self.shared.hooks.refused(self.identity, method, resource, reason)

    def note_failure(self, method: str, resource: str, error: Exception) -> None:
        """Tell of a fault on our side, once for each method, resource and kind of error: a traceback is long, and a
        cell may repeat what brought it about."""
        failure = (method, resource, type(error))
        if failure not in self._failures and len(self._failures) < _REMEMBERED_FAILURES:
            self._failures.add(failure)
            self.shared.hooks.failed(self.identity, method, resource, error)

    def on_close(self, stop: Callable[[], Awaitable[None]]) -> None:
        """Whoever serves the session says how to stop it."""
        self._stop = stop
