"""What a command of `kip efs` is told: by options, by provider.yaml, and without one by the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import click

from kip import config
from kip.config import Settings
from kip.efs.look import Where

Command = TypeVar("Command", bound=Callable[..., Any])


class _Id(click.ParamType[str]):
    """The id of something in EC2."""

    def __init__(self, name: str, prefix: str) -> None:
        self.name = name
        self._pattern = re.compile(rf"{prefix}-[0-9a-z]+")

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not self._pattern.fullmatch(value):
            self.fail(f"{value!r} is no {self.name}; expected {self._pattern.pattern}", param, ctx)
        return value


VPC, SUBNET, GROUP = _Id("VPC", "vpc"), _Id("subnet", "subnet"), _Id("security group", "sg")

_FILE = click.Path(dir_okay=False, path_type=Path)
_OPTIONS = (
    click.option("--config", "config_file", type=_FILE, help="The provider.yaml of the installation."),
    click.option(
        "--kubeconfig",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Only asked for the cluster's name, where nothing else tells it.",
    ),
    click.option(
        "--cluster", help="Name of the cluster; else cluster.name of provider.yaml or $CLUSTER_NAME."
    ),
    click.option("--region", help="Else cloud.aws.region of provider.yaml or $AWS_REGION."),
    click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True),
)
_PLACE = (
    click.option("--vpc", type=VPC, help="Else that of provider.yaml or $VPC_ID."),
    click.option(
        "--subnet",
        "named_subnets",
        type=SUBNET,
        multiple=True,
        help="A mount target in this subnet and in no other that is not named; repeatable. "
        "Else one in each zone of the VPC.",
    ),
)


@dataclass(frozen=True)
class Given:
    """What all three commands are told."""

    settings: Settings
    kubeconfig: Path | None
    cluster: str | None
    """None: the cluster that the kubeconfig leads to has to be asked."""
    region: str
    where: Where
    json: bool


def usual(command: Command) -> Command:
    """The options of all three."""
    return reduce(lambda wrapped, option: option(wrapped), reversed(_OPTIONS), command)


def with_place(command: Command) -> Command:
    """The options of those that have to know the network."""
    return reduce(lambda wrapped, option: option(wrapped), reversed(_PLACE), command)


def given(
    *,
    config_file: Path | None,
    kubeconfig: Path | None,
    cluster: str | None,
    region: str | None,
    output: str,
    vpc: str | None = None,
    named_subnets: tuple[str, ...] = (),
) -> Given:
    """The options, completed; raises ClickException."""
    settings = Settings()
    environ: Mapping[str, str] = os.environ
    if config_file:
        # What a file of the installation leaves out is not to come from the shell of whoever calls this.
        environ = {}
        try:
            settings, _ = config.load(config_file)
        except config.ConfigError as error:
            raise click.ClickException(str(error)) from error
    aws = settings.cloud.aws
    found = region or aws.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    if not found:
        raise click.UsageError("the region is not known: give --region, cloud.aws.region or AWS_REGION")
    return Given(
        settings=settings,
        kubeconfig=kubeconfig,
        cluster=cluster or settings.cluster.name or environ.get("CLUSTER_NAME"),
        region=found,
        where=Where(
            vpc_id=vpc or aws.vpc_id or environ.get("VPC_ID"),
            named_subnets=named_subnets,
            cells_subnets=aws.subnet_ids,
            cells_tags=aws.subnet_tags,
        ),
        json=output == "json",
    )
