"""The command `kip logs`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click
from kubernetes_asyncio.config import ConfigException

from kip.cells.repository import CELLS_PATH
from kip.commandline import kubeconfig_option
from kip.kube.client import connected
from kip.kube.errors import Forbidden, KubeError, from_reply
from kip.kube.watch import list_all
from kip.kubelet.systemlogs import MOST_LINES, UNITS, USUAL_LINES
from kip.logs import request
from kip.model.clock import SystemClock


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
@kubeconfig_option
def logs(
    *,
    cell: str,
    system: bool,
    units: Sequence[str],
    tail: int,
    since_text: str | None,
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
    try:
        since = request.since(since_text, SystemClock().now()) if since_text is not None else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--since") from error
    try:
        text = asyncio.run(_read(kubeconfig, cell, units, tail, since))
    except ConfigException as error:
        raise click.ClickException(
            f"no cluster to ask: {error}; give --kubeconfig or set KUBECONFIG"
        ) from error
    except Forbidden as error:
        hint = "listing cells.kip.elotl.co and getting nodes/proxy have to be allowed"
        raise click.ClickException(f"{error}: {hint}") from error
    except (LookupError, KubeError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(request.harmless(text) if sys.stdout.isatty() else text, nl=False)


async def _read(
    kubeconfig: Path | None, wanted: str, units: Sequence[str], tail: int, since: datetime | None
) -> str:
    async with connected(kubeconfig) as client:
        cells = (await list_all(client, CELLS_PATH, {})).items
        reply = await client.request("GET", request.path(request.chosen(cells, wanted), units, tail, since))
    if reply.status == 200:
        return reply.body.decode(errors="replace")
    if reply.status in (401, 403):
        raise from_reply(reply.status, reply.body)
    # In the words of the virtual node, or of the API server that could not ask it.
    raise KubeError(reply.body.decode(errors="replace").strip() or f"status {reply.status}")
