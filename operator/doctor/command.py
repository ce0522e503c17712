"""The command `kip doctor`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import click
from kubernetes_asyncio.config import ConfigException
from yaml import YAMLError

from kip import config
from kip.app import userdata
from kip.app.whereabouts import here
from kip.cloud.metadata import Whereabouts
from kip.commandline import kubeconfig_option
from kip.config import ConfigError, Settings
from kip.doctor import text
from kip.doctor.asking import Asking
from kip.doctor.examine import Patient, examine
from kip.doctor.facts import Facts
from kip.doctor.finding import Remedy, Status, failure
from kip.doctor.look.aws import Cloud
from kip.doctor.table import CHECKS, Line, judge
from kip.kube.client import ApiClient
from kip.kube.errors import Unavailable
from kip.model.clock import Clock, SystemClock
from kip.observe.logging import configure

#: Where the manifests and the chart mount it.
MOUNTED = Path("/etc/kip/provider.yaml")
FAILED = 1
# Threads that look names up cannot be cut off; nobody shall wait for them.
_PATIENCE_S = 2.0

FailOn = Literal["failure", "unknown", "warning", "never"]
_FAILING: Mapping[FailOn, frozenset[Status]] = {
    "never": frozenset(),
    "failure": frozenset({"failure"}),
    "unknown": frozenset({"failure", "unknown"}),
    "warning": frozenset({"failure", "unknown", "warning"}),
}


@click.command("doctor")
@click.option(
    "--config",
    "config_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"The provider.yaml of the installation; with --in-cluster {MOUNTED} unless given.",
)
@kubeconfig_option
@click.option(
    "--in-cluster",
    is_flag=True,
    help="This is where Kip runs, as Kip: its service account is asked about, ways to the cells and the image cache are "
    "tried.",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    help="Seconds for each question.",
)
@click.option(
    "--fail-on",
    type=click.Choice(list(_FAILING)),
    default="failure",
    show_default=True,
    help="The least that makes the exit status 1.",
)
def doctor(
    *,
    config_file: Path | None,
    kubeconfig: Path | None,
    in_cluster: bool,
    output: str,
    timeout_s: float,
    fail_on: FailOn,
) -> None:
    """Say whether Kip can work here, and what mends what is wrong.

    Looks at the cluster, at what AWS allows and has, and at the network, and changes nothing: permissions are tried by
    dry runs and by calls about nothing.

    Exit status: 0 nothing failed, 1 something did (see --fail-on), 2 wrong usage.
    """
    if config_file is None:
        if not in_cluster:
            raise click.UsageError("give --config provider.yaml, or --in-cluster")
        config_file = MOUNTED
    configure("text", "error")
    runner = asyncio.Runner()
    found = _look(runner, config_file, kubeconfig, in_cluster=in_cluster, timeout_s=timeout_s)
    if output == "json":
        click.echo(json.dumps(text.document(found), indent=2))
    else:
        click.echo("\n".join(text.lines(found)))
    failed = any(line.finding.status in _FAILING[fail_on] for line in found)
    _close(runner, FAILED if failed else 0)
    sys.exit(FAILED if failed else 0)


def _look(
    runner: asyncio.Runner, file: Path, kubeconfig: Path | None, *, in_cluster: bool, timeout_s: float
) -> Sequence[Line]:
    """Everything that is found."""
    try:
        settings, warnings = config.load(file)
    except ConfigError as error:
        return _wrong_configuration(file, error)
    clock = SystemClock()
    facts = Facts(
        settings=settings,
        config_file=str(file),
        config_warnings=tuple(map(str, warnings)),
        user_data_trouble=userdata.trouble(settings, clock) or "",
        in_cluster=in_cluster,
    )
    return list(judge(runner.run(examine(patient_of(facts, kubeconfig, clock), Asking(timeout_s)))))


def _close(runner: asyncio.Runner, status: int) -> None:
    """Everything has been said: end in any case."""
    timer = threading.Timer(_PATIENCE_S, os._exit, (status,))
    timer.daemon = True
    timer.start()
    sys.stdout.flush()
    runner.close()
    timer.cancel()


def patient_of(facts: Facts, kubeconfig: Path | None, clock: Clock) -> Patient:
    """The real cluster and the real AWS, or what the configuration has in their places."""

    async def connect() -> ApiClient:
        try:
            return await ApiClient.connect(kubeconfig)
        except ConfigException as error:
            raise Unavailable(f"no cluster: {error}; give --kubeconfig or set KUBECONFIG") from error
        except (TypeError, ValueError, KeyError, AttributeError, YAMLError) as error:
            # What kubernetes_asyncio makes of files that are no kubeconfig.
            raise Unavailable(f"the kubeconfig cannot be used: {error}") from error

    def cloud(api: ApiClient | None) -> Cloud:
        return Cloud(lambda: _whereabouts(facts.settings, api, clock), clock)

    return Patient(facts, connect, cloud)


async def _whereabouts(settings: Settings, api: ApiClient | None, clock: Clock) -> Whereabouts | None:
    return None if api is None else await here(settings.cloud.aws, api, clock)


def _wrong_configuration(file: Path, error: ConfigError) -> Sequence[Line]:
    """Without a configuration nothing else can be asked."""
    remedy = Remedy(text="mend it; docs/provider-config.md has every key", command=f"kip config check {file}")
    return [Line(CHECKS[0], failure("configuration", str(problem), remedy)) for problem in error.problems]
