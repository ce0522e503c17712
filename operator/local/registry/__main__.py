"""`python -m kip.local.registry`: serves a directory of images until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path

import click
from aiohttp import web

from kip.local.registry.app import create
from kip.local.registry.store import Store


@click.command()
@click.option("--host", required=True, help="Address to listen on.")
@click.option("--port", required=True, type=click.IntRange(0, 65535), help="0 takes any free one.")
@click.option("--state", required=True, type=click.Path(file_okay=False, path_type=Path), help="Its content.")
def main(host: str, port: int, state: Path) -> None:
    """Serve the images in a directory as every registry there is."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    asyncio.run(_serve(host, port, state))


async def _serve(host: str, port: int, state: Path) -> None:
    stopped = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    runner = web.AppRunner(create(Store(state)), access_log_format='%a "%r" %s %b %Tfs', shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror}") from error
        for address in runner.addresses:
            logging.getLogger(__name__).info("serving %s on http://%s:%d", state, *address[:2])
        await stopped.wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    main()
