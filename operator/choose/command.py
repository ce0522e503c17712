"""The command `kip choose`."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from kip import config
from kip.choose import data, text
from kip.choose.answers import Answer, Question
from kip.choose.manifests import ManifestError, Skipped, Workload, read
from kip.cloud import catalogue, instance_data
from kip.model.market import MarketData
from kip.pods.annotations import Layer
from kip.pods.requirements import Known
from kip.selection.choose import Chooser, Constraints

_REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]+", re.ASCII)
_USUAL_REGION = "us-east-1"


@dataclass(frozen=True)
class Place:
    """Where cells would be."""

    region: str
    zones: tuple[str, ...]
    zone_ids: Mapping[str, str]
    """Of those zones whose id was given."""


@click.command()
@click.option(
    "-f", "--filename", "files", multiple=True, required=True, help="A manifest; - for standard input."
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--region", help="Region of the cells. Otherwise that of the configuration, $AWS_REGION, us-east-1."
)
@click.option(
    "--zones",
    help="Zones of the cells, like us-east-1a,us-east-1b. With their ids (us-east-1a=use1-az4) types that a zone does "
    "not have are left out.",
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A provider.yaml: its default type, allowed types, instance data and region count.",
)
@click.option("--explain", is_flag=True, help="Say what is needed and why, and why other types do not fit.")
@click.option(
    "--max",
    "most",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Lines of a ranking, for each market.",
)
def choose(
    *,
    files: tuple[str, ...],
    output: str,
    region: str | None,
    zones: str | None,
    config_file: Path | None,
    explain: bool,
    most: int,
) -> None:
    """Say which machines the pods of a manifest would get, and why.

    Needs no cluster and no AWS: prices and types are those that came with this version, or that the configuration
    brings. Reads pods and everything that has a template of pods, and lists of them; other objects are passed over.
    Ends with status 1 if one of the pods would get no cell.
    """
    workloads, skipped = _read_all(files)
    settings = _settings(config_file)
    place = _place(region or settings.cloud.aws.region or _region_of_environment(), zones)
    answers = [_question(settings, place, most).answer(workload) for workload in workloads]
    if output == "json":
        click.echo(json.dumps(_document(answers, skipped, place, explain), indent=2))
    else:
        _print(answers, skipped, place, explain)
    sys.exit(0 if all(answer.good for answer in answers) else 1)


def _read_all(files: tuple[str, ...]) -> tuple[list[Workload], list[Skipped]]:
    found = [entry for file in files for entry in _read(file)]
    workloads = [entry for entry in found if isinstance(entry, Workload)]
    skipped = [entry for entry in found if isinstance(entry, Skipped)]
    if not workloads:
        there = f": {', '.join(f'{entry.kind} {entry.name}' for entry in skipped)}" if skipped else ""
        raise click.ClickException(f"{', '.join(files)}: no pod in it, and nothing that makes pods{there}")
    return workloads, skipped


def _read(file: str) -> list[Workload | Skipped]:
    try:
        content = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        return read(content)
    except OSError as error:
        raise click.ClickException(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{file}: is not text in UTF-8") from error
    except ManifestError as error:
        raise click.ClickException(f"{file}: {error}") from error


def _settings(file: Path | None) -> config.Settings:
    if file is None:
        return config.Settings()
    try:
        settings, _ = config.load(file)
    except config.ConfigError as error:
        raise click.ClickException(str(error)) from error
    return settings


def _region_of_environment() -> str:
    return next((os.environ[name] for name in _REGION_VARIABLES if os.environ.get(name)), _USUAL_REGION)


def _place(region: str, zones: str | None) -> Place:
    if not _REGION.fullmatch(region):
        raise click.ClickException(f"--region: expected a region like us-east-1, not {region!r}")
    if zones is None:
        return Place(region, catalogue.usual_zones(region) or (f"{region}a",), {})
    pairs = [word.strip().partition("=") for word in zones.split(",")]
    for name, _, _ in pairs:
        if not name.startswith(region):
            raise click.ClickException(f"--zones: expected zones of {region}, like {region}a, not {name!r}")
    return Place(region, tuple(name for name, _, _ in pairs), {name: id_ for name, _, id_ in pairs if id_})


def _question(settings: config.Settings, place: Place, most: int) -> Question:
    cells = settings.cells
    try:
        own = instance_data.of(cells.instance_data, place.region)
    except config.ConfigError as error:
        raise click.ClickException(str(error)) from error
    types = own.types(catalogue.load(place.region))
    market = own.market(MarketData(offered=catalogue.offered_by_zone(types, place.zone_ids)))
    chooser = Chooser(types, market)
    return Question(
        chooser=chooser,
        constraints=Constraints(
            zones=place.zones,
            default_instance_type=cells.default_instance_type,
            allowed=cells.instance_types.allowed,
            excluded=cells.instance_types.excluded,
            # Enough for all zones of each line, also for the fourth that is on demand when spot is only preferred.
            max_offers=4 * most * len(place.zones),
        ),
        default_volume_bytes=cells.default_volume_size,
        known=Known(defaults=(Layer("the configuration", cells.default_annotations),)),
        allow_daemon_sets=cells.allow_daemon_sets,
        most=most,
        by_name={candidate.name: candidate for candidate in chooser.candidates},
    )


def _document(answers: list[Answer], skipped: list[Skipped], place: Place, explain: bool) -> dict[str, Any]:
    as_of = catalogue.prices_as_of(place.region)
    return {
        "region": place.region,
        "zones": list(place.zones),
        "pricesAsOf": as_of.isoformat() if as_of else None,
        "workloads": [data.of_answer(answer, explain=explain) for answer in answers],
        "skipped": [{"kind": entry.kind, "name": entry.name} for entry in skipped],
    }


def _print(answers: list[Answer], skipped: list[Skipped], place: Place, explain: bool) -> None:
    as_of = catalogue.prices_as_of(place.region)
    prices = f"on-demand prices of {as_of}" if as_of else "prices unknown"
    click.echo(
        f"{place.region}, zones {' '.join(z.removeprefix(place.region) for z in place.zones)}; {prices}"
    )
    for answer in answers:
        click.echo("")
        for line in text.lines(answer, region=place.region, zones=place.zones, explain=explain):
            click.echo(line)
    for entry in skipped:
        click.echo(f"\n{entry}: passed over")
