"""The command `kip`."""

from __future__ import annotations

import asyncio
import gc
import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from kip.commandline import kubeconfig_option

_CONFIG_PATH = click.Path(dir_okay=False, path_type=Path)


_ELSEWHERE = {
    "choose": (
        "kip.choose.command",
        "choose",
        "Say which machines the pods of a manifest would get, and why.",
    ),
    "cleanup": ("kip.cleanup.cli", "cleanup", "Remove what is left of an uninstalled Kip."),
    "doctor": (
        "kip.doctor.command",
        "doctor",
        "Say whether Kip can work here, and what mends what is wrong.",
    ),
    "efs": ("kip.efs.cli", "efs", "Make, show or remove an EFS volume for the image cache."),
    "iam": ("kip.iam.command", "iam", "Print the IAM policies that Kip's role needs."),
    "image-cache": (
        "kip.imagecache.command",
        "image_cache",
        "Images that are already there when pods start: fill the volume, look at it.",
    ),
    "local": ("kip.local.cli", "local", "A whole cluster with cells on this machine."),
    "logs": (
        "kip.logs.command",
        "logs",
        "Show what a cell's kubelet, containerd and cloud-init have written.",
    ),
    "top": ("kip.top.command", "top", "Show the cells and what they cost."),
}


class _LazyGroup(click.Group):
    """Imports a part of Kip only when it is asked for: the local world alone brings in moto and half of Flask."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_ELSEWHERE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        module, attribute, _ = _ELSEWHERE[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(n, c.get_short_help_str(80)) for n, c in sorted(self.commands.items())]
        rows += [(name, text) for name, (_, _, text) in _ELSEWHERE.items()]
        with formatter.section("Commands"):
            formatter.write_dl(sorted(rows))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("kip-operator"), prog_name="kip")
def main() -> None:
    """Kip turns pods into machines: each pod of its virtual node runs on an EC2 instance of its own."""


@main.command()
@click.option("--config", "config_file", type=_CONFIG_PATH, required=True, help="The provider.yaml.")
@kubeconfig_option
def run(config_file: Path, kubeconfig: Path | None) -> None:
    """Serve the virtual node."""
    from kip import config  # noqa: PLC0415 - `kip --help` needs none of this
    from kip.observe.logging import configure  # noqa: PLC0415

    settings, warnings = _load(config_file)
    _check_instance_data(settings, config)
    configure(settings.log.format, settings.log.level)
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    _run_until_stopped(settings, kubeconfig, config)


def _run_until_stopped(settings: Any, kubeconfig: Path | None, config: Any) -> None:
    import uvloop  # noqa: PLC0415
    from kubernetes_asyncio.config import ConfigException  # noqa: PLC0415

    from kip.app import process  # noqa: PLC0415
    from kip.cloud.errors import CloudError  # noqa: PLC0415
    from kip.kube.errors import KubeError  # noqa: PLC0415

    _collect_garbage_seldom()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(process.run(settings, kubeconfig=kubeconfig))
    except ConfigException as error:
        raise click.ClickException(
            f"no cluster to work for: {error}; give --kubeconfig, set KUBECONFIG, or run in a pod"
        ) from error
    except (
        process.CannotStart,
        process.CannotLetGo,
        config.ConfigError,
        KubeError,
        CloudError,
        OSError,
    ) as error:
        raise click.ClickException(str(error)) from error


def _collect_garbage_seldom() -> None:
    """Else a busy operator spends a sixth of its time on it: each time some 700 more objects are there it looks for cycles,
    of which it makes few, among thousands that it keeps."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@main.group("config")
def config_group() -> None:
    """Look at a provider.yaml."""


@config_group.command("check")
@click.argument("file", type=_CONFIG_PATH)
def config_check(file: Path) -> None:
    """Say whether FILE is right, and what would be used."""
    from kip import config  # noqa: PLC0415

    report = config.check(file)
    if report.ok:
        report = _with_user_data(report)
    click.echo(str(report))
    sys.exit(0 if report.ok else 1)


def _with_user_data(report: Any) -> Any:
    """The report, or another one if what cells would get at boot does not fit."""
    from kip import config  # noqa: PLC0415
    from kip.app import userdata  # noqa: PLC0415
    from kip.config import Problem, Report  # noqa: PLC0415
    from kip.model.clock import SystemClock  # noqa: PLC0415

    settings, _ = _load(report.file)
    own = _check_instance_data(settings, config)
    trouble = userdata.trouble(settings, SystemClock())
    if trouble is not None:
        return Report(report.file, problems=(Problem(("cells", "cloudInitFile"), trouble),))
    return replace(report, warnings=(*report.warnings, *_unknown_type(settings, own)))


def _unknown_type(settings: Any, own: Any) -> Iterator[Any]:
    """No error, as AWS may have new types; but pods that request nothing get no cell if it is a slip of the pen."""
    from kip.cloud import catalogue  # noqa: PLC0415
    from kip.config import ConfigWarning  # noqa: PLC0415

    region, wanted = settings.cloud.aws.region, settings.cells.default_instance_type
    known = {kind.name for kind in own.types(catalogue.load(region) if region else catalogue.everything())}
    if wanted not in known:
        message = f"{wanted} is no type that this version knows{f' in {region}' if region else ''}"
        yield ConfigWarning(("cells", "defaultInstanceType"), message)


def _check_instance_data(settings: Any, config: Any) -> Any:
    """What it brings. Better said now than when a node is served that something is wrong with it."""
    from kip.cloud import instance_data  # noqa: PLC0415

    try:
        return instance_data.of(settings.cells.instance_data, settings.cloud.aws.region or "")
    except config.ConfigError as error:
        raise click.ClickException(str(error)) from error


def _load(file: Path) -> tuple[Any, list[Any]]:
    from kip import config  # noqa: PLC0415

    try:
        return config.load(file)
    except config.ConfigError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
