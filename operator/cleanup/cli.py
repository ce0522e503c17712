"""The command `kip cleanup`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from kubernetes_asyncio.config import ConfigException

from kip import config
from kip.app import cluster
from kip.app.aws import sdk_settings
from kip.cleanup.ending import Ending, NotEnded
from kip.cleanup.execute import Cleanup, Outcome
from kip.cleanup.look import Places, look
from kip.cleanup.plan import Found, Plan, by_kind, in_use, plan
from kip.cloud.ec2 import Ec2Compute
from kip.cloud.errors import CloudError
from kip.cloud.network import Ec2Network
from kip.cloud.routes import Ec2Routes
from kip.cloud.sdk import open_ec2
from kip.commandline import kubeconfig_option
from kip.config import Settings
from kip.kube.client import ApiClient
from kip.kube.errors import KubeError
from kip.model.clock import SystemClock

INCOMPLETE, REFUSED = 1, 3


@click.command("cleanup")
@click.option(
    "--config",
    "config_file",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The provider.yaml of the installation.",
)
@kubeconfig_option
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--drain",
    is_flag=True,
    help="While Kip still runs: close the virtual nodes, evict their pods, and wait for the end of their machines.",
)
@click.option(
    "--stop", metavar="DEPLOYMENT", help="Scale this Deployment of Kip to 0 before anything is removed."
)
@click.option(
    "--force", is_flag=True, help="Also while pods are bound to the nodes or an operator is running."
)
@click.option(
    "--when-refused",
    metavar="TEXT",
    default="--drain has the pods evicted, --force goes on nevertheless",
    help="What to say then of how to go on, where it is not by these options.",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    default=600.0,
    show_default=True,
    help="Seconds to wait for AWS.",
)
def cleanup(
    *,
    config_file: Path,
    kubeconfig: Path | None,
    dry_run: bool,
    yes: bool,
    drain: bool,
    stop: str | None,
    force: bool,
    when_refused: str,
    output: str,
    timeout_s: float,
) -> None:
    """Remove what is left of an uninstalled Kip: instances, routes, Cells, nodes, leases, secrets, security group.

    With --stop, and --drain where pods still run, it is all of an uninstallation but the manifests. Says first
    what it has found and will do. May be repeated.

    Exit status: 0 nothing is left (or --dry-run), 1 something is, 2 wrong usage, 3 refused because Kip is in use.
    """
    if not (dry_run or yes) and (output == "json" or not sys.stdin.isatty()):
        raise click.UsageError("there is nobody to ask: give --yes or --dry-run")
    if (drain or stop) and not (yes or dry_run):
        raise click.UsageError(
            "--drain and --stop act at once: give --yes, or --dry-run to see what is there"
        )
    try:
        settings, _ = config.load(config_file)
    except config.ConfigError as error:
        raise click.ClickException(str(error)) from error
    options = _Options(dry_run, yes, drain, stop, force, when_refused, output == "json", timeout_s)
    try:
        sys.exit(asyncio.run(_clean(settings, kubeconfig, options)))
    except ConfigException as error:
        raise click.ClickException(
            f"no cluster to clean: {error}; give --kubeconfig or set KUBECONFIG"
        ) from error
    except (KubeError, CloudError, NotEnded, OSError) as error:
        raise click.ClickException(error.summary if isinstance(error, CloudError) else str(error)) from error


@dataclass(frozen=True)
class _Options:
    dry_run: bool
    yes: bool
    drain: bool
    stop: str | None
    force: bool
    when_refused: str
    json: bool
    timeout_s: float


async def _clean(settings: Settings, kubeconfig: Path | None, options: _Options) -> int:
    """The exit status."""
    async with _places(settings, kubeconfig) as places:
        name = await cluster.name_of(places.api, settings)
        _progress(f"looking for what is left of cluster {name} ({places.api.server})")
        todo = plan(await _found(places, settings, name, options))
        refused = bool(todo.refusals) and not options.force
        outcome = Outcome()
        if not options.json:
            click.echo(told(todo, options.when_refused if refused else None))
        if todo.steps and not refused and not options.dry_run:
            if not options.yes:
                click.confirm("Remove all of this?", abort=True)
            outcome = await Cleanup(places, tell=_progress, timeout_s=options.timeout_s).run(todo)
        if options.json:
            click.echo(json.dumps(as_json(name, todo, outcome, refused=refused), indent=2))
        elif outcome.failed:
            click.echo(
                "not removed:\n" + "\n".join(f"  {s.kind} {s.name}: {why}" for s, why in outcome.failed)
            )
    if refused:
        return REFUSED
    return INCOMPLETE if outcome.failed else 0


async def _found(places: Places, settings: Settings, name: str, options: _Options) -> Found:
    """What there is, when the nodes have been emptied and Kip's processes have been stopped, if that is wanted."""
    namespace = settings.cluster.namespace

    async def again() -> Found:
        return await look(
            places,
            cluster=name,
            node_names=settings.kubelet.node_names,
            namespace=namespace,
            operators=not options.stop,
        )

    found = await again()
    if options.dry_run or not (options.drain or options.stop):
        return found
    ending = Ending(places, tell=_progress, timeout_s=options.timeout_s)
    if options.drain and found.nodes:
        await ending.drain(found.nodes)
        found = await again()
    if options.stop and (options.force or not any(map(in_use, found.pods))):
        await ending.stop(namespace, options.stop)
        found = await again()
    return found


def told(todo: Plan, when_refused: str | None) -> str:
    """A plan for people; with how to go on if it is refused."""
    lines = [f"{'warning' if when_refused is None else 'refused'}: {why}" for why in todo.refusals]
    if when_refused is not None:
        lines.append(when_refused)
    if not todo.steps:
        lines.append("nothing is left")
    for kind, steps in by_kind(todo.steps).items():
        lines.append(f"{len(steps)} {kind}{'s' if len(steps) != 1 else ''}:")
        lines += [f"  {step.name}  {step.what}" for step in steps]
    return "\n".join(lines)


def as_json(name: str, todo: Plan, outcome: Outcome, *, refused: bool) -> dict[str, object]:
    """The same, and what became of it, for programs."""
    return {
        "cluster": name,
        "refused": refused,
        "reasons": list(todo.refusals),
        "found": [asdict(step) for step in todo.steps],
        "removed": [asdict(step) for step in outcome.done],
        "failed": [{**asdict(step), "error": why} for step, why in outcome.failed],
    }


def _progress(line: str) -> None:
    click.echo(line, err=True)


@asynccontextmanager
async def _places(settings: Settings, kubeconfig: Path | None) -> AsyncIterator[Places]:
    aws = settings.cloud.aws
    if aws.region is None:
        raise click.ClickException(
            "the region is not known: set cloud.aws.region in provider.yaml, or AWS_REGION"
        )
    async with AsyncExitStack() as stack:
        api = await ApiClient.connect(kubeconfig)
        stack.push_async_callback(api.close)
        sdk = await stack.enter_async_context(open_ec2(sdk_settings(aws, aws.region)))
        compute = Ec2Compute(sdk)
        stack.push_async_callback(compute.close)
        yield Places(api, compute, Ec2Network(sdk), Ec2Routes(sdk), SystemClock())
