"""How long machines were there."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from kip.metering.use import Use
from kip.model.cell import LAUNCHED, Cell, new_cell_object
from kip.model.clock import ManualClock, to_rfc3339


def cell(clock: ManualClock, name: str = "web") -> Cell:
    """One with an instance since now."""
    pod = {"metadata": {"name": name, "namespace": "shop", "uid": name}, "spec": {"nodeName": "kip-0"}}
    made = new_cell_object(pod)
    made["metadata"] |= {
        "uid": f"cell-{name}",
        "resourceVersion": "1",
        "creationTimestamp": to_rfc3339(clock.now()),
    }
    launched = replace(Cell.from_object(made), instance_id=f"i-{name}")
    return launched.set(LAUNCHED, "True", "Launched", "", now=clock.now())


async def test_running_and_ended_machines_count_within_the_time_asked_for() -> None:
    clock = ManualClock()
    use = Use(clock)
    begin = clock.now()
    one, other = cell(clock), cell(clock, "db")
    use.see(one)
    use.see(one)
    await clock.advance(100)
    use.see(other)
    use.gone(one)
    await clock.advance(50)
    assert use.between(begin, clock.now()) == 100 + 150
    assert use.between(begin + timedelta(seconds=60), clock.now()) == 40 + 90
    use.forget(clock.now())
    assert use.between(begin, clock.now()) == 150, "what is written down is forgotten, but for what runs"


async def test_a_machine_that_was_given_up_is_followed_by_another() -> None:
    clock = ManualClock()
    use = Use(clock)
    begin = clock.now()
    first = cell(clock)
    use.see(first)
    await clock.advance(30)
    use.see(first.given_up(now=clock.now(), reason="BootFailed", message=""))
    await clock.advance(30)
    use.see(cell(clock))
    await clock.advance(30)
    assert use.between(begin, clock.now()) == 60
