"""Request targets, taken apart before anything is decoded, and the patterns that rules match them with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from kip.cellapi.problem import bad_request

# The longest path a kubelet asks for has a namespace (63), a name (253) and some 60 characters around them.
_MAX_PATH = 512
# Field selectors are the longest parameters: a key and one object's name.
_MAX_QUERY = 2048
_MAX_PARAMETERS = 16
# What names of Kubernetes objects are made of, and a colon for names such as system:node. No percent sign: no name
# needs one, so an encoded character can only be an attempt to have a path read in two ways.
_SEGMENT = re.compile(r"[A-Za-z0-9._:-]{1,253}", re.ASCII)
# A kubelet takes us for an HTTP proxy in front of its API server (see Token), so it names that in each request.
_AS_PROXY = "http://127.0.0.1:6443"
_PLACEHOLDER = re.compile(r"\{([a-z]+)\}")


@dataclass(frozen=True, slots=True)
class Target:
    """A request target in its one canonical form: `path` is exactly its segments joined."""

    path: str
    segments: tuple[str, ...]
    query: Mapping[str, str]


def parse(raw: str) -> Target:
    """Take a request target apart; raises Problem (400) unless it is canonical.

    `raw` is what stood in the request line. Refused are relative, empty, over-long and dot segments, percent
    encoding in the path, fragments, parameters given twice and control characters.
    """
    path, _, query = raw.removeprefix(_AS_PROXY).partition("?")
    if len(path) > _MAX_PATH or len(query) > _MAX_QUERY:
        raise bad_request(f"the path may have {_MAX_PATH} characters and the query {_MAX_QUERY}")
    segments = tuple(path.split("/")[1:])
    if not path.startswith("/") or not all(map(_is_canonical, segments)):
        raise bad_request("the path must consist of plain names: nothing empty, encoded or relative")
    return Target(path, segments, _parse_query(query))


def _is_canonical(segment: str) -> bool:
    return segment not in (".", "..") and _SEGMENT.fullmatch(segment) is not None


def _parse_query(query: str) -> dict[str, str]:
    if not query:
        return {}
    try:
        pairs = parse_qsl(
            query,
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=_MAX_PARAMETERS,
        )
    except ValueError as error:
        raise bad_request("the query cannot be read") from error
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise bad_request("a query parameter is given twice")
    if not all(text.isprintable() for pair in pairs for text in pair):
        raise bad_request("a query parameter has a control character")
    return parameters


class Pattern:
    """A path with placeholders, such as `/api/v1/namespaces/{namespace}/secrets/{name}`.

    A placeholder stands for exactly one segment, whatever it is: whether it may be that is for a check to say.
    """

    __slots__ = ("_expected", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._expected = tuple(_placeholder(part) for part in text.split("/")[1:])

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"

    def match(self, segments: tuple[str, ...]) -> dict[str, str] | None:
        """What the placeholders stand for, or None if the path is another one."""
        if len(segments) != len(self._expected):
            return None
        found: dict[str, str] = {}
        for (name, literal), segment in zip(self._expected, segments, strict=True):
            if name is not None:
                found[name] = segment
            elif literal != segment:
                return None
        return found


def _placeholder(part: str) -> tuple[str | None, str]:
    match = _PLACEHOLDER.fullmatch(part)
    return (match[1], "") if match else (None, part)


def resource_of(target: Target) -> str:
    """The kind of thing that a path is about, without names: what refusals are counted and logged by."""
    segments = target.segments
    if segments[:2] == ("api", "v1"):
        rest = segments[2:]
    elif segments[:1] == ("apis",) and len(segments) > 3:
        rest = segments[3:]
    else:
        return f"/{segments[0]}"
    if rest[:1] == ("namespaces",) and len(rest) > 2:
        rest = rest[2:]
    return "/".join(rest[::2][:2]) or "discovery"
