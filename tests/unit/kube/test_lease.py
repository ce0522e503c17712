"""Who holds a node: one at a time, knowing in time when it no longer does."""

from __future__ import annotations

import asyncio

import pytest

from kip.kube.client import Reply
from kip.kube.fake import FakeApi
from kip.kube.lease import LeaseHolder
from kip.model.clock import ManualClock, settle

LEASES = "/apis/coordination.k8s.io/v1/namespaces/kip/leases"


class Contest:
    """An API server, a clock, and processes that want the same names."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.api = FakeApi(clock=self.clock)
        self.tasks: list[asyncio.Task] = []

    def holder(self, identity: str, api: FakeApi | None = None) -> LeaseHolder:
        return LeaseHolder(api or self.api, self.clock, namespace="kip", identity=identity)

    def start(self, work) -> asyncio.Task:
        self.tasks.append(asyncio.create_task(work))
        return self.tasks[-1]

    def held_by(self, name: str = "n-0") -> str:
        return next(
            o["spec"]["holderIdentity"] for o in self.api.all("leases") if o["metadata"]["name"] == name
        )


@pytest.fixture
async def contest():
    made = Contest()
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)


async def test_a_free_name_is_taken_at_once(contest):
    one = contest.holder("one")
    assert await one.acquire(["n-0"]) == "n-0"
    assert one.holding
    assert contest.held_by() == "one"


async def test_two_processes_take_two_names(contest):
    one, two = contest.holder("one"), contest.holder("two")
    assert await one.acquire(["n-0", "n-1"]) == "n-0"
    assert await two.acquire(["n-0", "n-1"]) == "n-1"


async def test_a_spare_waits_as_long_as_the_holder_renews(contest):
    one, two = contest.holder("one"), contest.holder("two")
    await one.acquire(["n-0"])
    contest.start(one.keep())
    waiting = contest.start(two.acquire(["n-0"]))
    await contest.clock.advance(300)
    assert not waiting.done()
    assert one.holding


async def test_a_dead_holders_name_is_taken_after_its_duration_and_not_before(contest):
    one, two = contest.holder("one"), contest.holder("two")
    await one.acquire(["n-0"])
    waiting = contest.start(two.acquire(["n-0"]))
    await contest.clock.advance(9.9)
    assert not waiting.done()
    await contest.clock.advance(1.2)
    assert waiting.done()
    assert contest.held_by() == "two"


async def test_a_name_given_up_is_taken_within_a_second(contest):
    one, two = contest.holder("one"), contest.holder("two")
    await one.acquire(["n-0"])
    waiting = contest.start(two.acquire(["n-0"]))
    await contest.clock.advance(3)
    await one.release()
    assert not one.holding
    await contest.clock.advance(1)
    assert waiting.done()


async def test_a_holder_cut_off_from_the_api_server_stops_before_another_can_begin(contest):
    one = contest.holder("one", api := Severed(contest.clock, contest.api))
    two = contest.holder("two")
    await one.acquire(["n-0"])
    keeping, waiting = contest.start(one.keep()), contest.start(two.acquire(["n-0"]))
    await contest.clock.advance(20)
    api.away = True
    stopped = taken = None
    for _ in range(200):
        await contest.clock.advance(0.1)
        if keeping.done() and stopped is None:
            stopped = contest.clock.monotonic()
        if waiting.done() and taken is None:
            taken = contest.clock.monotonic()
    assert stopped is not None
    assert taken is not None
    assert taken - stopped >= 2.5, "time to let go"
    assert not one.holding
    assert "refused" in keeping.result()


class Severed(FakeApi):
    """One process's way to the API server that others still reach."""

    def __init__(self, clock: ManualClock, inner: FakeApi) -> None:
        super().__init__(clock=clock)
        self.inner = inner
        self.silent = 0

    async def request(self, method: str, path: str, **options) -> Reply:
        if self.silent and method != "GET":
            self.silent -= 1
            await asyncio.Event().wait()
        return await (super() if self.away else self.inner).request(method, path, **options)


