"""List, watch, and again: what is asked of the API server, and what becomes of its answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from kip.kube.errors import Unavailable
from kip.kube.watch import Changed, Interrupted, Listed, follow


class _NoTime:
    """A clock whose sleeps take none."""

    def now(self) -> Any:
        raise AssertionError("nobody asks for the time")

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        return None


def _object(version: str, name: str = "a") -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": version}}


def _event(kind: str, thing: Mapping[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": thing}).encode() + b"\n"


_GONE = _event("ERROR", {"code": 410, "reason": "Expired", "message": "too old"})


@dataclass
class _Server:
    """Answers each watch with the next of the given lists of lines; None: it cannot be reached."""

    watches: list[list[bytes] | None]
    asked: list[Mapping[str, str]] = field(default_factory=list)
    silence_s: float = 0.0

    async def call(self, method: str, path: str, *, params: Mapping[str, str]) -> Any:
        self.asked.append(params)
        return {"items": [_object("10")], "metadata": {"resourceVersion": "10"}}

    @asynccontextmanager
    async def stream(
        self, path: str, params: Mapping[str, str], *, idle_timeout_s: float
    ) -> AsyncIterator[Any]:
        self.asked.append(params)
        self.silence_s = idle_timeout_s
        lines = self.watches.pop(0)
        if lines is None:
            raise Unavailable("refused")
        yield _Answer(lines)


class _Answer:
    def __init__(self, lines: list[bytes]) -> None:
        self.content = self._each(lines)

    async def _each(self, lines: list[bytes]) -> AsyncIterator[bytes]:
        for line in lines:
            yield line


async def _see(server: _Server, count: int) -> list[Listed | Changed | Interrupted]:
    seen = []
    async for event in follow(server, "/api/v1/things", {}, _NoTime()):  # type: ignore[arg-type]
        seen.append(event)
        if len(seen) == count:
            break
    return seen


async def test_a_watch_goes_on_where_the_one_before_ended() -> None:
    server = _Server([[_event("MODIFIED", _object("11"))], [_event("BOOKMARK", _object("15"))], []])
    listed, *changes = await _see(server, 3)
    assert isinstance(listed, Listed)
    assert [change.type for change in changes if isinstance(change, Changed)] == ["MODIFIED", "BOOKMARK"]
    assert [asked.get("resourceVersion") for asked in server.asked] == [None, "10", "11"]


async def test_a_version_that_is_gone_leads_to_a_new_list() -> None:
    server = _Server([[_GONE], [_event("ADDED", _object("12"))]])
    assert [type(event) for event in await _see(server, 3)] == [Listed, Listed, Changed]


async def test_a_server_that_is_away_is_told_and_asked_again() -> None:
    server = _Server([None, [_event("ADDED", _object("12"))]])
    assert [type(event) for event in await _see(server, 3)] == [Listed, Interrupted, Changed]


async def test_a_line_that_breaks_off_is_an_interruption() -> None:
    server = _Server([[b'{"type": "ADDED", "obj'], []])
    [_, interrupted] = await _see(server, 2)
    assert isinstance(interrupted, Interrupted)
    assert "middle of a line" in str(interrupted.error)


async def test_a_watch_ends_before_its_silence_is_taken_for_a_loss() -> None:
    server = _Server([[_event("ADDED", _object("12"))]])
    await _see(server, 2)
    assert float(server.asked[1]["timeoutSeconds"]) < server.silence_s


async def test_after_four_failures_the_list_is_asked_for_again() -> None:
    server = _Server([*[None] * 4, [_event("ADDED", _object("12"))]])
    assert [type(event) for event in await _see(server, 7)] == [Listed, *[Interrupted] * 4, Listed, Changed]
