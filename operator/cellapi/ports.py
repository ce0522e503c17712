"""What the cell API needs from others, as small as it needs it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, Unpack

from kip.cellapi.identity import CellIdentity
from kip.images.lending import Lent
from kip.kube.client import Reply, RequestOptions

Object = dict[str, Any]
Event = tuple[str, Object]


class ApiClient(Protocol):
    """The real API server (`kip.kube.client.ApiClient`)."""

    async def request(self, method: str, path: str, **options: Unpack[RequestOptions]) -> Reply:
        """Send one request; raises `kip.kube.errors.Unavailable` when there is no answer."""
        ...


class Collection(Protocol):
    """A shared cache of one resource (`kip.kube.store.Store`)."""

    @property
    def synced(self) -> bool: ...

    @property
    def resource_version(self) -> str: ...


class PodStore(Collection, Protocol):
    """The pods bound to the virtual node."""

    def get(self, uid: str) -> Object | None: ...

    def subscribe(self, uid: str) -> AbstractContextManager[asyncio.Queue[Event]]: ...


class Informer(Collection, Protocol):
    """All objects of one resource."""

    def items(self) -> list[Object]: ...

    def subscribe(self) -> AbstractContextManager[asyncio.Queue[Event]]: ...


class Lending(Protocol):
    """Logins of Kip's own for pods' images (`kip.images.lending.Lending`)."""

    def registries(self, pod: Mapping[str, Any]) -> tuple[str, ...]:
        """Those of the pod's images for which there are such logins; the same for the same pod, always."""
        ...

    async def of(self, registries: tuple[str, ...]) -> Lent:
        """What there is of them within a few seconds."""
        ...


class Hooks(Protocol):
    """Who wants to know what cells ask: metrics and logs."""

    def answered(self, rule: str, verdict: str, code: int, seconds: float) -> None:
        """A request was answered; for a watch, `seconds` is its whole life. `rule` is of a bounded set."""
        ...

    def refused(self, cell: CellIdentity, method: str, resource: str, reason: str) -> None:
        """Something that cells have no business with was asked; told once per cell, method and resource."""
        ...

    def failed(self, cell: CellIdentity, method: str, resource: str, error: BaseException) -> None:
        """A request could not be answered because of a fault on our side; told once per cell, method, resource and
        kind of error."""
        ...

    def pull_failed(self, cell: CellIdentity, trouble: str) -> None:
        """The kubelet could not pull an image, and a login that Kip would have lent was missing; told once per cell and
        trouble."""
        ...