async def test_one_lost_request_does_not_cost_the_name(contest):
    """The connection is there, the answer is not: another request must have time."""
    real = LeaseHolder.keep
    one = contest.holder("one", api := Severed(contest.clock, contest.api))
    one.timing = type(one.timing)(request_s=0.05)  # of real time: this is what a request costs
    await one.acquire(["n-0"])
    keeping = contest.start(real(one))
    api.silent = 1
    for _ in range(40):
        await contest.clock.advance(0.5)
        await asyncio.sleep(0.005)
    assert not keeping.done()
    assert one.holding


async def test_a_renewal_whose_answer_was_lost_is_recognised_as_ones_own(contest):
    one = contest.holder("one")
    await one.acquire(["n-0"])
    keeping = contest.start(one.keep())
    contest.api.fail("PUT", "n-0", after=True)
    await contest.clock.advance(30)
    assert not keeping.done()
    assert one.holding


async def test_a_label_put_on_the_lease_is_no_other_holder(contest):
    one = contest.holder("one")
    await one.acquire(["n-0"])
    keeping = contest.start(one.keep())
    await contest.clock.advance(1)
    await contest.api.patch(f"{LEASES}/n-0", {"metadata": {"labels": {"a": "b"}}})
    await contest.clock.advance(30)
    assert not keeping.done()
    assert one.holding


async def test_a_name_taken_by_force_is_lost_at_the_next_renewal(contest):
    one = contest.holder("one")
    await one.acquire(["n-0"])
    keeping = contest.start(one.keep())
    await contest.api.patch(f"{LEASES}/n-0", {"spec": {"holderIdentity": "somebody"}})
    await contest.clock.advance(3)
    assert keeping.result() == "another process holds it"
    await one.release()
    assert contest.held_by() == "somebody"


async def test_a_deleted_lease_is_made_anew_by_its_holder(contest):
    one, two = contest.holder("one"), contest.holder("two")
    await one.acquire(["n-0"])
    keeping, waiting = contest.start(one.keep()), contest.start(two.acquire(["n-0"]))
    await contest.clock.advance(5)
    await contest.api.delete(f"{LEASES}/n-0")
    await contest.clock.advance(30)
    assert not keeping.done()
    assert not waiting.done(), "a spare that saw a holder does not take its silence for its end"
    assert contest.held_by() == "one"


async def test_a_deleted_namespace_is_no_reason_for_a_tight_loop(contest):
    one = contest.holder("one")
    await one.acquire(["n-0"])
    keeping = contest.start(one.keep())
    await contest.api.delete(f"{LEASES}/n-0")
    contest.api.fail("POST", LEASES, status=404, times=10_000)
    before = len(contest.api.requests)
    await contest.clock.advance(10)
    assert keeping.done()
    assert len(contest.api.requests) - before < 60


async def test_a_process_that_begins_again_under_its_name_goes_on(contest):
    await contest.holder("pod-1").acquire(["n-0"])
    assert await contest.holder("pod-1").acquire(["n-0"]) == "n-0"


async def test_giving_up_at_an_api_server_that_is_away_ends_in_time(contest):
    one = contest.holder("one")
    await one.acquire(["n-0"])
    contest.api.away = True
    await asyncio.wait_for(one.release(), 5)
    assert not one.holding


async def test_an_unreadable_lease_is_not_taken(contest):
    one = contest.holder("one")
    contest.api.fail("GET", "n-0", status=500, times=3)
    waiting = contest.start(one.acquire(["n-0"]))
    await settle()
    assert not waiting.done()
    await contest.clock.advance(4)
    assert waiting.done()


async def test_a_grant_ends_with_the_lease_and_does_not_come_back_with_the_next_one(contest):
    one = contest.holder("one")
    await one.acquire(["n-0"])
    first = one.grant()
    assert first()
    await one.release()
    assert not first()
    await one.acquire(["n-0"])
    second = one.grant()
    assert second()
    assert not first(), "the work of before may still be under way"
    await one.release()
    await one.acquire(["n-1"])
    assert not second()
    await contest.clock.advance(one.timing.give_up_s)
    assert not one.grant()(), "nor without renewals"
