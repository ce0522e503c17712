"""The command `kip image-cache`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
from kubernetes_asyncio.config import ConfigException

from kip import config
from kip.commandline import kubeconfig_option
from kip.config import Settings
from kip.config.types import parse_seconds
from kip.imagecache import byhand, checking
from kip.imagecache.byhand import Refused
from kip.imagecache.listing import rows, summary, table
from kip.images.errors import CachingError
from kip.kube.errors import KubeError
from kip.model import quantity
from kip.oci.credentials import CredentialError
from kip.oci.errors import RegistryError
from kip.oci.reference import InvalidName

Result = TypeVar("Result")

NOT_DONE, REFUSED = 1, 3

_PATH = click.Path(dir_okay=False, path_type=Path)
_volume = click.option(
    "--volume",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    envvar="KIP_IMAGE_CACHE_VOLUME",
    show_envvar=True,
    help="The directory where the volume is mounted.",
)
_force = click.option("--force", is_flag=True, help="Do not ask the cluster what its cells have.")
_config = click.option("--config", "config_file", type=_PATH, help="A provider.yaml, for mirrors and limits.")


class _Size(click.ParamType[int]):
    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return quantity.whole(value)
        except ValueError:
            self.fail(f"{value!r}: expected a size like 512Mi or 50Gi", param, ctx)


class _Duration(click.ParamType[timedelta]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        try:
            return value if isinstance(value, timedelta) else timedelta(seconds=parse_seconds(value))
        except ValueError:
            self.fail(f"{value!r}: expected a duration like 90s, 30m or 720h", param, ctx)


@click.group("image-cache")
def image_cache() -> None:
    """Images that are already there when pods start, on a shared volume (docs/image-cache.md)."""


@image_cache.command()
@click.option("--config", "config_file", type=_PATH, required=True, help="The provider.yaml.")
@_volume
@kubeconfig_option
def run(config_file: Path, volume: Path, kubeconfig: Path | None) -> None:
    """Cache what pods use, and keep the volume in bounds."""
    from kip.imagecache import process  # noqa: PLC0415 - the other commands need none of this
    from kip.observe.logging import configure  # noqa: PLC0415

    settings = _settings(config_file)
    configure(settings.log.format, settings.log.level)
    try:
        asyncio.run(process.run(settings, volume, kubeconfig=kubeconfig))
    except ConfigException as error:
        raise click.ClickException(
            f"no cluster to work for: {error}; give --kubeconfig, set KUBECONFIG, or run in a pod"
        ) from error
    except (KubeError, OSError) as error:
        raise click.ClickException(str(error)) from error


@image_cache.command("list")
@_volume
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def list_(volume: Path, output: str) -> None:
    """Show the images on the volume.

    LAYERS says how many are there of how many; SIZE is what these take, shared ones included.
    """
    inventory, now = _do(byhand.look(volume))
    found = rows(inventory)
    if output == "json":
        click.echo(json.dumps([row.to_dict() for row in found], indent=2))
        return
    if found:
        click.echo("\n".join(table(found, now)))
    click.echo(summary(inventory))


@image_cache.command()
@click.argument("references", metavar="IMAGE...", nargs=-1, required=True)
@_volume
@click.option(
    "--platform",
    "platforms",
    multiple=True,
    default=("linux/amd64",),
    show_default=True,
    help="May be repeated.",
)
@click.option("--auth", type=_PATH, help="Logins, as `docker login` writes them (config.json).")
@_config
def add(
    references: tuple[str, ...],
    volume: Path,
    platforms: tuple[str, ...],
    auth: Path | None,
    config_file: Path | None,
) -> None:
    """Cache images now."""
    failed = _do(byhand.add(volume, references, platforms, auth, _settings(config_file)))
    sys.exit(NOT_DONE if failed else 0)


@image_cache.command()
@click.argument("names", metavar="IMAGE...", nargs=-1, required=True)
@_volume
@kubeconfig_option
@_force
def remove(*, names: tuple[str, ...], volume: Path, kubeconfig: Path | None, force: bool) -> None:
    """Take images from the volume, by reference or digest.

    Layers that no image needs then are deleted by the controller or by `prune`, when no cell can be about to mount them.
    Refused while a cell has the image.
    """
    gone = _do(byhand.remove(volume, names, kubeconfig, force=force))
    for line in gone:
        click.echo(f"removed {line}")


@image_cache.command()
@_volume
@click.option(
    "--repair", is_flag=True, help="Delete what is damaged; it is cached anew when it is used again."
)
@click.option(
    "--quick", is_flag=True, help="Do not read the layers' content: only whether all is there, and whole."
)
@kubeconfig_option
@_force
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def verify(
    *, volume: Path, repair: bool, quick: bool, kubeconfig: Path | None, force: bool, output: str
) -> None:
    """Read the whole volume, and say what is not as it should be.

    Exit status: 0 all is well (or repaired), 1 something is wrong, 3 refused because a cell has what would be deleted.
    """
    checked = _do(checking.check(volume, kubeconfig, repair=repair, content=not quick, force=force))
    if output == "json":
        click.echo(json.dumps(checked.to_dict(), indent=2))
    else:
        click.echo("\n".join(checked.lines()))
    sys.exit(0 if checked.well else NOT_DONE)


@image_cache.command()
@_volume
@click.option(
    "--unused-for", type=_Duration(), help="Also take images away that were not used for so long, like 720h."
)
@click.option(
    "--max-size", type=_Size(), help="Also take images away until all layers take no more, like 50Gi."
)
@click.option(
    "--grace",
    type=_Duration(),
    default="1h",
    show_default=True,
    help="Leave layers that were needed until so short a time ago: a cell may be about to mount them.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@kubeconfig_option
@_force
def prune(
    *,
    volume: Path,
    unused_for: timedelta | None,
    max_size: int | None,
    grace: timedelta,
    dry_run: bool,
    kubeconfig: Path | None,
    force: bool,
) -> None:
    """Delete layers that no image needs; never what a cell has."""
    limits = byhand.limits(max_size, unused_for)
    lines = _do(byhand.prune(volume, limits, grace, kubeconfig, dry_run=dry_run, force=force))
    click.echo("\n".join(lines))


def _do(work: Coroutine[Any, Any, Result]) -> Result:
    try:
        return asyncio.run(work)
    except Refused as error:
        click.echo(f"Refused: {error}", err=True)
        sys.exit(REFUSED)
    except InvalidName as error:
        raise click.UsageError(str(error)) from error
    except (CachingError, RegistryError, CredentialError, KubeError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _settings(file: Path | None) -> Settings:
    if file is None:
        return Settings()
    try:
        settings, warnings = config.load(file)
    except config.ConfigError as error:
        raise click.ClickException(str(error)) from error
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    return settings
