"""A side of a served node lets go in its order and in time, whatever hangs or fails."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from kip.app.serving import side


async def test_what_runs_has_its_name_and_breaks_what_it_runs_in() -> None:
    async def breaks() -> None:
        raise OSError("no more")

    async def goes_on() -> None:
        await asyncio.Event().wait()

    names: set[str] = set()

    async def serve() -> None:
        async with asyncio.TaskGroup() as group:
            side.start(group, {"one": goes_on()}, {"two": goes_on(), "three": breaks()})
            names.update(task.get_name() for task in asyncio.all_tasks())

    with pytest.raises(ExceptionGroup) as broken:
        await serve()
    assert {"one", "two", "three"} <= names
    assert [str(error) for error in broken.value.exceptions] == ["no more"]


async def test_steps_are_closed_in_their_order_also_after_one_that_fails() -> None:
    closed: list[str] = []

    async def first() -> None:
        closed.append("first")
        raise OSError("no more")

    async def second() -> None:
        closed.append("second")

    with capture_logs() as logs:
        await side.close("all", (first, second))
    assert closed == ["first", "second"]
    [line] = logs
    assert (line["event"], line["what"]) == ("not closed", "all")
    assert line["step"].endswith("first")


async def test_a_step_that_hangs_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side, "_CLOSE_S", 0.02)
    closed: list[str] = []

    async def hangs() -> None:
        await asyncio.Event().wait()

    async def second() -> None:
        closed.append("second")

    with capture_logs() as logs:
        await side.close("all", (hangs, second))
    assert closed == ["second"]
    [line] = logs
    assert line["event"] == "not closed in time"
    assert line["step"].endswith("hangs")
