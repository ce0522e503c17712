"""What a registry wants to see before it answers: `WWW-Authenticate`, as RFC 9110 (11.6.1) has it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

# A scheme or a parameter, and what separates it from the next one.
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - the grammar's word
_PARAMETER = re.compile(rf'({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))\s*,?\s*')
_SCHEME = re.compile(rf"({_TOKEN})(?:\s+|,\s*|$)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to log in."""

    scheme: str
    """In lower case: basic or bearer."""
    parameters: tuple[tuple[str, str], ...] = field(default=())

    def get(self, name: str) -> str:
        """The parameter's value, empty without one."""
        return dict(self.parameters).get(name, "")


def parse(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """All challenges of an answer's headers; what cannot be read is left out."""
    return tuple(challenge for header in headers for challenge in _of_one(header))


def _of_one(header: str) -> list[Challenge]:
    challenges: list[Challenge] = []
    position = 0
    while scheme := _SCHEME.match(header, position):
        position = scheme.end()
        parameters = []
        while found := _PARAMETER.match(header, position):
            position = found.end()
            value = found[3] if found[2] is None else re.sub(r"\\(.)", r"\1", found[2])
            parameters.append((found[1].lower(), value))
        challenges.append(Challenge(scheme[1].lower(), tuple(parameters)))
    return challenges


def best(challenges: Iterable[Challenge]) -> Challenge | None:
    """Tokens are for one repository and some minutes, so better than the password in each request."""
    usable = {challenge.scheme: challenge for challenge in challenges}
    bearer = usable.get("bearer")
    return bearer if bearer and bearer.get("realm") else usable.get("basic")
