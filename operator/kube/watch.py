"""List, then watch, then list again when needed: the loop below every cache of cluster objects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from kip.kube.client import ApiClient
from kip.kube.errors import ApiError, Gone, KubeError, Unavailable
from kip.model.clock import Clock

# Pages keep a list of thousands from blocking the event loop while it is decoded.
_PAGE = 500
# A healthy API server ends the watch when its time is over: one that is silent for longer is no longer there. Bookmarks
# tell less: none newer than the list that the watch began with are sent as long as no such object changes (`process`,
# k8s.io/apiserver/pkg/storage/cacher/cache_watcher.go).
_WATCH_S = 75
_SILENCE_S = 90.0
_BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
# A watch that cannot be continued so often may be asked for from a version that this server does not know (etcd was
# restored from a backup): begin with a list.
_LIST_AFTER = 4


@dataclass(frozen=True)
class Listed:
    """A whole, consistent list."""

    items: list[dict[str, Any]]
    resource_version: str


@dataclass(frozen=True)
class Changed:
    """One event of a watch: ADDED, MODIFIED, DELETED, or BOOKMARK (whose object has only a resourceVersion)."""

    type: str
    object: dict[str, Any]


@dataclass(frozen=True)
class Interrupted:
    """The API server could not be asked; what is known is growing old. Trying goes on."""

    error: KubeError


async def list_all(client: ApiClient, path: str, params: Mapping[str, str]) -> Listed:
    """The whole list, page by page, with the resourceVersion of its snapshot."""
    items: list[dict[str, Any]] = []
    query = {**params, "limit": str(_PAGE)}
    while True:
        page = await client.call("GET", path, params=query)
        items.extend(page.get("items") or ())
        token = page["metadata"].get("continue")
        if not token:
            return Listed(items, page["metadata"]["resourceVersion"])
        query["continue"] = token


async def follow(
    client: ApiClient, path: str, params: Mapping[str, str], clock: Clock
) -> AsyncIterator[Listed | Changed | Interrupted]:
    """For ever: the list, then each change to it; a new list whenever the thread is lost."""
    failures = 0
    resource_version: str | None = None
    while True:
        try:
            if resource_version is None:
                listed = await list_all(client, path, params)
                resource_version = listed.resource_version
                yield listed
            async for event in _watch_once(client, path, params, resource_version):
                resource_version = event.object["metadata"]["resourceVersion"]
                failures = 0
                yield event
            # The server ends a watch after _WATCH_S; a server that ends it at once must not be asked in a tight loop.
            await clock.sleep(0.05)
        except Gone:
            resource_version = None
            await clock.sleep(0.05)
        except KubeError as error:
            yield Interrupted(error)
            await clock.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
            failures += 1
            if failures >= _LIST_AFTER:
                resource_version = None


async def _watch_once(
    client: ApiClient, path: str, params: Mapping[str, str], resource_version: str
) -> AsyncIterator[Changed]:
    query = {
        **params,
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": resource_version,
        "timeoutSeconds": str(_WATCH_S),
    }
    async with client.stream(path, query, idle_timeout_s=_SILENCE_S) as response:
        async for line in response.content:
            try:
                event = msgspec.json.decode(line)
            except msgspec.DecodeError as error:
                raise Unavailable(f"GET {path}: the watch broke off in the middle of a line") from error
            if event["type"] == "ERROR":
                status = event["object"]
                code = status.get("code", 500)
                raise (Gone if code == 410 else ApiError)(
                    code, status.get("reason", ""), status.get("message", "the watch ended with an error")
                )
            yield Changed(event["type"], event["object"])
