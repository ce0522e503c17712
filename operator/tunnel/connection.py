"""One SSH connection to one cell: commands, and the two forwarded ports."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncssh

from kip.tunnel import keys
from kip.tunnel.errors import (
    AuthenticationRefused,
    CommandFailed,
    CommandTimedOut,
    ForwardRefused,
    HostKeyMismatch,
    Unreachable,
)

# The cell's loopback ports that the operator's key may open (authorized_keys in the user data).
API_PORT = 6443
KUBELET_PORT = 10250

# A dead connection is noticed after at most four intervals. sshd on the cell does the same from its side.
KEEPALIVE_INTERVAL_S = 10.0
KEEPALIVE_COUNT = 3
HANDSHAKE_TIMEOUT_S = 15.0
COMMAND_TIMEOUT_S = 30.0
# Bytes that a cell may send on one of its connections before we have taken them, and so what each of them can cost us
# in memory. asyncssh's own 2 MiB are for bulk data over long distances; a kubelet's requests have some kilobytes.
_API_WINDOW = 128 * 1024
# What Kip's commands print is a key and a token, or an error. A cell that prints without end must cost no more.
OUTPUT_LIMIT = 64 * 1024
# A killed sshd session's port is free again after some milliseconds.
_TAKE_OVER_S = 3.0
_CLOSE_S = 1.0
_HOST_KEY_ALGORITHMS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256")
# Our key, and none of what asyncssh would otherwise read from this machine or try.
_NOTHING_ELSE: Mapping[str, Any] = {
    "config": None,
    "agent_path": None,
    "gss_host": None,
    "preferred_auth": "publickey",
    "compression_algs": None,
}


class Tunnel:
    """An open SSH connection. Made by `dial`; of no use once it is closed or lost."""

    def __init__(self, connection: asyncssh.SSHClientConnection, owner: _Owner, name: str) -> None:
        self._connection = connection
        self._owner = owner
        self._name = name
        self._opened = time.monotonic()
        self._sockets: list[Path] = []

    def __repr__(self) -> str:
        state = "open" if self.is_open else f"closed ({self._owner.reason})"
        return f"<Tunnel {self._name} {state}, {time.monotonic() - self._opened:.0f} s>"

    @classmethod
    async def dial(
        cls,
        *,
        address: str,
        port: int = 22,
        username: str = "root",
        client_key: str,
        host_keys: Sequence[str],
        connect_timeout_s: float = 3.0,
        handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S,
        keepalive_interval_s: float = KEEPALIVE_INTERVAL_S,
        handshakes: asyncio.Semaphore | None = None,
    ) -> Tunnel:
        """Connects, accepting exactly these host keys.

        Args:
            client_key: our private key, in OpenSSH's format.
            host_keys: public keys of which the cell must prove to have one.
            connect_timeout_s: for TCP alone. To a machine that is still booting packets go into the void, and
                the kernel repeats a SYN after 1, 3, 7 s only: dial often and briefly instead.
            handshakes: taken once TCP is connected; the cryptography of many cells at once would stall the process.

        Raises:
            Unreachable: no answer, refused, or lost on the way.
            HostKeyMismatch: the cell has none of these keys.
            AuthenticationRefused: the cell does not accept ours.
            InvalidKey: a key cannot be read.
        """
        if not host_keys:
            raise ValueError("no host key to accept: a cell is never trusted blindly")
        accepted = [keys.load_public(key) for key in host_keys]
        ours = keys.load_private(client_key)
        name = f"{username}@{address}:{port}"
        sock = await _connect(address, port, connect_timeout_s)
        owner = _Owner()
        try:
            async with handshakes or contextlib.nullcontext():
                connection = await asyncssh.connect(
                    address,
                    port,
                    sock=sock,
                    client_factory=lambda: owner,
                    username=username,
                    client_keys=[ours],
                    known_hosts=(accepted, [], []),
                    server_host_key_algs=_algorithms(accepted),
                    login_timeout=handshake_timeout_s,
                    keepalive_interval=keepalive_interval_s,
                    keepalive_count_max=KEEPALIVE_COUNT,
                    **_NOTHING_ELSE,
                )
        except asyncssh.HostKeyNotVerifiable as error:
            raise HostKeyMismatch(f"{name}: shows another host key than recorded: {error.reason}") from error
        except asyncssh.PermissionDenied as error:
            raise AuthenticationRefused(f"{name}: refuses the operator's key: {error.reason}") from error
        except (OSError, TimeoutError, asyncssh.Error) as error:
            raise Unreachable(f"{name}: no SSH session: {_told(error)}", answered=True) from error
        finally:
            if not owner.connected:
                sock.close()
        return cls(connection, owner, name)

    @property
    def is_open(self) -> bool:
        """False as soon as the loss is known, which may be some keepalives after it happened."""
        return not self._owner.closed.done()

    @property
    def host_key(self) -> str:
        """The host key that the cell has proved to have, `ssh-ed25519 AAAA…`."""
        key = self._connection.get_server_host_key()
        assert key is not None  # noqa: S101 - there is one since the handshake
        return keys.encoded(key)

    async def run(
        self,
        command: str,
        input: bytes = b"",  # noqa: A002
        timeout_s: float = COMMAND_TIMEOUT_S,
        most_bytes: int = OUTPUT_LIMIT,
    ) -> bytes:
        """Runs a shell command on the cell and returns its standard output; one that prints more has failed.

        Raises:
            CommandFailed, CommandTimedOut, Unreachable.
        """
        process: asyncssh.SSHClientProcess[bytes] | None = None
        try:
            async with asyncio.timeout(timeout_s):
                process = await self._connection.create_process(command, encoding=None)
                # A command that reads nothing may have ended by now.
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(input)
                    process.stdin.write_eof()
                output, errors = await asyncio.gather(
                    _read(process.stdout, command, most_bytes), _read(process.stderr, command, most_bytes)
                )
                await process.wait_closed()
        except TimeoutError as error:
            raise CommandTimedOut(command, timeout_s) from error
        except (OSError, asyncssh.Error) as error:
            raise Unreachable(f"{self._name}: {_told(error)}", answered=True) from error
        finally:
            if process is not None:
                # Not waited for: sshd agrees only when the command has ended, and that may be never.
                process.close()
        if process.exit_status is None and not self.is_open:
            raise Unreachable(f"{self._name}: lost during a command: {self._owner.reason}", answered=True)
        if process.exit_status != 0:
            raise CommandFailed(command, process.exit_status, errors.decode(errors="replace"))
        return output

    async def lines(self, command: str) -> AsyncIterator[str]:
        """Runs a shell command for as long as the connection lives or somebody reads; yields what it prints, line by line.

        Raises:
            CommandFailed: a line is longer than any of ours.
            Unreachable.
        """
        process: asyncssh.SSHClientProcess[bytes] | None = None
        try:
            process = await self._connection.create_process(command, encoding=None, stderr=asyncssh.DEVNULL)
            while line := await process.stdout.readline():
                if len(line) > OUTPUT_LIMIT:
                    raise CommandFailed(command, None, f"a line of more than {OUTPUT_LIMIT} bytes")
                yield line.decode(errors="replace").rstrip("\n")
        except (OSError, asyncssh.Error) as error:
            raise Unreachable(f"{self._name}: {_told(error)}", answered=True) from error
        finally:
            if process is not None:
                process.close()

    async def forward_api(self, socket_path: Path, *, port: int = API_PORT) -> None:
        """Lets the cell's `127.0.0.1:port` be our unix socket.

        A session of ours that died without the cell's knowledge, or that of a process which no longer holds the
        node, may still have the port: it is ended.

        Raises:
            ForwardRefused: something else listens there, or the key does not permit it.
            Unreachable: the connection is lost.
        """
        deadline = time.monotonic() + _TAKE_OVER_S
        while True:
            try:
                await self._connection.create_server(
                    lambda *_: self._connection.forward_unix_connection(str(socket_path)),
                    "127.0.0.1",
                    port,
                    window=_API_WINDOW,
                )
                return
            except asyncssh.ChannelListenError as error:
                if not self.is_open:
                    raise Unreachable(f"{self._name}: {self._owner.reason}", answered=True) from error
                if time.monotonic() > deadline:
                    raise ForwardRefused(
                        f"{self._name}: sshd refuses to listen on 127.0.0.1:{port}"
                    ) from error
            except (OSError, asyncssh.Error) as error:
                raise Unreachable(f"{self._name}: {_told(error)}", answered=True) from error
            try:
                await self.run(_end_sessions_on(port))
            except CommandFailed as error:
                raise ForwardRefused(f"{self._name}: 127.0.0.1:{port}: {error.stderr.strip()}") from error
            await asyncio.sleep(0.05)

    async def forward_kubelet(self, socket_path: Path, *, port: int = KUBELET_PORT) -> None:
        """Makes a local unix socket, ours alone, each connection to which goes to the cell's `127.0.0.1:port`.

        Raises:
            Unreachable: the connection is lost.
            OSError: the socket cannot be made.
        """
        socket_path.unlink(missing_ok=True)  # noqa: ASYNC240 - no waiting in it
        if not self.is_open:
            raise Unreachable(f"{self._name}: {self._owner.reason}", answered=True)
        await self._connection.forward_local_path_to_port(str(socket_path), "127.0.0.1", port)
        self._sockets.append(socket_path)
        socket_path.chmod(0o600)  # noqa: ASYNC240

    async def wait_closed(self) -> str:
        """Returns why, once the connection is closed or lost."""
        return await asyncio.shield(self._owner.closed)

    async def close(self) -> None:
        """Ends the connection; without the cell's consent if that takes more than a second."""
        self._connection.close()
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._connection.wait_closed()
        except TimeoutError:
            self._connection.abort()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_S):
                    await self._connection.wait_closed()
        finally:
            for path in self._sockets:
                path.unlink(missing_ok=True)


