"""`python -m kip.local.aws`: AWS on this machine until a signal ends it."""

from __future__ import annotations

import signal
import sys
from ipaddress import IPv4Network
from pathlib import Path

import click

from kip.local.aws.account import StateError
from kip.local.aws.backend import Site
from kip.local.aws.server import AwsServer


class _Network(click.ParamType[IPv4Network]):
    name = "cidr"

    def convert(
        self, value: str | IPv4Network, param: click.Parameter | None, ctx: click.Context | None
    ) -> IPv4Network:
        try:
            return IPv4Network(value)
        except ValueError as error:
            self.fail(f"{error}; expected an IPv4 network like 10.77.0.0/24", param, ctx)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5000, show_default=True, help="Port to listen on; 0 takes a free one.")
@click.option("--cidr", type=_Network(), required=True, help="Network of the VPC.")
@click.option(
    "--zones",
    type=click.Choice([1, 2, 4]),
    default=1,
    show_default=True,
    help="Zones that have a subnet, of equal shares of the VPC.",
)
@click.option(
    "--withhold", type=_Network(), multiple=True, help="Range of it that no instance gets; repeatable."
)
@click.option(
    "--state", type=click.Path(file_okay=False, path_type=Path), help="Directory that keeps everything."
)
@click.option("--region", default="us-east-1", show_default=True)
@click.option("--kubernetes", default="1.36", show_default=True, help="Minor version of the EKS images.")
def main(
    *,
    host: str,
    port: int,
    cidr: IPv4Network,
    zones: int,
    withhold: tuple[IPv4Network, ...],
    state: Path | None,
    region: str,
    kubernetes: str,
) -> None:
    """Serve AWS's API and, below /_kip/, the control API of a local world."""
    if state:
        state.mkdir(parents=True, exist_ok=True)
    site = Site(cidr=cidr, withheld=withhold, region=region, kubernetes=kubernetes, zones=zones)
    try:
        server = AwsServer(host, port, site, state)
    except (StateError, OSError) as error:
        sys.exit(f"local AWS: {error}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"local AWS: http://{server.address[0]}:{server.address[1]}", flush=True)
    try:
        server.serve()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
