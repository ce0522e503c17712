"""Events: as the API server wants them, once, and never at their teller's expense."""

from __future__ import annotations

import asyncio
import re

import pytest

from kip.kube.events import EventRecorder, Limit
from kip.kube.fake import FakeApi
from kip.kube.slots import is_patient
from kip.model.clock import ManualClock, settle

POD = {"metadata": {"name": "web", "namespace": "shop", "uid": "u-1"}}


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def api(clock):
    return FakeApi(clock=clock)


@pytest.fixture
def recorder(api, clock):
    return EventRecorder(api, clock, component="kip", host="kip-provider-0")


async def test_an_event_says_about_whom_from_whom_and_when(api, recorder):
    await recorder.tell(POD, "Warning", "NoInstanceFits", "too big")
    [event] = api.all("events")
    assert event["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": "web",
        "namespace": "shop",
        "uid": "u-1",
    }
    assert (event["type"], event["reason"], event["message"]) == ("Warning", "NoInstanceFits", "too big")
    assert event["source"] == {"component": "kip", "host": "kip-provider-0"}
    assert event["firstTimestamp"] == event["lastTimestamp"] == "2026-01-01T00:00:00Z"


async def test_the_same_is_told_again_after_ten_minutes_only(api, recorder, clock):
    for _ in range(30):
        await recorder.tell(POD, "Warning", "NoInstanceFits", "too big")
        await clock.advance(60)
    assert len(api.all("events")) == 3


async def test_another_message_or_pod_is_another_event(api, recorder):
    await recorder.tell(POD, "Normal", "CellLaunched", "i-1")
    await recorder.tell(POD, "Normal", "CellLaunched", "i-2")
    await recorder.tell({"metadata": {**POD["metadata"], "uid": "u-2"}}, "Normal", "CellLaunched", "i-2")
    assert len(api.all("events")) == 3


async def test_an_event_that_was_not_taken_harms_nobody_and_is_told_next_time(api, recorder):
    api.fail("POST", "events", status=403)
    await recorder.tell(POD, "Normal", "CellLaunched", "i-1")
    await recorder.tell(POD, "Normal", "CellLaunched", "i-1")
    assert len(api.all("events")) == 1


async def test_long_messages_and_names_are_cut_to_what_the_api_server_takes(api, recorder):
    pod = {"metadata": {**POD["metadata"], "name": "p" * 253}}
    await recorder.tell(pod, "Normal", "R" * 300, "m" * 5000)
    [event] = api.all("events")
    assert len(event["message"]) == 1024
    assert event["message"].endswith("…")
    assert len(event["reason"]) == 128
    assert len(event["metadata"]["name"]) <= 253


@pytest.mark.parametrize("cut_at", ["-", ".", "-.-"])
async def test_a_cut_name_is_still_one_that_the_api_server_takes(api, recorder, cut_at):
    name = ("p" * (200 - len(cut_at)) + cut_at).ljust(230, "q")
    await recorder.tell({"metadata": {**POD["metadata"], "name": name}}, "Normal", "CellLaunched", "i-1")
    [event] = api.all("events")
    part = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
    assert re.fullmatch(rf"{part}(\.{part})*", event["metadata"]["name"])


async def test_what_was_told_does_not_pile_up(recorder):
    for number in range(5000):
        await recorder.tell(POD, "Normal", "CellLaunched", f"i-{number}")
    assert len(recorder._told) <= 4096


async def test_of_one_object_no_more_is_told_than_people_can_read(api, recorder, clock):
    for number in range(100):
        await recorder.tell(POD, "Warning", "NoInstanceFits", f"too big, {number}")
    assert len(api.all("events")) == 25
    await recorder.tell(
        {"metadata": {**POD["metadata"], "uid": "u-2"}}, "Warning", "NoInstanceFits", "too big"
    )
    assert len(api.all("events")) == 26, "another one's events are not concerned"
    await clock.advance(300)
    await recorder.tell(POD, "Warning", "NoInstanceFits", "too big, 99")
    await recorder.tell(POD, "Warning", "NoInstanceFits", "too big, 100")
    assert len(api.all("events")) == 27, "one more in five minutes, also one that was left out before"


async def test_of_all_objects_together_there_may_be_a_limit(api, clock):
    recorder = EventRecorder(api, clock, component="kip", host="n", limit=Limit(burst=10, per_second=2))
    pods = [{"metadata": {**POD["metadata"], "uid": f"u-{number}"}} for number in range(50)]
    for pod in pods:
        await recorder.tell(pod, "Warning", "NoInstanceFits", "too big")
    assert len(api.all("events")) == 10
    await clock.advance(5)
    for pod in pods:
        await recorder.tell(pod, "Warning", "NoInstanceFits", "too big")
    assert len(api.all("events")) == 20


class Slow(FakeApi):
    """An API server that takes no event before it is told to."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.gate = asyncio.Event()
        self.asked = 0

    async def create(self, path, body):
        self.asked += 1
        await self.gate.wait()
        return await super().create(path, body)


def pod(number: int) -> dict:
    return {"metadata": {**POD["metadata"], "uid": f"u-{number}"}}


async def recorded(api: FakeApi, number: int) -> None:
    """Just so many are there, also after a while."""
    for _ in range(number):
        await settle()
        if len(api.all("events")) >= number:
            break
    await settle()
    assert len(api.all("events")) == number


async def test_nobody_waits_for_events_and_they_take_few_connections(clock):
    api = Slow(clock)
    recorder = EventRecorder(api, clock, component="kip", host="n")
    writing = asyncio.create_task(recorder.run())
    await settle()
    for number in range(100):
        await recorder.tell(pod(number), "Normal", "CellLaunched", "i-1")
    await settle()
    assert api.asked == 4
    api.gate.set()
    await recorded(api, 100)
    writing.cancel()
    await asyncio.wait([writing])


async def test_too_many_events_are_dropped_and_may_be_told_later(clock):
    api = Slow(clock)
    recorder = EventRecorder(api, clock, component="kip", host="n")
    writing = asyncio.create_task(recorder.run())
    await settle()
    for number in range(2005):
        await recorder.tell(pod(number), "Normal", "CellLaunched", "i-1")
    api.gate.set()
    await recorded(api, 2000)
    await recorder.tell(pod(2004), "Normal", "CellLaunched", "i-1")
    await recorded(api, 2001)
    writing.cancel()
    await asyncio.wait([writing])


async def test_in_the_background_they_let_other_writes_go_first(clock):
    patient = []

    class Api(FakeApi):
        async def request(self, method, path, **options):
            patient.append(is_patient())
            return await super().request(method, path, **options)

    recorder = EventRecorder(Api(clock=clock), clock, component="kip", host="kip-provider-0")
    running = asyncio.create_task(recorder.run())
    await settle()
    await recorder.tell(POD, "Normal", "CellLaunched", "i-1")
    await settle()
    running.cancel()
    assert patient == [True]
    assert not is_patient()
