"""The pool against tunnels that a test opens and breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kip.tunnel.connection import Tunnel
from kip.tunnel.errors import AuthenticationRefused, HostKeyMismatch, TunnelError, Unreachable
from kip.tunnel.pool import ATTEMPTS_PER_S, DialOptions, TunnelPool, pace

OPTIONS = DialOptions(address="10.0.0.7", client_key="key", host_keys=("ssh-ed25519 AAAA",))


class FakeTunnel:
    def __init__(self) -> None:
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.was_closed = False

    async def wait_closed(self) -> str:
        return await asyncio.shield(self.lost)

    async def close(self) -> None:
        self.was_closed = True
        if not self.lost.done():
            self.lost.set_result("closed")


class Network:
    """Answers each dial with the next of `answers`; when they are used up, with a tunnel."""

    def __init__(self, *answers: TunnelError) -> None:
        self.answers = list(answers)
        self.dials: list[dict[str, Any]] = []
        self.tunnels: list[FakeTunnel] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def dial(self, **arguments: Any) -> Tunnel:
        self.dials.append(arguments)
        await self.gate.wait()
        if self.answers:
            raise self.answers.pop(0)
        self.tunnels.append(FakeTunnel())
        return cast(Tunnel, self.tunnels[-1])


class FastClock:
    """Time passes only by sleeping."""

    def __init__(self) -> None:
        self.time = 0.0
        self.sleeps: list[float] = []

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time, UTC)

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.time += seconds
        await asyncio.sleep(0)


class Losses(list[tuple[str, str]]):
    def __call__(self, cell: str, reason: str) -> None:
        self.append((cell, reason))


def pool_on(network: Network, losses: Losses | None = None, clock: FastClock | None = None) -> TunnelPool:
    return TunnelPool(
        on_lost=losses if losses is not None else Losses(),
        clock=clock or FastClock(),
        dial=network.dial,
        chance=lambda: 0.5,
    )


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_a_cell_that_answers_is_dialled_once() -> None:
    network = Network()
    pool = pool_on(network)
    tunnel = await pool.ensure("cell-a", OPTIONS)
    assert await pool.ensure("cell-a", OPTIONS) is tunnel is pool.get("cell-a")
    assert len(network.dials) == 1
    assert network.dials[0]["address"] == "10.0.0.7"
    assert network.dials[0]["host_keys"] == OPTIONS.host_keys
    assert pool.states() == {"open": 1, "dialling": 0}
    await pool.close()
    assert pool.states() == {"open": 0, "dialling": 0}


async def test_many_who_ask_at_once_share_one_dial() -> None:
    network = Network()
    pool = pool_on(network)
    tunnels = await asyncio.gather(*(pool.ensure("cell-a", OPTIONS) for _ in range(10)))
    assert len(network.dials) == len(set(map(id, tunnels))) == 1
    await pool.close()


async def test_a_booting_machine_is_dialled_until_it_answers() -> None:
    network = Network(*(Unreachable("refused", answered=True) for _ in range(20)))
    clock = FastClock()
    pool = pool_on(network, clock=clock)
    await pool.ensure("cell-a", OPTIONS)
    assert len(network.dials) == 21
    assert clock.sleeps == pytest.approx([0.1] * 20)
    await pool.close()


@pytest.mark.parametrize("error", [HostKeyMismatch("another"), AuthenticationRefused("no")])
async def test_what_repeating_does_not_help_ends_dialling(error: TunnelError) -> None:
    network = Network(error)
    pool = pool_on(network)
    results = await asyncio.gather(
        *(pool.ensure("cell-a", OPTIONS) for _ in range(2)), return_exceptions=True
    )
    assert results == [error, error]
    assert len(network.dials) == 1
    assert pool.get("cell-a") is None
    await pool.ensure("cell-a", OPTIONS)  # asked again, it is dialled again
    await pool.close()


async def test_who_waits_too_long_hears_what_the_last_attempt_met() -> None:
    network = Network(*(Unreachable("10.0.0.7:22: no answer") for _ in range(10_000)))
    pool = TunnelPool(on_lost=Losses(), dial=network.dial)
    with pytest.raises(Unreachable, match=r"10\.0\.0\.7:22: no answer"):
        await pool.ensure("cell-a", OPTIONS, timeout_s=0.05)
    await pool.close()


async def test_dialling_goes_on_when_nobody_waits_and_takes_new_host_keys() -> None:
    network = Network(Unreachable("away"), Unreachable("away"))
    network.gate.clear()
    pool = pool_on(network)
    waiting = asyncio.create_task(pool.ensure("cell-a", OPTIONS))
    await until(lambda: network.dials)
    waiting.cancel()
    newer = DialOptions(address="10.0.0.7", client_key="key", host_keys=("ssh-ed25519 BBBB",))
    again = asyncio.create_task(pool.ensure("cell-a", newer))
    await asyncio.sleep(0)
    network.gate.set()
    await again
    assert [dial["host_keys"] for dial in network.dials] == [OPTIONS.host_keys, *[newer.host_keys] * 2]
    await pool.close()


async def test_other_host_keys_leave_an_open_tunnel_alone() -> None:
    network = Network()
    pool = pool_on(network)
    tunnel = await pool.ensure("cell-a", OPTIONS)
    own_key = DialOptions(address="10.0.0.7", client_key="key", host_keys=("ssh-ed25519 own",))
    assert await pool.ensure("cell-a", own_key) is tunnel
    await pool.close()


async def test_another_address_is_another_machine() -> None:
    network, losses = Network(), Losses()
    pool = pool_on(network, losses)
    await pool.ensure("cell-a", OPTIONS)
    moved = DialOptions(address="10.0.0.8", client_key="key", host_keys=OPTIONS.host_keys)
    tunnel = await pool.ensure("cell-a", moved)
    assert network.tunnels[0].was_closed
    assert tunnel is cast(Tunnel, network.tunnels[1])
    assert not losses
    await pool.close()


async def test_a_lost_tunnel_is_told_and_forgotten() -> None:
    network, losses = Network(), Losses()
    pool = pool_on(network, losses)
    await pool.ensure("cell-a", OPTIONS)
    network.tunnels[0].lost.set_result("connection reset")
    await until(lambda: losses)
    assert losses == [("cell-a", "connection reset")]
    assert network.tunnels[0].was_closed, "its sockets stay"
    assert pool.get("cell-a") is None
    assert await pool.ensure("cell-a", OPTIONS) is cast(Tunnel, network.tunnels[1])
    await pool.close()


async def test_a_dropped_tunnel_is_closed_and_not_told_as_lost() -> None:
    network, losses = Network(), Losses()
    pool = pool_on(network, losses)
    await pool.ensure("cell-a", OPTIONS)
    await pool.drop("cell-a")
    await pool.drop("cell-a")
    await asyncio.sleep(0)
    assert network.tunnels[0].was_closed
    assert pool.get("cell-a") is None
    assert losses == []


async def test_dropping_ends_dialling() -> None:
    network = Network(*(Unreachable("away") for _ in range(1000)))
    network.gate.clear()
    pool = pool_on(network)
    waiting = asyncio.create_task(pool.ensure("cell-a", OPTIONS))
    await until(lambda: network.dials)
    await pool.drop("cell-a")
    with pytest.raises(Unreachable, match="dropped"):
        await waiting
    network.gate.set()
    await asyncio.sleep(0)
    assert len(network.dials) == 1


async def test_a_closed_pool_has_closed_everything_and_dials_no_more() -> None:
    network, losses = Network(), Losses()
    pool = pool_on(network, losses)
    await asyncio.gather(*(pool.ensure(f"cell-{number}", OPTIONS) for number in range(5)))
    assert repr(pool) == "<TunnelPool 5 open, 0 dialling>"
    await pool.close()
    assert all(tunnel.was_closed for tunnel in network.tunnels)
    assert losses == []
    with pytest.raises(RuntimeError, match="closed"):
        await pool.ensure("cell-a", OPTIONS)


async def test_options_do_not_show_the_private_key() -> None:
    assert "key" not in repr(OPTIONS).replace("host_keys", "")


@given(st.floats(0, 1e6), st.integers(1, 100_000), st.floats(0, 1), st.floats(0, 1))
def test_attempts_stay_below_what_one_loop_can_do(
    waited: float, dialling: int, chance: float, part: float
) -> None:
    """However soon each of them ends."""
    now = pace(waited, dialling, chance)
    took = part * now.connect_timeout_s
    # Over the uniform chance the mean of the time from attempt to attempt is at its middle.
    mean = (took + now.rest_s(took)) / (0.5 + chance)
    assert dialling / mean <= ATTEMPTS_PER_S * 1.001
    assert now.rest_s(took) >= 0.05


def test_among_many_the_kernel_repeats_what_would_be_new_attempts() -> None:
    assert pace(30, 500, 0.5).connect_timeout_s == pytest.approx(1.0)
    assert pace(30, 1000, 0.5).connect_timeout_s == pytest.approx(2.0)
    assert pace(30, 100_000, 0.5).connect_timeout_s == pytest.approx(4.0)


def test_a_booting_machine_is_tried_every_tenth_of_a_second() -> None:
    assert pace(30, 1, 0.5).delay_s == pytest.approx(0.1)
    assert pace(30, 1, 0.5).connect_timeout_s < 1  # before the kernel's second SYN


def test_one_that_is_long_silent_is_tried_less_often_and_more_patiently() -> None:
    early, later, late = (pace(waited, 1, 0.5) for waited in (10, 200, 4000))
    assert early.delay_s < later.delay_s < late.delay_s
    assert early.connect_timeout_s < later.connect_timeout_s < late.connect_timeout_s
