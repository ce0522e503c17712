"""Every dollar is told once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from kip.cells.spending import Spending
from kip.model.cell import LAUNCHED, Cell, new_cell_object
from kip.model.clock import ManualClock, to_rfc3339

DOLLAR_A_SECOND = "3600"


class Till:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.usd: Counter[str] = Counter()
        self.spending = Spending(self.clock, self.tell)

    def tell(self, namespace: str, usd: float) -> None:
        assert usd > 0
        self.usd[namespace] += usd  # type: ignore[assignment]

    def cell(
        self,
        name: str = "web",
        namespace: str = "shop",
        *,
        launched: datetime | None = None,
        price: str | None = DOLLAR_A_SECOND,
    ) -> Cell:
        now = launched or self.clock.now()
        pod = {"metadata": {"name": name, "namespace": namespace, "uid": name}, "spec": {"nodeName": "kip-0"}}
        made = new_cell_object(pod)
        made["metadata"] |= {
            "uid": f"cell-{name}",
            "resourceVersion": "1",
            "creationTimestamp": to_rfc3339(now),
        }
        cell = replace(Cell.from_object(made), instance_id=f"i-{name}", price=price)
        return cell.set(LAUNCHED, "True", "Launched", "", now=now)


@pytest.fixture
def till() -> Till:
    return Till()


async def test_told_while_it_runs_and_at_its_end(till: Till) -> None:
    cell = till.cell()
    till.spending.see(cell)
    await till.clock.advance(100)
    till.spending.settle()
    assert till.usd["shop"] == pytest.approx(100)
    till.spending.see(replace(cell, resource_version="2"))
    await till.clock.advance(20)
    till.spending.gone(cell)
    assert till.usd["shop"] == pytest.approx(120)
    await till.clock.advance(20)
    till.spending.settle()
    assert till.usd["shop"] == pytest.approx(120)


async def test_a_minute_is_paid_at_least_and_only_once(till: Till) -> None:
    cell = till.cell()
    till.spending.see(cell)
    till.spending.settle()
    await till.clock.advance(30)
    till.spending.gone(cell)
    assert till.usd["shop"] == pytest.approx(60)


async def test_what_the_process_before_has_told_is_not_told_again(till: Till) -> None:
    running = till.cell(launched=till.clock.now() - timedelta(seconds=1000))
    till.spending.see(running)
    till.spending.settle()
    assert not till.usd
    await till.clock.advance(10)
    till.spending.settle()
    assert till.usd["shop"] == pytest.approx(10)


async def test_another_attempt_is_another_machine(till: Till) -> None:
    cell = till.cell()
    till.spending.see(cell)
    await till.clock.advance(100)
    till.spending.see(cell.given_up(now=till.clock.now(), reason="BootFailed", message=""))
    assert till.spending.usd_per_hour() == {}
    again = replace(cell, instance_id="i-2").set(LAUNCHED, "False", "x", "", now=till.clock.now())
    till.spending.see(again.set(LAUNCHED, "True", "Launched", "", now=till.clock.now()))
    await till.clock.advance(100)
    till.spending.settle()
    assert till.usd["shop"] == pytest.approx(200)


async def test_by_namespace_and_without_those_of_unknown_price(till: Till) -> None:
    for cell in (
        till.cell(),
        till.cell("db"),
        till.cell("job", "batch"),
        till.cell("odd", "batch", price=None),
    ):
        till.spending.see(cell)
    assert till.spending.usd_per_hour() == {"shop": 7200, "batch": 3600}


async def test_a_clock_that_is_set_back_takes_nothing_back(till: Till) -> None:
    cell = till.cell(launched=till.clock.now() + timedelta(seconds=500))
    till.spending.see(cell)
    till.spending.settle()
    await till.clock.advance(100)
    till.spending.settle()
    assert till.usd["shop"] == pytest.approx(60)
