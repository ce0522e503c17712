"""The kinds of values in provider.yaml: what is accepted, what it becomes, what was expected if it is wrong.

An error carries only the expectation; the value, its path and its line are added by `kip.config.problems`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from kip.model import quantity
from kip.model.annotations import UnknownAnnotationError
from kip.model.annotations import read as read_annotation

#: `type` of the pydantic errors raised here; `ctx["expected"]` says what was expected.
EXPECTATION = "expectation"

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?", re.ASCII)
_LABEL_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", re.ASCII)
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*", re.ASCII)


def wrong(expected: str) -> PydanticCustomError:
    """The error of a value that is not `expected`."""
    return PydanticCustomError(EXPECTATION, "expected {expected}", {"expected": expected})


class Duration(BeforeValidator):
    """Marks a field that is in seconds."""


class Size(BeforeValidator):
    """Marks a field that is in bytes."""


def parsed(
    parse: Callable[[Any], Any], expected: str, kind: type[BeforeValidator] = BeforeValidator
) -> BeforeValidator:
    """What `parse` makes of the value; its ValueError or TypeError means that it is not `expected`."""

    def check(value: Any) -> Any:
        try:
            return parse(value)
        except (ValueError, TypeError):
            raise wrong(expected) from None

    return kind(check)


def matching(pattern: str | re.Pattern[str], expected: str) -> BeforeValidator:
    """Text that matches all of `pattern`."""
    compiled = re.compile(pattern)

    def check(value: Any) -> str:
        if not compiled.fullmatch(value):
            raise ValueError
        return str(value)

    return parsed(check, expected)


def duration(*, at_least: str) -> BeforeValidator:
    """Seconds from `90s`, `5m`, `1h30m`."""
    minimum = parse_seconds(at_least)

    def check(value: Any) -> float:
        seconds = parse_seconds(value)
        if seconds < minimum:
            raise ValueError
        return seconds

    return parsed(check, f"a duration like 90s, 5m or 1h30m, at least {at_least}", Duration)


def size(*, at_least: str) -> BeforeValidator:
    """Bytes from a quantity like `5Gi`."""
    minimum = quantity.whole(at_least)

    def check(value: Any) -> int:
        amount = quantity.whole(value)
        if amount < minimum:
            raise ValueError
        return amount

    return parsed(check, f"a size like 512Mi or 5Gi, at least {at_least}", Size)


def whole_number(*, at_least: int) -> BeforeValidator:
    """An integer, not the text of one."""

    def check(value: Any) -> int:
        if type(value) is not int or value < at_least:
            raise ValueError
        return value

    return parsed(check, f"a whole number, at least {at_least}")


def words(value: Any) -> tuple[str, ...]:
    """A list of words, or text with spaces between them, as the first Kip wrote lists. Raises ValueError."""
    parts = value.split() if isinstance(value, str) else value
    # An account number without quotes is a number to YAML.
    parts = [parts] if type(parts) is int else parts
    if not isinstance(parts, list) or not all(isinstance(part, str) or type(part) is int for part in parts):
        raise ValueError(value)
    return tuple(str(part) for part in parts)


def one_or_many(value: Any) -> Any:
    """A list stays; anything else becomes the only entry of one."""
    return value if isinstance(value, (list, tuple)) else [value]


def parse_seconds(value: Any) -> float:
    match = _DURATION.fullmatch(value)
    if not match or not value:
        raise ValueError(value)
    hours, minutes, seconds, milliseconds = (int(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


def format_seconds(seconds: float) -> str:
    """Seconds as a duration: `5m`, `90s`, `1h30m`, `1500ms`."""
    rest = round(seconds * 1000)
    text = ""
    for unit, milliseconds in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, rest = divmod(rest, milliseconds)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def _amount(value: Any) -> str:
    if quantity.parse(value) < 0:
        raise ValueError(value)
    return str(value)


def _cidr(value: Any) -> str:
    if not isinstance(value, str) or "/" not in value:
        raise ValueError(value)
    return str(ip_network(value))


def _address(value: Any) -> str:
    if not isinstance(value, str):  # a number is an address to ip_address()
        raise TypeError(value)
    return str(ip_address(value))


def _url(value: Any) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(value)
    return str(value).rstrip("/")


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(value)
    return value


def _port(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= 65535:
        raise ValueError(value)
    return value


def _labels(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise wrong("labels, like {team: shop}")
    for key, label in value.items():
        prefix, slash, name = str(key).rpartition("/")
        if not _LABEL_NAME.fullmatch(name) or (slash and not _SUBDOMAIN.fullmatch(prefix)):
            raise wrong(f"label keys that Kubernetes allows ({key} is none)")
        if not isinstance(label, str) or (label and not _LABEL_NAME.fullmatch(label)):
            raise wrong(f"label values that Kubernetes allows, numbers and booleans in quotes (see {key})")
    return dict(value)


def _annotations(value: Any) -> dict[str, str]:
    """Kip's annotations with what they would be on a pod; YAML's numbers and booleans are as good as text."""
    if not isinstance(value, Mapping):
        raise wrong("annotations, like {pod.elotl.co/launch-type: spot}")
    found: dict[str, str] = {}
    for key, given in value.items():
        text = str(given).lower() if isinstance(given, bool) else str(given)
        if isinstance(given, (list, Mapping)) or given is None:
            raise wrong(f"text as the value of {key}")
        try:
            read_annotation(key, text)
        except UnknownAnnotationError as error:
            raise wrong(f"annotations that pods can have; {key} is none, {error}") from None
        except ValueError as error:
            raise wrong(f"values that pods can have; {key}: {text!r} is not allowed: {error}") from None
        found[key] = text
    return found


Amount = Annotated[str, parsed(_amount, "a quantity like 20, 500m or 100Gi")]
Cidr = Annotated[
    str, parsed(_cidr, "an address range like 10.0.0.0/16, its address the first one of the range")
]
Address = Annotated[str, parsed(_address, "an IP address like 10.0.0.10")]
Url = Annotated[str, parsed(_url, "a URL like https://ec2.example.com")]
Flag = Annotated[bool, parsed(_flag, "true or false")]
Port = Annotated[int, parsed(_port, "a port, 1 to 65535")]
Labels = Annotated[Mapping[str, str], BeforeValidator(_labels)]
Annotations = Annotated[Mapping[str, str], BeforeValidator(_annotations)]
Words = Annotated[tuple[str, ...], parsed(words, "words in a list, or in one text with spaces between them")]
DnsLabel = matching(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", "lowercase letters, digits and dashes, at most 63")
DnsName = matching(_SUBDOMAIN, "a DNS name like cluster.local")
