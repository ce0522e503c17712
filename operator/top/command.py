"""The command `kip top`."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from kubernetes_asyncio.config import ConfigException
from rich.console import Console
from rich.live import Live
from rich.text import Text

from kip.cells.repository import CELLS_PATH
from kip.commandline import kubeconfig_option
from kip.kube.client import ApiClient, connected
from kip.kube.errors import Forbidden, KubeError, NotFound
from kip.kube.informer import Informer
from kip.kube.watch import Listed, list_all
from kip.model.clock import Clock, SystemClock, to_rfc3339
from kip.top import text
from kip.top.rows import ORDERS, Order, Row, rows, totals


@dataclass(frozen=True)
class _Options:
    namespace: str | None
    order: Order
    wide: bool
    interval_s: float


@click.command("top")
@click.option("-n", "--namespace", help="Only cells of this namespace's pods.")
@click.option("--sort", "order", type=click.Choice(ORDERS), default="cost", show_default=True)
@click.option(
    "-o", "--output", type=click.Choice(["text", "wide", "json"]), default="text", show_default=True
)
@click.option("--once", is_flag=True, help="Print once and end, as always when the output is no terminal.")
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(min=0.2),
    default=2.0,
    show_default=True,
    help="Seconds between two pictures.",
)
@kubeconfig_option
def top(
    *,
    namespace: str | None,
    order: Order,
    output: str,
    once: bool,
    interval_s: float,
    kubeconfig: Path | None,
) -> None:
    """Show the cells, their machines and what those have cost so far, by list price.

    Needs the right to list and watch cells.kip.elotl.co, and nothing of AWS. On a terminal the picture is kept
    current until Ctrl-C.
    """
    options = _Options(namespace, order, output == "wide", interval_s)
    live = not once and output != "json" and sys.stdout.isatty()
    try:
        asyncio.run(_top(kubeconfig, options, live=live, as_json=output == "json"))
    except KeyboardInterrupt:
        pass
    except ConfigException as error:
        raise click.ClickException(
            f"no cluster to look at: {error}; give --kubeconfig or set KUBECONFIG"
        ) from error
    except NotFound as error:
        raise click.ClickException(
            "the cluster has no cells.kip.elotl.co: Kip is not installed there"
        ) from error
    except Forbidden as error:
        raise click.ClickException(
            f"{error}: the verbs list and watch on cells.kip.elotl.co are needed"
        ) from error
    except (KubeError, OSError) as error:
        raise click.ClickException(str(error)) from error


async def _top(kubeconfig: Path | None, options: _Options, *, live: bool, as_json: bool) -> None:
    clock = SystemClock()
    async with connected(kubeconfig) as client:
        # Also before a picture that is kept current: a watch repeats what fails here, for ever.
        listed = await list_all(client, CELLS_PATH, {})
        if live:
            await _keep_current(client, listed, clock, options)
            return
    now = clock.now()
    found = rows(listed.items, now, namespace=options.namespace, order=options.order)
    if as_json:
        click.echo(json.dumps({"asOf": to_rfc3339(now), **document(found)}, indent=2))
    else:
        click.echo("\n".join(picture(found, wide=options.wide)))


async def _keep_current(client: ApiClient, first: Listed, clock: Clock, options: _Options) -> None:
    """Draw until cancelled. One watch, whatever the number of cells and the interval."""
    informer = Informer(client, CELLS_PATH, clock=clock)
    informer.replace(first.items, first.resource_version)
    watching = asyncio.create_task(informer.run())
    try:
        with Live(console=Console(), screen=True, auto_refresh=False) as screen:
            while True:
                found = rows(informer.items(), clock.now(), namespace=options.namespace, order=options.order)
                lines = picture(found, wide=options.wide)
                if informer.last_error is not None:
                    lines[0] += f"; growing old: {informer.last_error}"
                fitting = lines[: screen.console.size.height]
                screen.update(Text("\n".join(fitting), no_wrap=True, overflow="ellipsis"), refresh=True)
                await clock.sleep(options.interval_s)
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


def picture(found: list[Row], *, wide: bool) -> list[str]:
    """The lines of one picture, the sums first: a terminal may have room for no more."""
    return [text.summary(totals(found)), *(text.table(found, wide=wide) if found else ())]


def document(found: list[Row]) -> dict[str, Any]:
    """The same for programs."""
    return {"totals": _camel(asdict(totals(found))), "cells": [_camel(asdict(r)) for r in found]}


_KEYS = {
    "age_s": "ageSeconds",
    "instance_id": "instanceID",
    "instance_type": "instanceType",
    "usd_per_hour": "usdPerHour",
    "usd_so_far": "usdSoFar",
}


def _camel(fields: dict[str, Any]) -> dict[str, Any]:
    """Keys as Kubernetes writes them."""
    return {_KEYS.get(key, key): value for key, value in fields.items()}
