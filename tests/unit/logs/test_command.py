"""`kip logs`: what it prints, and says when it cannot."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kip import cli
from kip.cells.repository import CELLS_PATH
from kip.kube.fake import FakeApi
from kip.logs import command
from kip.model.clock import SystemClock


class Answer:
    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.body = body


class Proxied(FakeApi):
    """An API server with a node behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.answer = Answer(200, b"2026-01-01T00:00:00+00:00 cell kubelet[7]: Started\n")
        self.before: list[Answer] = []

    async def request(self, method: str, path: str, **options: Any) -> Any:
        if "/proxy/" not in path:
            return await super().request(method, path, **options)
        self.asked.append(path)
        return self.before.pop(0) if self.before else self.answer


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Proxied:
    made = Proxied()

    @asynccontextmanager
    async def given(kubeconfig: Any) -> AsyncIterator[Proxied]:
        yield made

    monkeypatch.setattr(command, "connected", given)
    spec = {"nodeName": "kip-0", "podName": "web", "podNamespace": "shop", "podUID": "u"}
    asyncio.run(made.create(CELLS_PATH, {"metadata": {"name": "kip-u"}, "spec": spec}))
    return made


@pytest.fixture
def run() -> Callable[..., Result]:
    return lambda *options: CliRunner().invoke(cli.main, ["logs", *options])


def test_it_prints_what_the_node_says(api: Proxied, run: Callable[..., Result]) -> None:
    result = run("shop/web", "--system", "--unit", "kubelet", "--tail", "5")
    assert result.exit_code == 0, result.output
    assert result.output == "2026-01-01T00:00:00+00:00 cell kubelet[7]: Started\n"
    assert api.asked == ["/api/v1/nodes/kip-0/proxy/logs/cells/kip-u?query=kubelet&tailLines=5"]


def test_the_nodes_own_words_when_the_cell_does_not_answer(api: Proxied, run: Callable[..., Result]) -> None:
    api.answer = Answer(502, b"cell kip-u: no connection: no answer yet\n")
    result = run("kip-u", "--system")
    assert result.exit_code == 1
    assert result.output == "Error: cell kip-u: no connection: no answer yet\n"


def test_who_may_not_is_told_what_it_takes(api: Proxied, run: Callable[..., Result]) -> None:
    api.answer = Answer(403, b'{"message": "nodes is forbidden", "reason": "Forbidden"}')
    result = run("kip-u", "--system")
    assert result.exit_code == 1
    assert "getting nodes/proxy" in result.output


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []

    class Clock(SystemClock):
        async def sleep(self, seconds: float) -> None:
            waited.append(seconds)

    monkeypatch.setattr(command, "SystemClock", Clock)
    return waited


def entry(second: int, text: str) -> bytes:
    return f"2026-01-01T00:00:{second:02}+00:00 cell kubelet[7]: {text}\n".encode()


def test_following_shows_what_is_new_until_the_cell_is_gone(
    api: Proxied, run: Callable[..., Result], no_waiting: list[float]
) -> None:
    api.before = [
        Answer(502, b"cell kip-u: no connection\n"),
        Answer(200, entry(1, "a") + entry(2, "b")),
        Answer(200, entry(2, "b") + entry(2, "c")),
        Answer(502, b"cell kip-u: no answer\n"),
        Answer(502, b"cell kip-u: no answer\n"),
        Answer(200, entry(2, "b") + entry(2, "c") + entry(3, "d")),
    ]
    api.answer = Answer(404, b"there is no cell kip-u of this node\n")
    result = run("shop/web", "--system", "-f", "--unit", "kubelet", "--tail", "7")
    assert result.exit_code == 0, result.output
    assert result.stdout.encode() == entry(1, "a") + entry(2, "b") + entry(2, "c") + entry(3, "d")
    assert result.stderr.splitlines() == [
        "kip: cell kip-u: no connection; still trying",
        "kip: cell kip-u: no answer; still trying",
        "kip: there is no cell kip-u of this node",
    ]
    assert [path.partition("?")[2] for path in api.asked[:3]] == [
        "query=kubelet&tailLines=7",
        "query=kubelet&tailLines=7",
        "query=kubelet&tailLines=2000&sinceTime=2026-01-01T00%3A00%3A02Z",
    ]
    assert no_waiting == [command.FOLLOW_EVERY_S] * 6


def test_following_without_what_is_there_already(
    api: Proxied, run: Callable[..., Result], no_waiting: list[float]
) -> None:
    api.before = [Answer(200, entry(1, "a")), Answer(200, entry(1, "a") + entry(1, "b"))]
    api.answer = Answer(404, b"gone\n")
    result = run("shop/web", "--system", "--follow", "--tail", "0")
    assert result.stdout.encode() == entry(1, "b")
    assert api.asked[0].endswith("?tailLines=1")


def test_following_ends_when_the_right_to_it_is_taken_away(
    api: Proxied, run: Callable[..., Result], no_waiting: list[float]
) -> None:
    api.before = [Answer(200, entry(1, "a"))]
    api.answer = Answer(403, b'{"message": "nodes is forbidden", "reason": "Forbidden"}')
    result = run("shop/web", "--system", "--follow")
    assert result.exit_code == 1
    assert "getting nodes/proxy" in result.output


def test_whoever_has_seen_enough_hears_no_more(
    api: Proxied, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `kip logs … -f | head -1`."""

    def closed(text: str) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(command, "_print", closed)
    result = run("shop/web", "--system", "-f")
    assert (result.exit_code, result.output) == (1, "")


@pytest.mark.parametrize(
    ("options", "status", "told"),
    [
        (("kip-u",), 2, "use `kubectl logs`"),
        (("kip-9", "--system"), 1, "there is no cell kip-9; a pod is named with its namespace"),
        (
            ("kip-u", "--system", "--unit", "sshd"),
            2,
            "'sshd' is not one of 'kubelet', 'containerd', 'cloud-init'",
        ),
        (("kip-u", "--system", "--since", "1d"), 2, "expected a duration like 1h30m"),
        (("kip-u", "--system", "--tail", "99999"), 2, "0<=x<=10000"),
    ],
)
def test_what_is_wrong_is_said(
    api: Proxied, run: Callable[..., Result], options: tuple[str, ...], status: int, told: str
) -> None:
    result = run(*options)
    assert result.exit_code == status
    assert told in result.output
    assert api.asked == []
