from __future__ import annotations

import pytest

from kip.kubelet.http1 import HttpError
from kip.kubelet.routes import CellRoute, NodeRoute, PodRoute, kind_of, route


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/containerLogs/ns/web-0/app", PodRoute("containerLogs", "ns", "web-0", None, "app")),
        ("POST", "/exec/ns/web-0/app", PodRoute("exec", "ns", "web-0", None, "app")),
        ("GET", "/exec/ns/a.b-c/0f-9/app", PodRoute("exec", "ns", "a.b-c", "0f-9", "app")),
        ("POST", "/attach/ns/web-0/app", PodRoute("attach", "ns", "web-0", None, "app")),
        ("POST", "/portForward/ns/web-0", PodRoute("portForward", "ns", "web-0", None, None)),
        ("GET", "/portForward/ns/web-0/0f-9", PodRoute("portForward", "ns", "web-0", "0f-9", None)),
        ("POST", "/run/ns/web-0/0f-9/app", PodRoute("run", "ns", "web-0", "0f-9", "app")),
        ("POST", "/checkpoint/ns/web-0/app", PodRoute("checkpoint", "ns", "web-0", None, "app")),
        ("GET", "/metrics/resource", NodeRoute("/metrics/resource")),
        ("GET", "/runningpods/", NodeRoute("/runningpods")),
        ("GET", "/pods", NodeRoute("/pods")),
        ("GET", "/logs/cells/kip-1", CellRoute("kip-1")),
        ("GET", "/logs/cells/kip-1/", CellRoute("kip-1")),
    ],
)
def test_served(method: str, path: str, expected: PodRoute | CellRoute | NodeRoute) -> None:
    assert route(method, path) == expected


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/containerLogs/ns/web-0/app", 405),
        ("GET", "/run/ns/web-0/app", 405),
        ("DELETE", "/exec/ns/web-0/app", 405),
        ("POST", "/metrics/resource", 405),
        ("GET", "/containerLogs/ns/web-0/uid/app", 404),
        ("GET", "/containerLogs/ns/web-0", 404),
        ("GET", "/containerLogs/ns/web-0/app/", 404),
        ("GET", "/containerLogs//web-0/app", 404),
        ("GET", "/containerLogs/ns/../app", 404),
        ("GET", "/containerLogs/ns/web%2d0/app", 404),
        ("GET", "/containerLogs/ns/web-0%2fx/app", 404),
        ("GET", "/containerLogs/NS/web-0/app", 404),
        ("GET", "//containerLogs/ns/web-0/app", 404),
        ("GET", "/metrics", 404),
        ("GET", "/logs/messages", 404),
        ("GET", "/logs/cells/", 404),
        ("GET", "/logs/cells/kip-1/etc/shadow", 404),
        ("GET", "/logs/cells/kip-1;id", 404),
        ("GET", "/logs/cells/..", 404),
        ("POST", "/logs/cells/kip-1", 405),
        ("GET", "/configz", 404),
        ("GET", "/debug/pprof/heap", 404),
        ("GET", "/", 404),
        ("GET", "/exec/ns/" + "x" * 300 + "/c", 404),
    ],
)
def test_not_served(method: str, path: str, status: int) -> None:
    with pytest.raises(HttpError) as refused:
        route(method, path)
    assert refused.value.status == status


def test_kinds_are_a_closed_set() -> None:
    paths = [
        "/exec/a/b/c",
        "/exec/x/y/z",
        "/metrics/resource",
        "/runningpods/",
        "/",
        "//",
        "/whatever/else",
        "/exec",
        "/logs/cells/kip-1",
        "/logs/messages",
    ]
    assert {kind_of(path) for path in paths} == {"exec", "logs", "metrics/resource", "runningpods", "other"}


@pytest.mark.parametrize(
    ("what", "may"),
    [("exec", True), ("attach", True), ("portForward", True), ("run", False), ("containerLogs", False)],
)
def test_only_streams_may_upgrade(what: str, may: bool) -> None:
    assert PodRoute(what, "n", "p", None, "c").may_upgrade is may
