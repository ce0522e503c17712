"""Tunnels through a real sshd with a cell's configuration."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
import tracemalloc
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from kip.bootstrap import layout
from kip.tunnel import connection, keys
from kip.tunnel.connection import Tunnel
from kip.tunnel.errors import (
    AuthenticationRefused,
    CommandFailed,
    CommandTimedOut,
    ForwardRefused,
    HostKeyMismatch,
    Unreachable,
)


async def echo_on(path: Path, greeting: bytes) -> asyncio.Server:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    return await asyncio.start_unix_server(greet, path)


async def read_port(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


def test_ports_are_those_that_the_user_data_permits() -> None:
    assert connection.API_PORT == layout.API_PORT
    assert connection.KUBELET_PORT == layout.KUBELET_PORT


async def test_a_command_gets_its_input_and_returns_its_output(tunnel: Tunnel) -> None:
    assert await tunnel.run("tr a-z A-Z", input=b"kip\x00\n") == b"KIP\x00\n"


async def test_input_larger_than_a_window_arrives(tunnel: Tunnel) -> None:
    assert await tunnel.run("wc -c", input=b"x" * 5_000_000) == b"5000000\n"


@pytest.mark.parametrize("where", ["", " >&2"], ids=["output", "errors"])
async def test_a_cell_that_prints_without_end_is_cut_off(tunnel: Tunnel, where: str) -> None:
    with pytest.raises(CommandFailed, match="more than 65536 bytes"):
        await tunnel.run(f"yes{where}", timeout_s=20)
    assert await tunnel.run("echo still here") == b"still here\n"


async def test_a_command_may_end_before_its_input_does(
    tunnel: Tunnel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: object) -> None:
        raise BrokenPipeError("Channel not open for sending")

    monkeypatch.setattr(asyncssh.SSHWriter, "write", ended)
    monkeypatch.setattr(asyncssh.SSHWriter, "write_eof", ended)
    assert await tunnel.run("echo done") == b"done\n"
    with pytest.raises(CommandFailed, match="3"):
        await tunnel.run("exit 3", input=b"x")


async def test_a_failing_command_says_how_and_why(tunnel: Tunnel) -> None:
    with pytest.raises(CommandFailed, match=r"exit 3: no such thing") as caught:
        await tunnel.run("echo no such thing >&2; exit 3")
    assert caught.value.exit_status == 3
    assert caught.value.stderr == "no such thing\n"


@pytest.mark.parametrize(
    "command", ["sleep 20", "exec >/dev/null 2>&1; sleep 20", "trap '' HUP TERM; sleep 20"]
)
async def test_a_command_is_given_up_after_its_time(tunnel: Tunnel, command: str) -> None:
    began = time.monotonic()
    with pytest.raises(CommandTimedOut, match=r"sleep 20: not done after 0\.1 s"):
        await tunnel.run(command, timeout_s=0.1)
    assert time.monotonic() - began < 2, "it was waited for all the same"
    assert await tunnel.run("echo still here") == b"still here\n"


async def test_a_tunnel_describes_itself_on_one_line(sshd: Any, tunnel: Tunnel) -> None:
    assert f"@127.0.0.1:{sshd.port} open" in repr(tunnel)
    await tunnel.close()
    assert "closed" in repr(tunnel)
    assert "\n" not in repr(tunnel)


async def test_the_host_key_shown_is_told(sshd: Any, tunnel: Tunnel) -> None:
    assert tunnel.host_key == keys.public_half(sshd.host_key)


async def test_any_of_several_host_keys_is_accepted(sshd: Any) -> None:
    both = (keys.public_half(keys.generate()), keys.public_half(sshd.host_key))
    tunnel = await Tunnel.dial(**sshd.dial_arguments(host_keys=both))
    await tunnel.close()


async def test_another_host_key_is_refused(sshd: Any) -> None:
    with pytest.raises(HostKeyMismatch, match=f"127.0.0.1:{sshd.port}"):
        await Tunnel.dial(**sshd.dial_arguments(host_keys=(keys.public_half(keys.generate()),)))


async def test_a_host_key_of_another_kind_is_refused(sshd: Any) -> None:
    ecdsa = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    with pytest.raises(HostKeyMismatch):
        await Tunnel.dial(**sshd.dial_arguments(host_keys=(keys.encoded(ecdsa),)))


async def test_no_host_key_at_all_is_refused_before_dialling(sshd: Any) -> None:
    with pytest.raises(ValueError, match="no host key"):
        await Tunnel.dial(**sshd.dial_arguments(host_keys=()))


async def test_a_key_that_is_not_authorized_is_told_from_a_machine_that_is_away(sshd: Any) -> None:
    with pytest.raises(AuthenticationRefused):
        await Tunnel.dial(**sshd.dial_arguments(client_key=keys.generate()))


async def test_a_refused_connection_says_that_the_machine_answered(sshd: Any) -> None:
    sshd.stop()
    with pytest.raises(Unreachable, match="Connection refused") as caught:
        await Tunnel.dial(**sshd.dial_arguments())
    assert caught.value.answered


async def test_silence_is_given_up_quickly(sshd: Any) -> None:
    with socket.socket() as listener:  # its queue full, further SYNs go unanswered
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(3)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            began = time.monotonic()
            with pytest.raises(Unreachable, match=r"no answer within 0\.2 s") as caught:
                await Tunnel.dial(**sshd.dial_arguments(port=port, connect_timeout_s=0.2))
            assert not caught.value.answered
            assert time.monotonic() - began < 1
        finally:
            for filler in fillers:
                filler.close()


async def test_a_listener_that_speaks_no_ssh_is_unreachable(sshd: Any) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(Unreachable, match="no SSH session"):
            await Tunnel.dial(**sshd.dial_arguments(port=port))


async def test_a_silent_listener_is_given_up(sshd: Any) -> None:
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(Unreachable):
        await Tunnel.dial(**sshd.dial_arguments(port=port, handshake_timeout_s=0.3))
    for writer in held:
        writer.close()
    server.close()


async def test_the_api_port_of_the_cell_is_our_socket(sshd: Any, tunnel: Tunnel, tmp_path: Path) -> None:
    async with await echo_on(tmp_path / "api.sock", b"the cell API"):
        await tunnel.forward_api(tmp_path / "api.sock", port=sshd.api_port)
        assert await read_port(sshd.api_port) == b"the cell API"


async def test_what_a_cell_sends_and_nobody_reads_takes_little_memory(
    sshd: Any, tunnel: Tunnel, tmp_path: Path
) -> None:
    connections, piece = 4, b"x" * 65536

    async def deaf(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async def send_until_stuck() -> int:
        sent, (_, writer) = 0, await asyncio.open_connection("127.0.0.1", sshd.api_port)
        with contextlib.suppress(TimeoutError):
            while sent < 64 * 2**20:
                writer.write(piece)
                await asyncio.wait_for(writer.drain(), 1)
                sent += len(piece)
        writer.transport.abort()
        return sent

    server = await asyncio.start_unix_server(deaf, tmp_path / "api.sock", limit=65536)
    await tunnel.forward_api(tmp_path / "api.sock", port=sshd.api_port)
    tracemalloc.start()
    try:
        sent = await asyncio.gather(*(send_until_stuck() for _ in range(connections)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        server.close()
    assert all(amount < 64 * 2**20 for amount in sent), "everything was taken"
    # A window, what waits for the socket, what the socket's reader holds, and the sender's own buffer.
    assert peak < connections * 2**20


async def test_a_port_held_by_an_older_session_is_taken_over(sshd: Any, tmp_path: Path) -> None:
    old = await Tunnel.dial(**sshd.dial_arguments())
    new = await Tunnel.dial(**sshd.dial_arguments())
    async with await echo_on(tmp_path / "old", b"old"), await echo_on(tmp_path / "new", b"new"):
        await old.forward_api(tmp_path / "old", port=sshd.api_port)
        await new.forward_api(tmp_path / "new", port=sshd.api_port)
        assert await read_port(sshd.api_port) == b"new"
        await asyncio.wait_for(old.wait_closed(), 5)
        assert not old.is_open
    assert new.is_open
    await new.close()
    await old.close()


async def test_a_port_held_by_another_program_is_refused_by_its_name(sshd: Any, tunnel: Tunnel) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", sshd.api_port))
        other.listen()
        with pytest.raises(ForwardRefused, match=rf"\(process {os.getpid()}\) listens there"):
            await tunnel.forward_api(Path("/nowhere"), port=sshd.api_port)


async def test_another_port_than_permitted_is_refused(
    tunnel: Tunnel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_TAKE_OVER_S", 0.2)
    with pytest.raises(ForwardRefused, match="refuses to listen"):
        await tunnel.forward_api(Path("/nowhere"), port=1)


async def test_our_key_opens_nothing_else_on_the_cell(sshd: Any, tmp_path: Path) -> None:
    arguments = sshd.dial_arguments()
    async with asyncssh.connect(
        "127.0.0.1",
        sshd.port,
        config=None,
        username=arguments["username"],
        client_keys=[keys.load_private(sshd.client_key)],
        known_hosts=([keys.load_public(arguments["host_keys"][0])], [], []),
    ) as direct:
        # Both listen: without the restriction they would answer.
        async with await echo_on(tmp_path / "containerd.sock", b"containerd"):
            with pytest.raises(asyncssh.ChannelOpenError):
                await direct.open_connection("127.0.0.1", sshd.port)
            with pytest.raises(asyncssh.ChannelOpenError):
                await direct.open_unix_connection(str(tmp_path / "containerd.sock"))
        with pytest.raises(asyncssh.ChannelListenError):
            await direct.forward_remote_port_to_path("0.0.0.0", sshd.api_port, "/nowhere")
        with pytest.raises(asyncssh.ChannelOpenError):
            await direct.create_process("true", request_pty="force", term_type="xterm")


async def test_a_local_socket_leads_to_the_kubelet(sshd: Any, tunnel: Tunnel, tmp_path: Path) -> None:
    server = await asyncio.start_server(
        lambda _, writer: (writer.write(b"kubelet"), writer.close()), "127.0.0.1", sshd.kubelet_port
    )
    path = tmp_path / "kubelet.sock"
    path.touch()  # left by a process that was killed
    async with server:
        await tunnel.forward_kubelet(path, port=sshd.kubelet_port)
        assert path.stat().st_mode & 0o777 == 0o600
        reader, writer = await asyncio.open_unix_connection(path)
        assert await asyncio.wait_for(reader.read(), 5) == b"kubelet"
        writer.close()
    await tunnel.close()
    assert not path.exists()


async def test_a_killed_sshd_session_is_noticed(sshd: Any, tunnel: Tunnel) -> None:
    with pytest.raises((CommandFailed, Unreachable)):
        await tunnel.run("kill -KILL $PPID; sleep 5")
    assert await asyncio.wait_for(tunnel.wait_closed(), 5)
    assert not tunnel.is_open
    with pytest.raises(Unreachable):
        await tunnel.run("true")
    with pytest.raises(Unreachable):
        await tunnel.forward_kubelet(Path("/nowhere/kubelet.sock"))


async def test_a_dead_peer_is_noticed_by_keepalives(sshd: Any) -> None:
    """The peer does not close, it just says nothing any more: a machine that was cut off."""
    gate = asyncio.Event()
    gate.set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await gate.wait()
            writer.write(data)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", sshd.port)
        try:
            await asyncio.gather(copy(reader, upstream_writer), copy(upstream_reader, writer))
        except ConnectionError:
            pass
        finally:
            writer.close()
            upstream_writer.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    tunnel = await Tunnel.dial(**sshd.dial_arguments(port=port, keepalive_interval_s=0.1))
    gate.clear()
    await asyncio.wait_for(tunnel.wait_closed(), 5)
    gate.set()
    server.close()
    await tunnel.close()


async def test_closing_twice_is_fine(tunnel: Tunnel) -> None:
    await tunnel.close()
    await tunnel.close()
