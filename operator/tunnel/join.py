"""What the operator does on a cell over SSH before a pod comes: read its secrets, let it become itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kip.tunnel import keys
from kip.tunnel.connection import Tunnel
from kip.tunnel.errors import CommandFailed

# Where the cell's boot script leaves them.
DIRECTORY = "/etc/kip"
TOKEN = "token"  # noqa: S105 - a file's name
OWN_HOST_KEY_PUBLIC = "own_host_key.pub"
HOST_KEY = "ssh_host_ed25519_key"

# sshd may answer before the boot script has run.
_BOOT_TIMEOUT_S = 60.0
_LOOK_S = 0.05
# Each takes a process on the cell, and a hundred bytes of a command, which the kernel limits to 128 KiB.
_FLOWS_ONE_BY_ONE = 256


class NotACell(CommandFailed):
    """The machine answers, but does not hold what user data should have brought."""


@dataclass(frozen=True, slots=True)
class CellSecrets:
    """What a cell has made for itself at boot."""

    token: str = field(repr=False)
    """Bearer token with which its kubelet calls the cell API."""
    next_host_key: str
    """Public half of its own host key: record it, then `activate_host_key`."""


async def first_contact(tunnel: Tunnel, *, timeout_s: float = _BOOT_TIMEOUT_S) -> CellSecrets:
    """Reads the cell's secrets, waiting for its boot script to have made them. May be repeated at any time.

    Raises:
        NotACell: they are not what they should be.
        CommandFailed, CommandTimedOut, Unreachable.
    """
    # A command outlives its connection: it must come to an end by itself.
    command = (
        f"cd {DIRECTORY} || exit; n=0; until [ -s {TOKEN} ] && [ -s {OWN_HOST_KEY_PUBLIC} ]; do"
        f" [ $n -lt {round(timeout_s / _LOOK_S)} ] || exit 75; n=$((n+1)); sleep {_LOOK_S}; done;"
        f" cat {OWN_HOST_KEY_PUBLIC} && cat {TOKEN}"
    )
    output = (await tunnel.run(command, timeout_s=timeout_s)).decode(errors="replace")
    public, _, token = output.partition("\n")
    try:
        return CellSecrets(token=_checked(token.strip()), next_host_key=keys.normalized(public))
    except ValueError as error:
        raise NotACell(command, 0, f"{DIRECTORY}: {error}") from None


async def activate_host_key(tunnel: Tunnel) -> None:
    """Lets sshd show the cell's own host key from now on, and the first-contact key never again.

    Connections stay. May be repeated. Only after the public half was recorded: nobody could come back otherwise.

    Raises:
        CommandFailed, CommandTimedOut, Unreachable.
    """
    await tunnel.run(
        f"cd {DIRECTORY} && if [ -e {HOST_KEY}.next ]; then sync {HOST_KEY}.next && mv {HOST_KEY}.next {HOST_KEY}; fi"
        " && systemctl reload sshd.service"
    )


async def push_services(
    tunnel: Tunnel, ruleset: str, stale_flows: Sequence[tuple[str, int, str]] | None = None
) -> None:
    """Gives the cell a whole nft ruleset of Services, or the change of one, in one transaction.

    Args:
        stale_flows: UDP flows to end: a Service's address and port, and the backend that it no longer has. None if
            that is not known: all that lead to a Service, each of which then begins anew by the rules.

    Raises:
        CommandFailed: nft refuses it; the cell keeps what it had. After a change: it does not have what the change
            was computed from, so push the whole.
        CommandTimedOut, Unreachable.
    """
    await tunnel.run(f"nft -f - || exit; {_end_flows(stale_flows)}", input=ruleset.encode())


def _end_flows(flows: Sequence[tuple[str, int, str]] | None) -> str:
    if flows is None or len(flows) > _FLOWS_ONE_BY_ONE:
        # Without an address it stands for all that are translated. Those to the pod's hostPorts are among them, and
        # are translated again as before.
        ends = ["conntrack -D -p udp --dst-nat"]
    else:
        ends = [
            f"conntrack -D -p udp --orig-dst {address} --orig-port-dst {port} --dst-nat {backend}"
            for address, port, backend in flows
        ]
    # It fails when there is no such flow, which is usual.
    return "".join(f"{end} >/dev/null 2>&1; " for end in ends) + "true"


def _checked(token: str) -> str:
    if len(token) < 32 or not token.isascii() or any(character.isspace() for character in token):
        raise ValueError(f"{TOKEN} is not a token of at least 32 characters")
    return token
