"""Options of list and watch requests, and the stream that answers a watch."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from aiohttp import web

from kip.cellapi.problem import Problem, bad_request

# A reflector asks for 5-10 minutes. A watch without a limit would be ended by the API server after 30-60.
_DEFAULT_WATCH_S = 1800
_MAX_WATCH_S = 3600

_BOOLEANS = {"": False, "0": False, "false": False, "1": True, "true": True}
_KNOWN = {
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "pretty",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeout",
    "timeoutSeconds",
    "watch",
}

HEADERS = {"Server": "kip"}
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class ListOptions:
    """`metav1.ListOptions`. Paging is not among them: every list here is short and given whole."""

    watch: bool
    resource_version: int | None
    """None: not given, that is the newest. 0: any."""
    send_initial_events: bool
    allow_bookmarks: bool
    field_selector: str
    timeout_s: float


def list_options(query: Mapping[str, str]) -> ListOptions:
    """Raises Problem (400) for what cannot be read, or would be ignored although it narrows the result."""
    if unknown := sorted(set(query) - _KNOWN):
        raise bad_request(f"unknown query parameters: {', '.join(unknown)}")
    if query.get("labelSelector") or query.get("continue"):
        raise bad_request("labelSelector and continue are not served here")
    return ListOptions(
        watch=_boolean(query, "watch"),
        resource_version=_number(query, "resourceVersion"),
        send_initial_events=_boolean(query, "sendInitialEvents"),
        allow_bookmarks=_boolean(query, "allowWatchBookmarks"),
        field_selector=query.get("fieldSelector", ""),
        timeout_s=min(_number(query, "timeoutSeconds") or _DEFAULT_WATCH_S, _MAX_WATCH_S),
    )


def _boolean(query: Mapping[str, str], name: str) -> bool:
    try:
        return _BOOLEANS[query.get(name, "").lower()]
    except KeyError:
        raise bad_request(f"{name} must be true or false") from None


def _number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise bad_request(f"{name} must be a decimal number")
    return int(text)


def event_line(kind: str, obj: bytes) -> bytes:
    """One event of a watch, from an object that is encoded already."""
    return b'{"type":"%s","object":%s}\n' % (kind.encode(), obj)


def bookmark_line(api_version: str, kind: str, resource_version: str, *, initial_events_end: bool) -> bytes:
    """All that happened up to this resourceVersion has been told; for a streamed list, all of the list has."""
    metadata: dict[str, object] = {"resourceVersion": resource_version, "creationTimestamp": None}
    if initial_events_end:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    return event_line(
        "BOOKMARK",
        msgspec.json.encode({"kind": kind, "apiVersion": api_version, "metadata": metadata}),
    )


class WatchStream:
    """The answer to a watch: lines, sent as they come, until the time asked for is over."""

    def __init__(self, request: web.BaseRequest, timeout_s: float, write_s: float) -> None:
        self._request = request
        self._write_s = write_s
        self._deadline = asyncio.get_running_loop().time() + timeout_s
        self.response = web.StreamResponse(headers={**HEADERS, "Content-Type": JSON})

    @property
    def remaining_s(self) -> float:
        return max(0.0, self._deadline - asyncio.get_running_loop().time())

    async def open(self) -> None:
        """Send the head of the answer: a client that gets it knows that its watch is accepted."""
        await self.response.prepare(self._request)

    async def send(self, line: bytes) -> None:
        """Raises ConnectionResetError when the client is gone, or does not take what it is sent."""
        try:
            async with asyncio.timeout(self._write_s):
                await self.response.write(line)
        except TimeoutError:
            if self._request.transport is not None:
                self._request.transport.abort()
            raise ConnectionResetError("the client does not read") from None

    async def fail(self, problem: Problem) -> None:
        """Tell an error in the stream, as the last thing in it."""
        await self.send(event_line("ERROR", msgspec.json.encode(problem.status())))
