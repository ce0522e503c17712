"""`make bench`: measures, prints, and writes docs/performance.md."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
from tests.bench import computing, conversion, crowd, footprint, images, launches, machine, report, starts
from tests.bench.lab import Lab, NothingSeen, lab
from tests.bench.report import Results

from kip.local.world import WorldError

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--pods", default=200, show_default=True, help="Launches, one after the other.")
@click.option(
    "--starts", "started", default=10, show_default=True, help="Cells started, one after the other."
)
@click.option("--burst", default=8, show_default=True, help="Pods created at once.")
@click.option(
    "--crowd", "crowded", default=1000, show_default=True, help="Pods created at once, never booted."
)
@click.option("--idle", default=30.0, show_default=True, help="Seconds of each look at the idle operator.")
@click.option(
    "--name", default="kipbench", show_default=True, help="The world; one of that name is ended first."
)
@click.option("--output", type=click.Path(path_type=Path), default=_PAGE, show_default=True)
def main(pods: int, started: int, burst: int, crowded: int, idle: float, name: str, output: Path) -> None:
    """Measures Kip on this machine and writes what was found."""
    if os.geteuid() != 0:
        raise click.ClickException("the benchmark boots machines, which takes root: sudo make bench")
    about = machine.commit()  # before the page itself is a change
    try:
        results = asyncio.run(
            _measure(about, pods=pods, started=started, burst=burst, crowded=crowded, idle=idle, name=name)
        )
    except (NothingSeen, WorldError) as error:
        raise click.ClickException(str(error)) from error
    page = report.markdown(results)
    output.write_text(page)
    click.echo(page)
    click.echo(f"written to {output}", err=True)


async def _measure(
    about: str, *, pods: int, started: int, burst: int, crowded: int, idle: float, name: str
) -> Results:
    before = await machine.busy_processors()
    _tell("what is computed")
    selection, rules = computing.selection(2000), computing.rules(2000)
    conversions = await asyncio.to_thread(conversion.measure)
    async with lab(name) as world:
        looks = []

        async def look(cells: int) -> None:
            _tell(f"the operator with {cells} cells, {idle:g} s")
            looks.append(await footprint.measure(world.operator_pid(), cells=cells, idle_s=idle))

        await look(0)
        _tell(f"launches: {pods} one by one, {burst} at once")
        launched = await launches.measure(world, pods=pods, burst=burst)
        _tell(f"starts: {started} one by one")
        single = await starts.measure(world, pods=started, keep_last=True)
        await look(1)
        together = await _burst(world, burst)
        await look(burst)
        await world.delete(*world.pods)
        await look(0)
        _tell("starts with images of 1 GB, pulled and cached")
        of_images = await images.measure(world)
        _tell(f"launches: {crowded} at once")
        many = await crowd.measure(world, pods=crowded)
    after = await machine.busy_processors()
    return Results(
        date=datetime.now(UTC).date().isoformat(),
        commit=about,
        machine=machine.describe(),
        busy=(before, after),
        launches=launched,
        crowd=many,
        single=single,
        together=together,
        footprints=looks,
        selection=selection,
        rules=rules,
        conversions=conversions,
        images=of_images,
    )


async def _burst(world: Lab, burst: int) -> list[starts.Start]:
    """So many cells at once, after those that are there have gone."""
    await world.delete(*world.pods)
    _tell(f"starts: {burst} at once")
    return await starts.together(world, [f"together-{number}" for number in range(burst)])


def _tell(text: str) -> None:
    click.echo(f"measuring {text}", err=True)
    sys.stderr.flush()


if __name__ == "__main__":
    main()
