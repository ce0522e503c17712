"""Lists and watches: nothing is missed, nothing is asked in a tight loop."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from kip.kube.errors import Forbidden, Gone, NotFound, Unavailable
from kip.kube.fake import FakeApi
from kip.kube.informer import Informer
from kip.kube.waiting import when_available
from kip.kube.watch import Changed, Interrupted, Listed, follow, list_all
from kip.model.clock import ManualClock, settle

PODS = "/api/v1/namespaces/d/pods"


class Script(FakeApi):
    """Watches by script: lists of lines, or errors."""

    def __init__(self) -> None:
        super().__init__(clock=ManualClock())
        self.watches: list[list[bytes | Exception] | Exception] = []
        self.asked: list[str] = []

    @asynccontextmanager
    async def stream(self, path, params, *, idle_timeout_s=None):
        self.asked.append(params["resourceVersion"])
        watch = self.watches.pop(0) if self.watches else [asyncio.CancelledError()]
        if isinstance(watch, Exception):
            raise watch

        async def lines():
            for line in watch:
                if isinstance(line, asyncio.CancelledError):
                    await asyncio.Event().wait()
                if isinstance(line, Exception):
                    raise line
                yield line

        yield SimpleNamespace(content=lines())


def line(kind: str, version: int, **more) -> bytes:
    return json.dumps(
        {"type": kind, "object": {"metadata": {"resourceVersion": str(version)}, **more}}
    ).encode()


async def collect(api: Script, seconds: float = 60) -> list:
    news, clock = [], ManualClock()

    async def run():
        async for one in follow(api, PODS, {}, clock):
            news.append(one)  # noqa: PERF401 - cut off by a cancellation, with what there is by then

    task = asyncio.create_task(run())
    await clock.advance(seconds)
    await settle()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return news


async def test_a_watch_goes_on_from_its_last_version():
    api = Script()
    api.watches = [[line("ADDED", 105), line("BOOKMARK", 120)], [line("MODIFIED", 130)]]
    news = await collect(api)
    assert [type(n).__name__ for n in news] == ["Listed", "Changed", "Changed", "Changed"]
    assert api.asked == ["100", "120", "130"]


@pytest.mark.parametrize(
    "end",
    [
        Gone(410, "Expired", "too old"),
        [line("ERROR", 0, code=410, reason="Expired", message="too old resource version")],
    ],
    ids=["as an answer", "as an event"],
)
async def test_a_version_that_is_too_old_means_another_list(end):
    api = Script()
    api.watches = [end]
    news = await collect(api)
    assert [type(n).__name__ for n in news] == ["Listed", "Listed"]


async def test_a_line_cut_off_in_the_middle_is_an_interruption():
    api = Script()
    api.watches = [[line("ADDED", 105), b'{"type":"MODI']]
    news = await collect(api)
    assert [type(n).__name__ for n in news] == ["Listed", "Changed", "Interrupted"]
    assert "middle of a line" in str(news[-1].error)
    assert api.asked == ["100", "105"]


async def test_a_watch_that_cannot_be_continued_begins_with_a_list_again():
    """After etcd was restored from a backup, the version that was reached lies in the future."""
    api = Script()
    api.watches = [Unavailable("Too large resource version")] * 4
    news = await collect(api)
    assert [type(n).__name__ for n in news] == ["Listed", *["Interrupted"] * 4, "Listed"]


async def test_an_api_server_that_ends_watches_at_once_is_not_asked_in_a_tight_loop():
    api = Script()
    api.watches = [[] for _ in range(10_000)]
    await collect(api, seconds=10)
    assert len(api.asked) <= 201


async def test_what_rbac_forbids_is_tried_slowly():
    api = Script()
    api.watches = [Forbidden(403, "Forbidden", "no")] * 10_000
    news = await collect(api, seconds=120)
    assert sum(isinstance(n, Interrupted) for n in news) < 30


async def test_pages_are_put_together(monkeypatch):
    pages = {
        None: {"items": [1, 2], "metadata": {"resourceVersion": "7", "continue": "c1"}},
        "c1": {"items": [3], "metadata": {"resourceVersion": "7"}},
    }

    class Paged:
        async def call(self, method, path, *, params):
            return pages[params.get("continue")]

    listed = await list_all(Paged(), PODS, {})
    assert listed == Listed([1, 2, 3], "7")


async def test_an_informer_keeps_up_with_changes_and_with_what_it_missed():
    clock = ManualClock()
    api = FakeApi(clock=clock)
    changes = []
    await api.create(PODS, {"metadata": {"name": "a"}, "spec": {}})
    informer = Informer(api, "/api/v1/pods", clock=clock, on_change=lambda: changes.append(1))
    task = asyncio.create_task(informer.run())
    await settle()
    await informer.wait_synced(1)
    await api.create(PODS, {"metadata": {"name": "b"}, "spec": {}})
    await settle()
    await api.delete(f"{PODS}/a")
    await settle()
    assert [o["metadata"]["name"] for o in informer.items()] == ["b"]
    assert len(changes) == 4, "the list, another pod, a deletion begun, a deletion done"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_informer_that_never_gets_its_list_says_why():
    clock = ManualClock()
    api = FakeApi(clock=clock)
    api.fail("GET", "/api/v1/pods", status=403, times=1000)
    informer = Informer(api, "/api/v1/pods", clock=clock)
    task = asyncio.create_task(informer.run())
    await settle()
    with pytest.raises(TimeoutError, match=r"no list of /api/v1/pods within 0.01 s; last error: .*403"):
        await informer.wait_synced(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_changed_has_the_object_of_its_event():
    api = Script()
    api.watches = [[line("DELETED", 105)]]
    news = await collect(api)
    assert news[1] == Changed("DELETED", {"metadata": {"resourceVersion": "105"}})


async def test_work_waits_for_the_api_server_and_other_errors_pass():
    clock, answers = ManualClock(), [Unavailable("429"), Unavailable("429"), "done"]

    async def work():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    waiting = asyncio.create_task(when_available(work, clock, what="a list"))
    await settle()
    assert not waiting.done()
    await clock.advance(2)
    assert await waiting == "done"
    answers.append(NotFound(404, "", "no"))
    with pytest.raises(NotFound):
        await when_available(work, clock, what="a list")


async def test_a_refusal_that_lasts_is_for_a_person():
    """A server that has just been started refuses everybody for a moment."""
    clock, refusing = ManualClock(), True

    async def work():
        if refusing:
            raise Forbidden(403, "Forbidden", "no")
        return "done"

    waiting = asyncio.create_task(when_available(work, clock, what="a list"))
    await clock.advance(5)
    refusing = False
    await clock.advance(1)
    assert await waiting == "done"
    refusing = True
    waiting = asyncio.create_task(when_available(work, clock, what="a list"))
    await clock.advance(25)
    with pytest.raises(Forbidden):
        await waiting
