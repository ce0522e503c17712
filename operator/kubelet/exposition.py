"""Putting the metrics of many kubelets together as those of one node (Prometheus text format 0.0.4)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_POD_LABEL = re.compile(rb'[{,]\s*pod="[^"]')
_SAMPLE = re.compile(rb"([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})?[ \t]+(\S+)(?:[ \t]+(-?[0-9]+))?[ \t]*")


@dataclass(slots=True)
class Family:
    """One metric: its HELP and TYPE lines and its samples, each a line without its end."""

    name: bytes
    head: list[bytes] = field(default_factory=list)
    samples: list[bytes] = field(default_factory=list)


def families(text: bytes) -> Iterator[Family]:
    """Take one kubelet's answer apart; comments that are neither HELP nor TYPE are dropped."""
    current: Family | None = None
    for line in text.splitlines():
        if line.startswith((b"# HELP ", b"# TYPE ")):
            name = line.split(None, 3)[2]
            if current is None or current.name != name:
                if current is not None:
                    yield current
                current = Family(name)
            current.head.append(line)
        elif line and not line.startswith(b"#"):
            name = _sample_name(line)
            # Samples of a histogram or summary carry the family's name and a suffix.
            if current is None or not name.startswith(current.name):
                if current is not None:
                    yield current
                current = Family(name)
            current.samples.append(line)
    if current is not None:
        yield current


def with_label(sample: bytes, label: bytes, value: str) -> bytes:
    """The sample line with one more label, in front of its others."""
    name = _sample_name(sample)
    rest = sample[len(name) :]
    escaped = value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n").encode()
    if rest.startswith(b"{}"):
        rest = rest[2:]
    if rest.startswith(b"{"):
        return name + b"{" + label + b'="' + escaped + b'",' + rest[1:]
    return name + b"{" + label + b'="' + escaped + b'"}' + rest


def value_of(sample: bytes) -> tuple[float, int | None] | None:
    """A sample's value and its time in milliseconds, None for what is not a sample."""
    match = _SAMPLE.fullmatch(sample)
    if match is None:
        return None
    try:
        return float(match[3]), int(match[4]) if match[4] else None
    except ValueError:
        return None


class Merged:
    """Many cells' metrics with one HELP and TYPE per metric; series that belong to no pod get the label `cell`."""

    def __init__(self) -> None:
        self._families: dict[bytes, Family] = {}

    def add(self, cell: str, text: bytes) -> None:
        """Take in one cell's answer."""
        for family in families(text):
            for sample in family.samples:
                self.add_sample(
                    family, sample if _POD_LABEL.search(sample) else with_label(sample, b"cell", cell)
                )

    def add_sample(self, family: Family, sample: bytes) -> None:
        """Take in one finished line under its family's head."""
        mine = self._families.setdefault(family.name, Family(family.name, family.head))
        mine.samples.append(sample)

    def encode(self) -> bytes:
        """The text of all."""
        lines = [line for family in self._families.values() for line in (*family.head, *family.samples)]
        return b"\n".join(lines) + b"\n" if lines else b""


def _sample_name(line: bytes) -> bytes:
    return re.split(rb"[{ \t]", line, maxsplit=1)[0]
