"""What `kip config check FILE` says: all problems, or what will be used and where it is from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from kip.config.load import Loaded, load_with_origins
from kip.config.problems import ConfigError, ConfigWarning, KeyPath, Problem, dotted
from kip.config.types import Duration, Size, format_seconds
from kip.model.quantity import format_bytes


@dataclass(frozen=True)
class Line:
    """One key that will be used."""

    path: KeyPath
    value: str
    origin: str

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.value}"


@dataclass(frozen=True)
class Report:
    """The result of checking one file; `str()` of it is for a terminal."""

    file: Path
    problems: tuple[Problem, ...] = ()
    warnings: tuple[ConfigWarning, ...] = ()
    lines: tuple[Line, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems

    def __str__(self) -> str:
        if not self.ok:
            return str(ConfigError(self.file, self.problems))
        width = max(len(str(line)) for line in self.lines)
        return "\n".join(
            [
                *(f"warning: {warning}" for warning in self.warnings),
                f"{self.file}: ok; what will be used:",
                *(f"  {line!s:<{width}}  # {line.origin}" for line in self.lines),
            ]
        )


def check(path: Path, environ: Mapping[str, str] | None = None) -> Report:
    """Check one provider.yaml; raises nothing for a wrong one."""
    try:
        loaded = load_with_origins(path, os.environ if environ is None else environ)
    except ConfigError as error:
        return Report(path, problems=error.problems)
    return Report(path, warnings=tuple(loaded.warnings), lines=tuple(_lines(loaded)))


def _lines(loaded: Loaded) -> Iterator[Line]:
    for path, field, value in leaves(loaded.settings):
        yield Line(path, shown(value, field), _origin(path, loaded.origins))


def _origin(path: KeyPath, origins: Mapping[KeyPath, str]) -> str:
    """Where a value is from; for a list or a mapping also where the first of its entries is from."""
    below = (origin for place, origin in origins.items() if place[: len(path)] == path)
    return origins.get(path) or next(below, "default")


def leaves(section: BaseModel, prefix: KeyPath = ()) -> Iterator[tuple[KeyPath, FieldInfo, Any]]:
    """Every key that holds a value: its path in the file, its field and the value."""
    for name, field in type(section).model_fields.items():
        path, value = (*prefix, field.alias or name), getattr(section, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, path)
        else:
            yield path, field, value


def shown(value: Any, field: FieldInfo) -> str:
    """A value as one would write it in the file, without secrets."""
    if value is not None and any(isinstance(mark, Size) for mark in field.metadata):
        return format_bytes(value)
    if value is not None and any(isinstance(mark, Duration) for mark in field.metadata):
        return format_seconds(value)
    return _plain(value)


def _plain(value: Any) -> str:
    match value:
        case None:
            return "(none)"
        case SecretStr():
            return "(secret)"
        case bool():
            return str(value).lower()
        case BaseModel():
            return _plain(value.model_dump(by_alias=True))
        case Mapping():
            return "{" + ", ".join(f"{key}: {_plain(entry)}" for key, entry in value.items()) + "}"
        case tuple():
            return "[" + ", ".join(map(_plain, value)) + "]"
        case _:
            return str(value)
