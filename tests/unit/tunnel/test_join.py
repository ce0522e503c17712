"""First contact, activation of the cell's own host key, and services, against a real sshd."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from kip.bootstrap import layout
from kip.tunnel import join, keys
from kip.tunnel.connection import Tunnel
from kip.tunnel.errors import CommandFailed, CommandTimedOut, HostKeyMismatch, TunnelError

TOKEN = "t" * 44


@pytest.fixture
def tunnel(tunnel: Tunnel, sshd: Any, monkeypatch: pytest.MonkeyPatch) -> Tunnel:
    monkeypatch.setattr(join, "DIRECTORY", str(sshd.etc))
    return tunnel


def boot(etc: Path, *, token: str = TOKEN) -> str:
    """What the boot script leaves; returns the public half of the cell's own key."""
    own = keys.generate()
    (etc / "ssh_host_ed25519_key.next").write_text(own)
    (etc / "ssh_host_ed25519_key.next").chmod(0o600)
    (etc / "own_host_key.pub").write_text(keys.public_half(own) + " \n")
    (etc / "token").write_text(token)
    return keys.public_half(own)


def test_paths_are_those_of_the_user_data() -> None:
    assert join.DIRECTORY == layout.DIRECTORY
    assert f"{join.DIRECTORY}/{join.TOKEN}" == layout.TOKEN
    assert f"{join.DIRECTORY}/{join.OWN_HOST_KEY_PUBLIC}" == layout.OWN_HOST_KEY_PUBLIC
    assert f"{join.DIRECTORY}/{join.HOST_KEY}" == layout.HOST_KEY
    assert f"{join.DIRECTORY}/{join.HOST_KEY}.next" == layout.NEXT_HOST_KEY


async def test_first_contact_reads_what_the_cell_made(sshd: Any, tunnel: Tunnel) -> None:
    own = boot(sshd.etc)
    assert await join.first_contact(tunnel) == join.CellSecrets(token=TOKEN, next_host_key=own)


async def test_first_contact_waits_for_the_boot_script(sshd: Any, tunnel: Tunnel) -> None:
    waiting = asyncio.create_task(join.first_contact(tunnel))
    await asyncio.wait([waiting], timeout=0.3)
    assert not waiting.done()
    own = boot(sshd.etc)
    assert (await waiting).next_host_key == own


async def test_first_contact_does_not_wait_for_ever(tunnel: Tunnel) -> None:
    with pytest.raises(CommandTimedOut):
        await join.first_contact(tunnel, timeout_s=0.2)


@pytest.mark.parametrize("token", ["short", "t" * 40 + " " + "t" * 40])
async def test_an_unusable_token_is_refused_and_not_told(sshd: Any, tunnel: Tunnel, token: str) -> None:
    boot(sshd.etc, token=token)
    with pytest.raises(join.NotACell, match="not a token") as caught:
        await join.first_contact(tunnel)
    assert token not in str(caught.value)


async def test_an_unusable_host_key_is_refused(sshd: Any, tunnel: Tunnel) -> None:
    boot(sshd.etc)
    (sshd.etc / "own_host_key.pub").write_text("nonsense\n")
    with pytest.raises(join.NotACell, match="public key"):
        await join.first_contact(tunnel)


def test_the_token_is_not_in_the_representation() -> None:
    assert TOKEN not in repr(join.CellSecrets(token=TOKEN, next_host_key="ssh-ed25519 AAAA"))


async def test_activation_replaces_the_first_contact_key(sshd: Any, tunnel: Tunnel) -> None:
    own = boot(sshd.etc)
    await join.activate_host_key(tunnel)

    again = await dial_until_shown(sshd, own)
    assert again.host_key == own
    await again.close()
    with pytest.raises(HostKeyMismatch):
        await Tunnel.dial(**sshd.dial_arguments())
    assert await tunnel.run("echo still here") == b"still here\n"


async def test_activation_and_first_contact_may_be_repeated(sshd: Any, tunnel: Tunnel) -> None:
    own = boot(sshd.etc)
    await join.activate_host_key(tunnel)
    again = await dial_until_shown(sshd, own)
    assert (await join.first_contact(again)).next_host_key == own
    await join.activate_host_key(again)
    await again.close()


async def dial_until_shown(sshd: Any, own: str) -> Tunnel:
    """sshd executes itself anew on reload, which takes some milliseconds."""
    deadline = asyncio.get_running_loop().time() + 5
    while True:
        try:
            return await Tunnel.dial(**sshd.dial_arguments(host_keys=(own,)))
        except TunnelError:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.02)


async def test_services_reach_nft(sshd: Any, tunnel: Tunnel) -> None:
    await join.push_services(tunnel, "table ip kip-services\n")
    assert (sshd.directory / "ruleset").read_text() == "table ip kip-services\n"


async def test_nfts_refusal_is_told(tunnel: Tunnel) -> None:
    with pytest.raises(CommandFailed, match="Error: syntax"):
        await join.push_services(tunnel, "broken")


async def test_stale_flows_are_ended_after_the_ruleset_is_in(sshd: Any, tunnel: Tunnel) -> None:
    flows = [("10.96.0.2", 53, "10.0.0.1"), ("10.96.0.2", 53, "10.0.0.2")]
    await join.push_services(tunnel, "table ip kip-services\n", flows)
    told = (sshd.directory / "conntrack").read_text().splitlines()
    assert told == [f"-D -p udp --orig-dst 10.96.0.2 --orig-port-dst 53 --dst-nat 10.0.0.{n}" for n in (1, 2)]


@pytest.mark.parametrize(
    "flows", [None, [(f"10.96.{n // 250}.{n % 250}", 53, "10.0.0.1") for n in range(5000)]]
)
async def test_flows_that_are_not_known_or_too_many_are_ended_by_one_command(
    sshd: Any, tunnel: Tunnel, flows: Any
) -> None:
    await join.push_services(tunnel, "table ip kip-services\n", flows)
    assert (sshd.directory / "conntrack").read_text() == "-D -p udp --dst-nat\n"


async def test_no_flow_is_ended_when_nft_refuses(sshd: Any, tunnel: Tunnel) -> None:
    with pytest.raises(CommandFailed, match="Error: syntax"):
        await join.push_services(tunnel, "broken", [("10.96.0.2", 53, "10.0.0.1")])
    assert not (sshd.directory / "conntrack").exists()
