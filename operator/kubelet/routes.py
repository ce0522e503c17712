"""The paths of a kubelet that the virtual node serves.

Names stand in a path as they are: a percent sign, an empty part or a dot part has no meaning in a kubelet's path that
a plain one has not, and is not found. So what was authorised, what is looked up and what the cell's kubelet reads
are the same bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kip.kubelet.http1 import HttpError

_NAME = r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?"
_UID = r"[0-9A-Za-z](?:[-0-9A-Za-z]{0,62}[0-9A-Za-z])?"
_CONTAINER = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_POD = rf"(?P<namespace>{_NAME})/(?P<pod>{_NAME})"

# kubelet 1.36, pkg/kubelet/server/server.go: methods and patterns as it registers them.
_POD_ROUTES: dict[str, tuple[frozenset[str], re.Pattern[str]]] = {
    "containerLogs": (frozenset({"GET"}), re.compile(rf"{_POD}/(?P<container>{_CONTAINER})")),
    "exec": (
        frozenset({"GET", "POST"}),
        re.compile(rf"{_POD}(?:/(?P<uid>{_UID}))?/(?P<container>{_CONTAINER})"),
    ),
    "attach": (
        frozenset({"GET", "POST"}),
        re.compile(rf"{_POD}(?:/(?P<uid>{_UID}))?/(?P<container>{_CONTAINER})"),
    ),
    "portForward": (frozenset({"GET", "POST"}), re.compile(rf"{_POD}(?:/(?P<uid>{_UID}))?")),
    "run": (frozenset({"POST"}), re.compile(rf"{_POD}(?:/(?P<uid>{_UID}))?/(?P<container>{_CONTAINER})")),
    "checkpoint": (frozenset({"POST"}), re.compile(rf"{_POD}/(?P<container>{_CONTAINER})")),
}
_UPGRADING = frozenset({"exec", "attach", "portForward"})

# A kubelet's /logs/ has the files and the journal of its machine; a virtual node has many machines.
_CELL_LOGS = re.compile(rf"/logs/cells/(?P<cell>{_NAME})")

_NODE_ROUTES = frozenset(
    {
        "/healthz",
        "/healthz/ping",
        "/metrics/cadvisor",
        "/metrics/probes",
        "/metrics/resource",
        "/pods",
        "/runningpods",
        "/stats/summary",
    }
)


@dataclass(frozen=True, slots=True)
class PodRoute:
    """A request about one pod: it goes to that pod's kubelet."""

    what: str
    namespace: str
    pod: str
    uid: str | None
    container: str | None

    @property
    def may_upgrade(self) -> bool:
        """Whether a kubelet turns such a request's connection into a stream."""
        return self.what in _UPGRADING


@dataclass(frozen=True, slots=True)
class CellRoute:
    """A request about the machine of one cell."""

    cell: str


@dataclass(frozen=True, slots=True)
class NodeRoute:
    """A request about the node as a whole."""

    path: str


def kind_of(path: str) -> str:
    """What a path is about, from a closed set of names, for metrics."""
    plain = path.rstrip("/")
    first = path.split("/", 2)[1]
    return (
        plain[1:] if plain in _NODE_ROUTES else first if first in _POD_ROUTES or first == "logs" else "other"
    )


def route(method: str, path: str) -> PodRoute | CellRoute | NodeRoute:
    """Raises HttpError 404 or 405 with a sentence that names the path."""
    plain = path.rstrip("/")
    cell = _CELL_LOGS.fullmatch(plain)
    if cell is not None or plain in _NODE_ROUTES:
        if method != "GET":
            raise HttpError(405, f"{method} {path}: only GET is served here")
        return NodeRoute(plain) if cell is None else CellRoute(cell["cell"])
    what, _, rest = path.removeprefix("/").partition("/")
    if what not in _POD_ROUTES:
        raise HttpError(404, f"{path[:200]}: not served by a virtual node")
    methods, pattern = _POD_ROUTES[what]
    match = pattern.fullmatch(rest)
    if match is None:
        raise HttpError(
            404, f"{path[:200]}: expected /{what}/<namespace>/<pod>…, names as Kubernetes writes them"
        )
    if method not in methods:
        raise HttpError(405, f"{method} {path}: only {' and '.join(sorted(methods))} are served here")
    found = match.groupdict()
    return PodRoute(what, found["namespace"], found["pod"], found.get("uid"), found.get("container"))
