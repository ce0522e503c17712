"""What to ask of the virtual node, and what may be shown of its answer: pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from kip.model.clock import to_rfc3339

_DURATION = re.compile(r"(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?", re.ASCII)
# All but tab and line feed. A cell may say anything, and a terminal obeys: titles, colours, answers to queries.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def path(cell: Mapping[str, Any], units: Sequence[str], tail: int, since: datetime | None) -> str:
    """By way of the API server's proxy to the cell's virtual node: who may get `nodes/proxy` gets an answer."""
    query = [("query", unit) for unit in units] + [("tailLines", str(tail))]
    if since is not None:
        query.append(("sinceTime", to_rfc3339(since)))
    node, name = quote(cell["spec"]["nodeName"]), quote(cell["metadata"]["name"])
    return f"/api/v1/nodes/{node}/proxy/logs/cells/{name}?{urlencode(query)}"


def since(text: str, now: datetime) -> datetime:
    """Raises ValueError for what is neither a duration like 1h30m nor a time like 2006-01-02T15:04:05Z."""
    match = _DURATION.fullmatch(text)
    if match is not None and text:
        hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return now - timedelta(hours=hours, minutes=minutes, seconds=seconds)
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"{text!r}: expected a duration like 1h30m, or a time like 2006-01-02T15:04:05Z")
    return moment


def chosen(cells: Sequence[Mapping[str, Any]], wanted: str) -> Mapping[str, Any]:
    """The Cell of that name, or of the pod `namespace/name`; the newest of several. Raises LookupError."""
    namespace, slash, pod = wanted.partition("/")
    of_pod = {"podNamespace": namespace, "podName": pod}
    found = [
        cell
        for cell in cells
        if (of_pod.items() <= cell["spec"].items() if slash else cell["metadata"]["name"] == wanted)
    ]
    if not found:
        none = f"there is no cell {wanted}; a pod is named with its namespace, as in default/web"
        raise LookupError(f"pod {wanted} has no cell" if slash else none)
    return max(found, key=lambda cell: str(cell["metadata"]["creationTimestamp"]))


def harmless(text: str) -> str:
    """For a terminal: control characters are made visible."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
