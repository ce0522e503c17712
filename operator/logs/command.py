"""The command `kip logs`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from kubernetes_asyncio.config import ConfigException

from kip.cells.repository import CELLS_PATH
from kip.commandline import kubeconfig_option
from kip.kube.client import ApiClient, connected
from kip.kube.errors import Forbidden, KubeError, from_reply
from kip.kube.watch import list_all
from kip.kubelet.systemlogs import MOST_LINES, UNITS, USUAL_LINES
from kip.logs import request
from kip.logs.follow import MOST_NEW_LINES, Following
from kip.model.clock import Clock, SystemClock

#: Seconds between two questions of `--follow`. Each is one `journalctl` on the cell.
FOLLOW_EVERY_S = 2.0
# What a shell makes of an end by Ctrl-C.
_INTERRUPTED = 130


@dataclass(frozen=True)
class _Wanted:
    cell: str
    units: tuple[str, ...]
    tail: int
    since: datetime | None
    follow: bool


class _CellGone(KubeError):
    """The node has no such cell any more."""


@click.command("logs")
@click.argument("cell")
@click.option("--system", is_flag=True, help="Of the cell's own programs; a pod's logs are for kubectl.")
@click.option(
    "--unit",
    "units",
    multiple=True,
    type=click.Choice([*UNITS]),
    help="May be given more than once; all if not.",
)
@click.option(
    "--tail",
    type=click.IntRange(min=0, max=MOST_LINES),
    default=USUAL_LINES,
    show_default=True,
    help="Lines.",
)
@click.option("--since", "since_text", help="A duration like 1h30m, or a time like 2006-01-02T15:04:05Z.")
@click.option(
    "-f", "--follow", is_flag=True, help="Go on with what is written from now on, until the cell is gone."
)
@kubeconfig_option
def logs(
    *,
    cell: str,
    system: bool,
    units: tuple[str, ...],
    tail: int,
    since_text: str | None,
    follow: bool,
    kubeconfig: Path | None,
) -> None:
    """Show what kubelet, containerd and cloud-init of a cell have written.

    CELL is a cell's name, or NAMESPACE/POD. The operator reads the cell's journal over its own connection; it is asked by
    way of the API server, which lets those do it who may get nodes/proxy, as for a node's own logs.
    """
    if not system:
        raise click.UsageError(
            "without --system use `kubectl logs`, which shows a pod's logs also after its cell has gone"
        )
    clock = SystemClock()
    try:
        since = request.since(since_text, clock.now()) if since_text is not None else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--since") from error
    try:
        asyncio.run(_show(kubeconfig, _Wanted(cell, units, tail, since, follow), clock))
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except ConfigException as error:
        raise click.ClickException(
            f"no cluster to ask: {error}; give --kubeconfig or set KUBECONFIG"
        ) from error
    except Forbidden as error:
        hint = "listing cells.kip.elotl.co and getting nodes/proxy have to be allowed"
        raise click.ClickException(f"{error}: {hint}") from error
    except BrokenPipeError:  # click's: who reads our output has seen enough
        raise
    except (LookupError, KubeError, OSError) as error:
        raise click.ClickException(str(error)) from error


async def _show(kubeconfig: Path | None, wanted: _Wanted, clock: Clock) -> None:
    async with connected(kubeconfig) as client:
        cells = (await list_all(client, CELLS_PATH, {})).items
        cell = request.chosen(cells, wanted.cell)
        if wanted.follow:
            await _follow(client, cell, wanted, clock)
        else:
            _print(await _read(client, cell, wanted.units, wanted.tail, wanted.since))


async def _follow(client: ApiClient, cell: Mapping[str, Any], wanted: _Wanted, clock: Clock) -> None:
    """Ask again and again, until the cell is gone: a stream would hold the cell's connection, and a terminal is soon
    forgotten. A machine that is just booting does not answer yet."""
    following = Following()
    # Following begins behind the last line, so it has to be known, wanted or not.
    tail, shown = max(wanted.tail, 1), wanted.tail > 0
    trouble = ""
    while True:
        try:
            text = await _read(client, cell, wanted.units, tail, following.since or wanted.since)
        except _CellGone as gone:
            click.echo(f"kip: {gone}", err=True)
            return
        except Forbidden:
            raise
        except (KubeError, OSError) as error:
            if str(error) != trouble:
                click.echo(f"kip: {error}; still trying", err=True)
            trouble = str(error)
        else:
            new, missing = following.fresh(text)
            if missing:
                click.echo(
                    f"kip: more than {MOST_NEW_LINES} lines at once, older ones are left out", err=True
                )
            _print(new if shown else "")
            tail, shown, trouble = MOST_NEW_LINES, True, ""
        await clock.sleep(FOLLOW_EVERY_S)


def _print(text: str) -> None:
    click.echo(request.harmless(text) if sys.stdout.isatty() else text, nl=False)


async def _read(
    client: ApiClient, cell: Mapping[str, Any], units: tuple[str, ...], tail: int, since: datetime | None
) -> str:
    reply = await client.request("GET", request.path(cell, units, tail, since))
    if reply.status == 200:
        return reply.body.decode(errors="replace")
    if reply.status in (401, 403):
        raise from_reply(reply.status, reply.body)
    # In the words of the virtual node, or of the API server that could not ask it.
    said = reply.body.decode(errors="replace").strip() or f"status {reply.status}"
    raise _CellGone(said) if reply.status == 404 else KubeError(said)
