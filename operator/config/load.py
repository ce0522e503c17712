"""From a provider.yaml and the environment to settings, or to all that is wrong at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kip.config import obsolete, source, tree
from kip.config.obsolete import Where
from kip.config.problems import ConfigError, ConfigWarning, KeyPath, Problem, explain
from kip.config.schema.section import key_of
from kip.config.schema.settings import Settings
from kip.model.requirements import GPU

# Key -> the environment variables that stand in for it, the first one that is set counts. VKUBELET_POD_IP is
# what the first Kip's manifests set.
_FROM_ENVIRONMENT: Mapping[KeyPath, tuple[str, ...]] = {
    ("cloud", "aws", "region"): ("AWS_REGION", "AWS_DEFAULT_REGION"),
    ("kubelet", "nodeIP"): ("NODE_IP", "POD_IP", "VKUBELET_POD_IP"),
    ("cluster", "namespace"): ("POD_NAMESPACE",),
    ("cells", "imageCache", "endpoint"): ("NFS_VOLUME_ENDPOINT",),
}
#: Fields of `cells` that are paths of files.
_FILES = ("cloud_init_file", "instance_data")


@dataclass(frozen=True)
class Loaded:
    """Settings and where they are from."""

    settings: Settings
    warnings: list[ConfigWarning]
    origins: Mapping[KeyPath, str] = field(default_factory=dict)
    """Where each value that is no default comes from: `line 7`, `environment variable POD_IP`."""


def load(path: Path, environ: Mapping[str, str] | None = None) -> tuple[Settings, list[ConfigWarning]]:
    """The settings of a provider.yaml.

    Raises:
        ConfigError: says everything that is wrong with the file.
    """
    loaded = load_with_origins(path, os.environ if environ is None else environ)
    return loaded.settings, loaded.warnings


def load_with_origins(path: Path, environ: Mapping[str, str]) -> Loaded:
    """As `load`, with the origin of each value for those who want to show it. Raises ConfigError."""
    read = source.read(path)
    data, warnings = obsolete.replace(read.data, read.where)
    from_environment = _add_environment(data, environ)

    def where(place: KeyPath) -> str | None:
        return from_environment.get(place) or read.where(place)

    problems = list(read.problems)
    settings = _validated(data, where, problems)
    if settings is not None:
        settings = _with_files(settings, path, where, problems)
    if settings is None or problems:
        raise ConfigError(path, sorted(problems, key=_reading_order))
    warnings += [ConfigWarning(place, message, where(place)) for place, message in _remarks(settings)]
    warnings.sort(key=_reading_order)
    return Loaded(settings, warnings, _origins(read.lines, warnings) | from_environment)


def _remarks(settings: Settings) -> Iterator[tuple[KeyPath, str]]:
    """What is right, and may all the same not be what was meant."""
    if settings.cells.standby_cells:
        yield (
            ("cells", "standbyCells"),
            "checked, but without effect: this version keeps no standby cells",
        )
    if settings.cells.boot_image_spec.given and GPU in settings.kubelet.capacity:
        yield (
            ("cells", "bootImageSpec"),
            "used for machines with GPUs too: pods get their GPUs only if it brings NVIDIA's driver and container "
            "toolkit (/usr/bin/nvidia-container-runtime)",
        )


def _validated(data: Any, where: Where, problems: list[Problem]) -> Settings | None:
    known = {problem.path for problem in problems}
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            place, message = explain(detail, Settings, data)
            if place not in known:
                problems.append(Problem(place, message, where(place)))
    return None


def _add_environment(data: dict[str, Any], environ: Mapping[str, str]) -> dict[KeyPath, str]:
    """Fill in what the file leaves out; the answer says which variable each value is from."""
    added: dict[KeyPath, str] = {}
    for path, variables in _FROM_ENVIRONMENT.items():
        variable = next((name for name in variables if environ.get(name)), None)
        if variable is None:
            continue
        section = tree.ensure_section(data, path[:-1])
        if section is not None and section.get(path[-1]) in (None, ""):
            section[path[-1]] = environ[variable]
            added[path] = f"environment variable {variable}"
    return added


def _with_files(settings: Settings, path: Path, where: Where, problems: list[Problem]) -> Settings:
    """Paths made absolute, and the files there: better said now than at the first launch."""
    found: dict[str, Path] = {}
    for name in _FILES:
        given = getattr(settings.cells, name)
        if given is None:
            continue
        found[name] = (path.parent / given).absolute()
        if not found[name].is_file():
            place = ("cells", key_of(name))
            problems.append(Problem(place, f"expected an existing file, not {str(given)!r}", where(place)))
    cells = settings.cells.model_copy(update=found)
    return settings.model_copy(update={"cells": cells})


def _origins(lines: Mapping[KeyPath, str], warnings: list[ConfigWarning]) -> dict[KeyPath, str]:
    """Where the values that count are from: what is ignored has no place, what moved has its new one."""
    ignored = {warning.path for warning in warnings if warning.ignored}
    origins = {
        path: line
        for path, line in lines.items()
        if not any(path[:length] in ignored for length in range(1, len(path) + 1))
    }
    return origins | {new: lines[old] for old, new in obsolete.MOVED.items() if old in lines}


def _reading_order(problem: Problem | ConfigWarning) -> tuple[int, str]:
    words = (problem.where or "").split()
    line = int(words[1]) if len(words) == 2 and words[0] == "line" else 0
    return line, str(problem)
