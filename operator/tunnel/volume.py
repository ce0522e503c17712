"""What the operator does on a cell with the image cache's volume: reads from it, mounts layers, watches it."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator, Sequence
from functools import cache
from importlib import resources

from kip.tunnel.connection import Tunnel
from kip.tunnel.errors import CommandTimedOut

# Bytes that a cell may answer, compressed: some images' manifests and configurations.
_LARGEST_ANSWER = 8 << 20
# Beyond its own deadline, for a script to begin and to end.
_MARGIN_S = 5.0
_TIMED_OUT = 75


class VolumeSilent(CommandTimedOut):
    """The volume is not mounted, or has not answered, within the time."""


async def look(tunnel: Tunnel, paths: Sequence[str], *, timeout_s: float) -> bytes:
    """What is on the volume at these paths, for kip.images.look.

    Raises:
        VolumeSilent: try without the volume.
        CommandFailed, CommandTimedOut, Unreachable.
    """
    found = await tunnel.run(
        command("look", f"{timeout_s:.2f}", unless=_TIMED_OUT),
        input="".join(f"{path}\n" for path in paths).encode(),
        timeout_s=timeout_s + _MARGIN_S,
        most_bytes=_LARGEST_ANSWER,
    )
    if not found:
        raise VolumeSilent("reading from the image cache", timeout_s)
    return found


async def seed(tunnel: Tunnel, orders: bytes, *, timeout_s: float, verity: bool) -> str:
    """Mounts layers and imports images; what was done by then is in the answer, and stays. May be repeated.

    Raises:
        CommandFailed, CommandTimedOut, Unreachable.
    """
    said = await tunnel.run(
        command("seed", f"{timeout_s:.2f}", "auto" if verity else "off"),
        input=orders,
        timeout_s=timeout_s + _MARGIN_S,
    )
    return said.decode(errors="replace")


async def watch(tunnel: Tunnel, *, every_s: float) -> AsyncIterator[bool]:
    """Whether the volume answers, each time that changes; it does at first. Ends with the connection.

    Raises:
        CommandFailed, Unreachable.
    """
    async for line in tunnel.lines(command("watch", f"{every_s:g}")):
        yield line == "back"


def command(name: str, *arguments: str, unless: int | None = None) -> str:
    """The shell command that runs a script of this package, without failing if that ends with the exit code `unless`."""
    run = shlex.join(("bash", "-c", script(name), name, *arguments, *_programs(name)))
    return run if unless is None else f"{run} || [ $? = {unless} ]"


@cache
def _programs(name: str) -> tuple[str, ...]:
    """What a script has others do: its last arguments."""
    return (_text("snapshots.py"),) if name == "seed" else ()


@cache
def script(name: str) -> str:
    """One of scripts/, which say themselves what they do."""
    return _text(f"{name}.sh")


def _text(name: str) -> str:
    return resources.files("kip.tunnel").joinpath("scripts", name).read_text()
