"""The query of `/containerLogs`: corev1.PodLogOptions, read and checked as a kubelet does."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from kip.kubelet.http1 import HttpError

_INT64 = range(-(2**63), 2**63)
_RFC3339 = re.compile(
    r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.(\d{1,9})\d*)?(Z|[+-]\d{2}:\d{2})", re.ASCII
)
_NS = 10**9


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Which part of a log is wanted. Times are nanoseconds since 1970, UTC."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    since_ns: int | None = None
    tail_lines: int | None = None
    limit_bytes: int | None = None


def parse(query: Iterable[tuple[str, str]], now: datetime) -> LogOptions:
    """Read the decoded parameters; the first of each name counts, unknown names mean nothing.

    Raises HttpError 400 for what is no value of its type, 422 for a value that makes no sense; both name the
    parameter.
    """
    values: dict[str, str] = {}
    for name, value in query:
        values.setdefault(name, value)
    if (tail := values.get("tail")) is not None and tail:  # the name that clients before Kubernetes 1.2 used
        values.pop("tailLines", None)
        if tail != "all":
            values["tailLines"] = tail
    _refuse_stream(values.get("stream"))
    return LogOptions(
        follow=_boolean(values.get("follow")),
        previous=_boolean(values.get("previous")),
        timestamps=_boolean(values.get("timestamps")),
        since_ns=_since(values, now),
        tail_lines=_integer(values, "tailLines", least=0),
        limit_bytes=_integer(values, "limitBytes", least=1),
    )


def to_ns(timestamp: str) -> int | None:
    """An RFC 3339 timestamp in nanoseconds since 1970; None for anything else."""
    match = _RFC3339.fullmatch(timestamp)
    if match is None:
        return None
    try:
        moment = datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00"))
    except ValueError:
        return None
    seconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    return seconds * _NS + int((match[2] or "0").ljust(9, "0"))


def _since(values: dict[str, str], now: datetime) -> int | None:
    seconds = _integer(values, "sinceSeconds", least=1)
    text = values.get("sinceTime")
    moment = None
    if text and text != "null":
        moment = to_ns(text)
        if moment is None:
            raise HttpError(400, f"sinceTime: {text[:80]!r}, expected a time like 2006-01-02T15:04:05Z")
    if seconds is not None and moment is not None:
        raise HttpError(422, "at most one of sinceTime and sinceSeconds may be given")
    if seconds is not None:
        return (now - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000 - seconds * _NS
    return moment


def _integer(values: dict[str, str], name: str, *, least: int) -> int | None:
    text = values.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"[+-]?[0-9]{1,20}", text, re.ASCII) or int(text) not in _INT64:
        raise HttpError(400, f"{name}: {text[:80]!r}, expected a whole number")
    if int(text) < least:
        raise HttpError(422, f"{name}: {text}, expected at least {least}")
    return int(text)


def _boolean(text: str | None) -> bool:
    """As apimachinery does: everything that is there and not a plain no is a yes."""
    return text is not None and text != "0" and text.lower() != "false"


def _refuse_stream(stream: str | None) -> None:
    """Only a kubelet with the alpha feature PodLogsQuerySplitStreams tells the two streams apart."""
    if stream not in (None, "All"):
        raise HttpError(400, f"stream: {stream[:80]!r}, expected All (stdout and stderr are not kept apart)")
