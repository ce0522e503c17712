"""What `kip logs` asks, and what of the answer reaches a terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kip.logs import request

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


def cell(name: str, pod: str = "web", created: str = "2026-01-01T00:00:00Z") -> dict[str, Any]:
    spec = {"nodeName": "kip-provider-0", "podNamespace": "shop", "podName": pod}
    return {"metadata": {"name": name, "creationTimestamp": created}, "spec": spec}


def test_by_way_of_the_nodes_proxy() -> None:
    assert request.path(cell("kip-1"), ["kubelet", "cloud-init"], 20, NOW) == (
        "/api/v1/nodes/kip-provider-0/proxy/logs/cells/kip-1"
        "?query=kubelet&query=cloud-init&tailLines=20&sinceTime=2026-01-02T12%3A00%3A00Z"
    )


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", datetime(2026, 1, 2, 11, 58, 30, tzinfo=UTC)),
        ("1h30m", datetime(2026, 1, 2, 10, 30, tzinfo=UTC)),
        ("2026-01-01T00:00:00Z", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01T01:00:00+01:00", datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
def test_since(text: str, moment: datetime) -> None:
    assert request.since(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "1d", "yesterday", "2026-01-01T00:00:00", "-5m"])
def test_no_since(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration like 1h30m"):
        request.since(text, NOW)


def test_a_cell_by_its_name_or_its_pods() -> None:
    cells = [
        cell("kip-1", created="2026-01-01T00:00:00Z"),
        cell("kip-2", created="2026-01-02T00:00:00Z"),
        cell("kip-3", "db"),
    ]
    assert request.chosen(cells, "kip-1")["metadata"]["name"] == "kip-1"
    assert request.chosen(cells, "shop/web")["metadata"]["name"] == "kip-2"
    assert request.chosen(cells, "shop/db")["metadata"]["name"] == "kip-3"
    with pytest.raises(LookupError, match="there is no cell kip-9"):
        request.chosen(cells, "kip-9")
    with pytest.raises(LookupError, match="pod shop/x has no cell"):
        request.chosen(cells, "shop/x")


def test_a_cell_cannot_speak_to_the_terminal() -> None:
    assert request.harmless("a\tb\n\x1b]0;owned\x07\x9b31m\r") == "a\tb\n\\x1b]0;owned\\x07\\x9b31m\\x0d"