class _Owner(asyncssh.SSHClient):
    """Told by asyncssh when the connection comes and goes."""

    def __init__(self) -> None:
        self.connected = False
        self.reason = ""
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self.connected = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.reason = _told(exc) if exc else "closed"
        if not self.closed.done():
            self.closed.set_result(self.reason)


def _algorithms(accepted: Sequence[asyncssh.SSHKey]) -> list[str]:
    """Those of the accepted keys first, then the other usual ones.

    A cell without any of the former would just close the connection, like one that is still booting; it is to show
    what it has, so that the difference can be told.
    """
    recorded = [key.algorithm.decode() for key in accepted]
    return sorted(_HOST_KEY_ALGORITHMS, key=lambda algorithm: algorithm not in recorded)


async def _connect(address: str, port: int, timeout_s: float) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(timeout_s):
            await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except TimeoutError as error:
        sock.close()
        raise Unreachable(f"{address}:{port}: no answer within {timeout_s:g} s") from error
    except OSError as error:
        sock.close()
        refused = isinstance(error, ConnectionRefusedError)
        told = os.strerror(error.errno) if error.errno else _told(error)
        raise Unreachable(f"{address}:{port}: {told}", answered=refused) from error
    except BaseException:
        sock.close()
        raise
    return sock


def _end_sessions_on(port: int) -> str:
    """Ends sshd's session that listens on the port; fails if it is another program that does."""
    return (
        f"for pid in $(ss -Hltnp 'src 127.0.0.1 and sport = :{port}' | grep -o 'pid=[0-9]*' | sort -u); do"
        " pid=${pid#pid=}; name=$(cat /proc/$pid/comm);"
        ' case $name in sshd*) kill "$pid" ;; *) echo "$name (process $pid) listens there" >&2; exit 1 ;; esac;'
        " done"
    )


def _told(error: BaseException) -> str:
    return str(error) or type(error).__name__


async def _read(stream: asyncssh.SSHReader[bytes], command: str, most_bytes: int) -> bytes:
    """All that the command prints; raises CommandFailed when that is more than it should."""
    printed = bytearray()
    while chunk := await stream.read(OUTPUT_LIMIT):
        printed += chunk
        if len(printed) > most_bytes:
            raise CommandFailed(command, None, f"more than {most_bytes} bytes of output")
    return bytes(printed)
