"""The command `kip efs`."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import click
from kubernetes_asyncio.config import ConfigException

from kip.app import cluster
from kip.app.aws import sdk_settings
from kip.cloud.ec2 import Ec2Compute
from kip.cloud.efs import LIFECYCLE_DAYS, LIVE, Efs, FileSystem, Throughput, dns_name
from kip.cloud.errors import CloudError
from kip.cloud.network import Ec2Network
from kip.cloud.nfsgroup import Ec2NfsGroups
from kip.cloud.sdk import Session
from kip.efs import text
from kip.efs.given import GROUP, Given, given, usual, with_place
from kip.efs.look import Places, PlaceUnknown, Where, look, subnets, vpc_of
from kip.efs.plan import Found, Wanted, incomplete, plan
from kip.efs.removal import removal
from kip.efs.setup import Setup
from kip.efs.teardown import Teardown
from kip.efs.waiting import Outcome
from kip.kube.client import ApiClient
from kip.kube.errors import KubeError
from kip.model.clock import SystemClock

INCOMPLETE, REFUSED = 1, 3

_dry_run = click.option("--dry-run", is_flag=True, help="Only say what would be done.")
_timeout = click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    default=600.0,
    show_default=True,
    help="Seconds to wait for each thing.",
)


@click.group()
def efs() -> None:
    """Make, show or remove an EFS volume for the image cache.

    What is made carries the tags kip.elotl.co/cluster and kip.elotl.co/purpose=image-cache and is found again by
    them. What does not carry them is neither changed nor removed.

    The AWS credentials are those of whoever calls this, from the usual places. They need what deploy/iam/efs.json
    lists, of elasticfilesystem:* and ec2:*. The running operator needs none of elasticfilesystem:*.
    """


@efs.command()
@usual
@with_place
@click.option(
    "--throughput",
    type=click.Choice(["elastic", "bursting"]),
    help="Of a new file system; elastic by default.",
)
@click.option("--encrypt/--no-encrypt", "encrypted", default=True, show_default=True, help="At rest.")
@click.option("--kms-key", "kms_key_id", help="Encrypt with this key instead of aws/elasticfilesystem.")
@click.option(
    "--infrequent-access",
    "lifecycle_days",
    type=click.Choice([str(days) for days in LIFECYCLE_DAYS]),
    help="Days without a read after which a file goes to cheaper and slower storage. Without it none does.",
)
@click.option(
    "--admit",
    type=GROUP,
    multiple=True,
    help="Also let members of this security group reach the volume; repeatable.",
)
@_dry_run
@_timeout
def setup(
    *,
    throughput: Throughput | None,
    encrypted: bool,
    kms_key_id: str | None,
    lifecycle_days: str | None,
    admit: tuple[str, ...],
    dry_run: bool,
    timeout_s: float,
    **usual_options: Any,
) -> None:
    """Make whatever is missing.

    These are security groups, their rule, the file system, and a mount target in each zone.

    May be repeated, and goes on where a run broke off.

    Exit status: 0 everything is there (or --dry-run), 1 something is not, 2 wrong usage, 3 refused.
    """
    if kms_key_id and not encrypted:
        raise click.UsageError("--kms-key and --no-encrypt exclude each other")
    options = given(**usual_options)

    async def work(places: Places, name: str) -> int:
        candidates = await subnets(places.network, options.where)
        wanted = Wanted(
            cluster=name,
            vpc_id=vpc_of(candidates, options.where),
            subnets=candidates,
            named=bool(options.where.named_subnets),
            encrypted=encrypted,
            kms_key_id=kms_key_id,
            throughput=throughput,
            lifecycle_days=int(lifecycle_days) if lifecycle_days else None,
            admit=admit,
        )
        return await _set_up(places, options, wanted, dry_run=dry_run, timeout_s=timeout_s)

    _run(options, work)


@efs.command()
@usual
@with_place
def status(**usual_options: Any) -> None:
    """Say what there is of what setup would make with these options.

    Exit status: 0 everything is there and available, 1 something is not, 2 wrong usage.
    """
    options = given(**usual_options)

    async def work(places: Places, name: str) -> int:
        found = await look(places, name)
        where = _where_it_is(options.where, found)
        try:
            candidates = await subnets(places.network, where)
        except PlaceUnknown:
            if options.json:
                click.echo(json.dumps({"cluster": name, "region": options.region, "complete": False}))
            else:
                click.echo(f"nothing is set up for cluster {name} in {options.region}")
            return INCOMPLETE
        wanted = Wanted(
            cluster=name,
            vpc_id=vpc_of(candidates, where),
            subnets=candidates,
            named=bool(where.named_subnets),
        )
        return _show(options, found, wanted)

    _run(options, work)


@efs.command()
@usual
@_dry_run
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Also while cells are running.")
@_timeout
def teardown(*, dry_run: bool, yes: bool, force: bool, timeout_s: float, **usual_options: Any) -> None:
    """Remove what `kip efs setup` has made, with all cached images.

    Says first what will go and what will be left, and why. The security group of the cells stays: it is Kip's own,
    which `kip cleanup` removes. May be repeated.

    Exit status: 0 nothing of it is left (or --dry-run), 1 something is, 2 wrong usage, 3 refused because cells are running.
    """
    options = given(**usual_options)
    if not (dry_run or yes) and (options.json or not sys.stdin.isatty()):
        raise click.UsageError("there is nobody to ask: give --yes or --dry-run")

    async def work(places: Places, name: str) -> int:
        return await _take_down(
            places, options, name, dry_run=dry_run, yes=yes, force=force, timeout_s=timeout_s
        )

    _run(options, work)


async def _set_up(places: Places, options: Given, wanted: Wanted, *, dry_run: bool, timeout_s: float) -> int:
    _progress(f"volume of cluster {wanted.cluster} in {wanted.vpc_id}, {options.region}")
    todo = plan(await look(places, wanted.cluster), wanted)
    outcome = Outcome()
    if not options.json:
        click.echo(text.planned(todo) if dry_run else "\n".join(text.remarks(todo)), nl=dry_run)
    if not (todo.refusals or dry_run):
        extra = options.settings.cells.extra_cidrs
        work = Setup(places, wanted, extra_cidrs=extra, tell=_progress, timeout_s=timeout_s)
        outcome = await work.run(todo)
    system = next((step.id for step in outcome.done if step.kind == "file system"), "")
    endpoint = _endpoint(system, options.region)
    if options.json:
        told = {
            "cluster": wanted.cluster,
            "region": options.region,
            "vpc": wanted.vpc_id,
            "endpoint": endpoint,
        }
        click.echo(json.dumps({**told, **text.as_json(todo, outcome)}, indent=2))
    elif outcome.failed:
        click.echo("\n".join(text.failures(outcome)))
    elif endpoint:
        click.echo(text.to_use(endpoint))
    if todo.refusals:
        return REFUSED
    return INCOMPLETE if outcome.failed else 0


def _show(options: Given, found: Found, wanted: Wanted) -> int:
    now = plan(found, wanted)
    system = _living(found, wanted.cluster)
    endpoint = _endpoint(system.id if system else "", options.region)
    missing = list(incomplete(now))
    if options.json:
        told = {
            "cluster": wanted.cluster,
            "region": options.region,
            "vpc": wanted.vpc_id,
            "endpoint": endpoint,
        }
        size = {"complete": not missing, "missing": missing, "bytes": system.size_bytes if system else 0}
        click.echo(json.dumps({**told, **size, **text.as_json(now)}, indent=2))
    else:
        click.echo(f"volume of cluster {wanted.cluster} in {wanted.vpc_id}, {options.region}")
        click.echo(text.present(now, system, endpoint))
    return INCOMPLETE if missing else 0


async def _take_down(
    places: Places, options: Given, name: str, *, dry_run: bool, yes: bool, force: bool, timeout_s: float
) -> int:
    _progress(f"looking for the volume of cluster {name} in {options.region}")
    todo = removal(await look(places, name), name)
    refused = bool(todo.refusals) and not force
    outcome = Outcome()
    if not options.json:
        click.echo(text.removed(todo, refused=refused))
    if todo.steps and not (refused or dry_run):
        if not yes:
            click.confirm("Remove all of this, and every image in it?", abort=True)
        outcome = await Teardown(places, tell=_progress, timeout_s=timeout_s).run(todo)
    if options.json:
        told = {"cluster": name, "region": options.region, **text.as_json(todo, outcome), "refused": refused}
        click.echo(json.dumps(told, indent=2))
    elif outcome.failed:
        click.echo("\n".join(text.failures(outcome)))
    if refused:
        return REFUSED
    return INCOMPLETE if outcome.failed or (todo.kept_of_ours and not dry_run) else 0


def _where_it_is(where: Where, found: Found) -> Where:
    """Where nothing says which VPC, the one in which something was found."""
    known = [*(group.vpc_id for group in found.mount_groups), *(t.vpc_id for t in found.mount_targets)]
    said = where.vpc_id or where.named_subnets or where.cells_subnets or where.cells_tags
    return where if said or not known else replace(where, vpc_id=known[0])


def _living(found: Found, name: str) -> FileSystem | None:
    return next((one for one in found.ours(name) if one.state in LIVE), None)


def _endpoint(file_system_id: str, region: str) -> str:
    return f"{dns_name(file_system_id, region)}:/" if file_system_id else ""


def _run(options: Given, work: Callable[[Places, str], Awaitable[int]]) -> None:
    """Ends the process with the status of `work`; says in one line what went wrong."""

    async def main() -> int:
        name = options.cluster or await _asked_name(options)
        async with _places(options) as places:
            return await work(places, name)

    try:
        sys.exit(asyncio.run(main()))
    except KeyboardInterrupt:
        raise click.ClickException("broken off; run it again, and it goes on from there") from None
    except ConfigException as error:
        raise click.ClickException(
            f"the cluster's name is not known: give --cluster, cluster.name in provider.yaml or a kubeconfig ({error})"
        ) from error
    except PlaceUnknown as error:
        raise click.UsageError(str(error)) from error
    except (KubeError, CloudError, OSError) as error:
        raise click.ClickException(error.summary if isinstance(error, CloudError) else str(error)) from error


async def _asked_name(options: Given) -> str:
    """As the operator learns it."""
    api = await ApiClient.connect(options.kubeconfig)
    try:
        return await cluster.name_of(api, options.settings)
    finally:
        await api.close()


_BEGAN = time.monotonic()


def _progress(line: str) -> None:
    """With the seconds since the beginning, because each line may come a minute after the one before."""
    click.echo(f"{time.monotonic() - _BEGAN:5.1f}s {line}", err=True)


@asynccontextmanager
async def _places(options: Given) -> AsyncIterator[Places]:
    async with AsyncExitStack() as stack:
        session = Session(sdk_settings(options.settings.cloud.aws, options.region))
        ec2 = await stack.enter_async_context(session.ec2())
        volumes = await stack.enter_async_context(session.efs())
        compute = Ec2Compute(ec2)
        stack.push_async_callback(compute.close)
        yield Places(compute, Ec2Network(ec2), Ec2NfsGroups(ec2), Efs(volumes), SystemClock())
