"""A store kept up to date by list and watch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from kip.kube.client import ApiClient
from kip.kube.errors import KubeError
from kip.kube.store import Store
from kip.kube.watch import Changed, Interrupted, Listed, follow
from kip.model.clock import Clock

log = structlog.get_logger(__name__)


class Informer(Store):
    """All objects of one path (and selector), shared by everybody who needs them: one watch for all cells."""

    def __init__(
        self,
        client: ApiClient,
        path: str,
        *,
        clock: Clock,
        params: Mapping[str, str] | None = None,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self._client = client
        self._path = path
        self._params = dict(params or {})
        self._clock = clock
        self._on_change = on_change
        self._first_list = asyncio.Event()
        self.last_error: KubeError | None = None

    async def run(self) -> None:
        """Keep the store current, for ever."""
        async for news in follow(self._client, self._path, self._params, self._clock):
            match news:
                case Interrupted(error):
                    if self.last_error is None:
                        log.warning("watch interrupted", path=self._path, error=str(error))
                    self.last_error = error
                    continue
                case Listed(items, resource_version):
                    self.replace(items, resource_version)
                    self._first_list.set()
                case Changed("BOOKMARK", obj):
                    self.bookmark(obj["metadata"]["resourceVersion"])
                    continue
                case Changed("DELETED", obj):
                    self.remove(obj)
                case Changed(_, obj):
                    self.put(obj)
            self.last_error = None
            if self._on_change is not None:
                self._on_change()

    async def wait_synced(self, timeout_s: float) -> None:
        """Return when the first list has arrived; raises TimeoutError naming the path and the last error."""
        try:
            await asyncio.wait_for(self._first_list.wait(), timeout_s)
        except TimeoutError:
            raise TimeoutError(
                f"no list of {self._path} within {timeout_s:g} s; last error: {self.last_error or 'none'}"
            ) from None
