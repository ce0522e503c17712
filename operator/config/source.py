"""A YAML file as data, with the line of each value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kip.config.problems import ConfigError, KeyPath, Problem

#: The first Kip's example files have it where a value must be filled in.
PLACEHOLDER = "FILL_IN"


class _Loader(yaml.SafeLoader):
    """Takes every key for text: `on: x` would otherwise have the key True."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self.flatten_mapping(node)
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)


@dataclass(frozen=True)
class _Entry:
    path: KeyPath
    line: int
    node: yaml.Node


class Source:
    """What a file says, where it says it, and what is wrong with it whatever its keys mean."""

    def __init__(self, data: dict[str, Any], entries: Iterable[_Entry] = ()) -> None:
        self.data = data
        self._lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []
        for entry in entries:
            self._add(entry)

    def _add(self, entry: _Entry) -> None:
        where = f"line {entry.line}"
        first = self._lines.setdefault(entry.path, entry.line)
        if first != entry.line:
            self.problems.append(Problem(entry.path, f"given twice, first in line {first}", where))
        if entry.node.value == PLACEHOLDER:
            message = f"{PLACEHOLDER} stands for a value: put one there, or leave the key out"
            self.problems.append(Problem(entry.path, message, where))

    def where(self, path: KeyPath) -> str | None:
        """`line 7`: of the value, or of the nearest section around it that the file has."""
        for length in range(len(path), 0, -1):
            if line := self._lines.get(path[:length]):
                return f"line {line}"
        return None

    @property
    def lines(self) -> dict[KeyPath, str]:
        """The place of every value in the file."""
        return {path: f"line {line}" for path, line in self._lines.items()}


def read(path: Path) -> Source:
    """Parse a file; an empty one has no keys.

    Raises:
        ConfigError: the file cannot be read, or is not YAML with one mapping in it.
    """
    loader = _Loader(_text(path))
    try:
        root = loader.get_single_node()
        if root is None:
            return Source({})
        entries = list(_walk(root))
        data = loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(path, [_syntax_problem(error)]) from error
    if not isinstance(data, dict):
        raise ConfigError(path, [Problem((), "expected a mapping of keys to values", "line 1")])
    return Source(data, entries)


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
        yaml.reader.Reader(text)  # finds characters that YAML does not allow
    except OSError as error:
        raise ConfigError(path, [Problem((), f"cannot be read: {error.strerror}")]) from error
    except (UnicodeDecodeError, yaml.reader.ReaderError) as error:
        raise ConfigError(path, [Problem((), "is not text in UTF-8")]) from error
    return text


def _syntax_problem(error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    reason = ", ".join(part for part in (error.context, error.problem) if part)
    return Problem((), f"is not YAML: {reason}", f"line {mark.line + 1}" if mark else None)


def _walk(node: yaml.Node, path: KeyPath = (), above: tuple[yaml.Node, ...] = ()) -> Iterator[_Entry]:
    """Every value below `node`; the line of a mapping's value is that of its key."""
    if node in above:
        raise yaml.MarkedYAMLError(problem="a value contains itself", problem_mark=node.start_mark)
    children: list[tuple[str | int, yaml.Node, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        children = [(str(key.value), key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        children = [(position, value, value) for position, value in enumerate(node.value)]
    for step, marked, value in children:
        yield _Entry((*path, step), marked.start_mark.line + 1, value)
        yield from _walk(value, (*path, step), (*above, node))
