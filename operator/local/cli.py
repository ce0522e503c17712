"""`kip local …`: the local world's commands."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from kip.local import build, lifecycle, packages, processes, registry
from kip.local.progress import ConsoleProgress
from kip.local.world import DEFAULT_NAME, World, WorldError


class _Group(click.Group):
    """Tells what a user can change as one message, not as a traceback: what the system refuses, too."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # click's: who reads our output has seen enough
            raise
        except (WorldError, registry.ArchiveError, registry.LoadError, OSError) as error:
            raise click.ClickException(str(error)) from error


_named = click.option(
    "--name",
    default=DEFAULT_NAME,
    envvar="KIP_LOCAL_NAME",
    show_default=True,
    show_envvar=True,
    help="Which world.",
)


@click.group(cls=_Group)
def local() -> None:
    """A Kubernetes cluster, an AWS endpoint and really booted cells on this machine."""
    packages.complete_path()


@local.command()
@_named
@click.option("--only", multiple=True, metavar="PART", help="Start this part and what it needs; repeatable.")
@click.option("--without", multiple=True, metavar="PART", help="Leave this part out; repeatable.")
def up(name: str, only: tuple[str, ...], without: tuple[str, ...]) -> None:
    """Bring the world up, or repair it: what runs is left alone."""
    world = lifecycle.up(name, ConsoleProgress(), only=only or None, without=without)
    click.echo(f"export KUBECONFIG={world.kubeconfig}")


@local.command()
@_named
@click.option("--keep", is_flag=True, help="Leave the world up, and say how to look at it.")
def demo(name: str, *, keep: bool) -> None:
    """Show pods on cells of their own, with the commands to type.

    Brings the world up, tells the story, and takes down what it brought up.
    """
    from kip.local.demo import demonstrate  # noqa: PLC0415 (as `kip local --help` needs none of it)

    raise click.exceptions.Exit(demonstrate(name, keep=keep))


@local.command()
@_named
def down(name: str) -> None:
    """Take the world down and leave nothing of it."""
    if not lifecycle.down(name, ConsoleProgress()):
        click.echo(f"there is no world {name!r}")


@local.command()
@_named
def status(name: str) -> None:
    """Show each part. The exit status is 1 when one that was started is not ready."""
    world = _existing(name)
    found = lifecycle.status(world)
    _print_table(
        ("PART", "PID", "STATE"),
        (
            (
                part.name,
                str(part.pid or "-"),
                "ready" if part.missing is None else part.missing if part.started else "not started",
            )
            for part in found
        ),
    )
    if any(part.started and part.missing for part in found):
        raise click.exceptions.Exit(1)


@local.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}, add_help_option=False
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def kubectl(arguments: tuple[str, ...]) -> None:
    """Run kubectl as the world's administrator.

    KIP_LOCAL_NAME names another world than the default one.
    """
    world = _existing(os.environ.get("KIP_LOCAL_NAME", DEFAULT_NAME))
    program = build.ensure(build.KUBERNETES, ConsoleProgress()) / "kubectl"
    # With the cache in the world's directory nothing of the world stays in the user's.
    ours = {"KUBECONFIG": str(world.kubeconfig), "KUBECACHEDIR": str(world.state / "kubectl")}
    os.execve(program, ["kubectl", *arguments], {**os.environ, **ours})


@local.command("instances")
@_named
def show_instances(name: str) -> None:
    """Show the EC2 instances, those that are over included."""
    from kip.local import instances  # noqa: PLC0415 (the AWS SDK: half a second that few commands need)

    found = instances.describe(_existing(name))
    if not found:
        click.echo("EC2 has no instances")
        return
    _print_table(
        ("INSTANCE-ID", "STATE", "TYPE", "MARKET", "ZONE", "IP", "POD-IP", "NAME"),
        (
            (i.id, i.state, i.instance_type, i.market, i.zone, i.private_ip, i.pod_ip, i.tags.get("Name"))
            for i in found
        ),
    )


@local.command()
@_named
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def load(name: str, image: Path) -> None:
    """Put a saved IMAGE into the world's registry.

    It is a file of docker save or buildah push, or an OCI archive.
    """
    for loaded in registry.load(image, _existing(name).url("registry")):
        click.echo(f"loaded {loaded}")


@local.command()
@_named
@click.option("--follow", "-f", is_flag=True, help="Go on showing what comes.")
@click.argument("part")
def logs(name: str, part: str, *, follow: bool) -> None:
    """Show what a PART printed."""
    world = _existing(name)
    path = processes.Processes(world).log(part)
    if not path.exists():
        known = ", ".join(sorted(log.stem for log in world.logs.glob("*.log"))) or "none yet"
        raise click.ClickException(f"{part!r} has no log in {world.logs}; there are: {known}")
    os.execvp("tail", ["tail", "--lines=+1", *(["--follow=name"] if follow else []), str(path)])


@local.group()
def node() -> None:
    """An ordinary node beside the virtual one."""


@node.command("up")
@_named
def node_up(name: str) -> None:
    """Boot a machine that joins the cluster as an ordinary node."""
    from kip.local import ordinary  # noqa: PLC0415 (the AWS SDK: half a second that no other command needs)

    ordinary.up(_existing(name), ConsoleProgress())


@node.command("down")
@_named
def node_down(name: str) -> None:
    """Take the ordinary node away."""
    from kip.local import ordinary  # noqa: PLC0415

    ordinary.down(_existing(name), ConsoleProgress())


def _existing(name: str) -> World:
    world = World.find(name)
    if world is None:
        raise click.ClickException(f"there is no world {name!r}: kip local up --name {name}")
    return world


def _print_table(header: Sequence[str], rows: Iterable[Sequence[str | None]]) -> None:
    """Columns as kubectl prints them, never cut off or wrapped."""
    cells = [header, *([value or "-" for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for row in cells:
        click.echo("   ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip())
