"""What is wrong with a provider.yaml, in words for the person who wrote it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from kip.config.types import EXPECTATION

#: Where a value is: the keys and list positions that lead to it.
KeyPath = tuple[str | int, ...]

_SECRET_KEYS = frozenset({"secretAccessKey"})
_LONGEST_VALUE = 60


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong."""

    path: KeyPath
    message: str
    where: str | None = None
    """`line 7`, or `environment variable POD_IP`; None when there is no such place."""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{dotted(self.path)}: {self.message}" if self.path else f"{place}{self.message}"


@dataclass(frozen=True, slots=True)
class ConfigWarning:
    """Something that is accepted, though not as the person who wrote it may believe."""

    path: KeyPath
    message: str
    where: str | None = None
    ignored: bool = False
    """True when nothing of it is used."""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{dotted(self.path)}: {self.message}"


class ConfigError(Exception):
    """The file cannot be used; `problems` says everything that is wrong with it."""

    def __init__(self, path: Path, problems: Iterable[Problem]) -> None:
        self.path = path
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n  ".join([f"{path}: {count}", *map(str, self.problems)]))


def dotted(path: KeyPath) -> str:
    """`cells.extraCIDRs[1]`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def explain(error: ErrorDetails, schema: type[BaseModel], data: Any) -> tuple[KeyPath, str]:
    """One of pydantic's errors as path and message. `data` is what was validated."""
    path: KeyPath = tuple(error["loc"])
    match error["type"]:
        case "extra_forbidden":
            return path, f"unknown key; {_suggestion(path, schema)}"
        case "missing":
            return path, "missing; this key is required"
        case kind if kind == EXPECTATION:
            expected = error["ctx"]["expected"]
        case "literal_error":
            expected = error["ctx"]["expected"].replace("'", "")
        case "tuple_type":
            expected = "a list"
        case _:
            expected = "a mapping of keys to values"
    return path, f"expected {expected}{_instead(path, error['input'])}"


def _instead(path: KeyPath, value: Any) -> str:
    if path and path[-1] in _SECRET_KEYS:
        return ", not what is there"
    if isinstance(value, (Mapping, BaseModel)):
        return ""
    text = repr(value)
    if isinstance(value, bool):
        text = str(value).lower()
    return f", not {text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + '...'}"


def _suggestion(path: KeyPath, schema: type[BaseModel]) -> str:
    keys = {dotted(known): known for known in known_paths(schema)}
    here = [str(known[-1]) for known in keys.values() if known[:-1] == _without_positions(path[:-1])]
    wanted = str(path[-1])
    by_folded = {key.lower(): key for key in here}
    if close := difflib.get_close_matches(wanted.lower(), by_folded, n=1):
        return f"did you mean {by_folded[close[0]]}?"
    elsewhere = sorted(name for name, known in keys.items() if str(known[-1]).lower() == wanted.lower())
    if elsewhere:
        return f"did you mean {' or '.join(elsewhere)}?"
    return f"known here: {', '.join(here)}"


def _without_positions(path: KeyPath) -> KeyPath:
    return tuple(step for step in path if not isinstance(step, int))


def known_paths(schema: type[BaseModel], prefix: KeyPath = ()) -> Iterator[KeyPath]:
    """The path of every key of a section and of the sections in it; list positions are left out."""
    for field in schema.model_fields.values():
        path = (*prefix, field.alias or "")
        yield path
        section = section_of(field.annotation)
        if section is not None:
            yield from known_paths(section, path)


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a field of this type holds, or each of its entries; None for a plain value."""
    candidates = (annotation, *getattr(annotation, "__args__", ()))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
