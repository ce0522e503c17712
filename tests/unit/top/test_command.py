"""`kip top`: what it asks, prints and says when it cannot."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kip import cli
from kip.cells.repository import CELLS_PATH
from kip.kube.errors import Forbidden, NotFound, Unavailable
from kip.kube.fake import FakeApi
from kip.top import command


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    made = FakeApi()

    @asynccontextmanager
    async def given(kubeconfig: Any) -> AsyncIterator[FakeApi]:
        yield made

    monkeypatch.setattr(command, "connected", given)
    spec = {"nodeName": "kip-0", "podName": "web", "podNamespace": "shop", "podUID": "u"}
    status = {"instanceID": "i-1", "instanceType": "t3.nano", "launchType": "Spot", "pricePerHour": "0.5"}
    asyncio.run(made.create(CELLS_PATH, {"metadata": {"name": "kip-u"}, "spec": spec, "status": status}))
    return made


@pytest.fixture
def run() -> Callable[..., Result]:
    return lambda *options: CliRunner().invoke(cli.main, ["top", *options])


def test_one_picture_where_there_is_no_terminal(api: FakeApi, run: Callable[..., Result]) -> None:
    result = run()
    assert result.exit_code == 0, result.output
    summary, head, line = result.output.splitlines()
    assert summary.startswith("1 cell (1 Pending); $0.5000 an hour")
    assert head.startswith("NAMESPACE")
    assert line.split()[:3] == ["shop", "web", "Pending"]


def test_for_programs(api: FakeApi, run: Callable[..., Result]) -> None:
    told = json.loads(run("-o", "json").output)
    assert told["totals"] == {
        "cells": 1,
        "phases": {"Pending": 1},
        "usdPerHour": 0.5,
        "usdSoFar": 0,
        "unpriced": 0,
    }
    [cell] = told["cells"]
    assert (cell["cell"], cell["instanceID"], cell["market"], cell["usdPerHour"]) == (
        "kip-u",
        "i-1",
        "spot",
        0.5,
    )
    assert told["asOf"].endswith("Z")


def test_nothing_of_another_namespace(api: FakeApi, run: Callable[..., Result]) -> None:
    assert run("-n", "other").output == "0 cells; $0.0000 an hour, $0.0000 so far\n"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (NotFound(404, "NotFound", "no such page"), "Kip is not installed there"),
        (
            Forbidden(403, "Forbidden", "you may not"),
            "you may not (403 Forbidden): the verbs list and watch on",
        ),
        (Unavailable("nobody answers"), "nobody answers"),
    ],
)
def test_what_is_wrong_is_said(
    api: FakeApi,
    run: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    told: str,
) -> None:
    async def refuse(*_: Any) -> None:
        raise error

    monkeypatch.setattr(command, "list_all", refuse)
    result = run()
    assert result.exit_code == 1
    assert told in result.output


def test_no_cluster_at_all(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    result = run()
    assert result.exit_code == 1
    assert "give --kubeconfig or set KUBECONFIG" in result.output
