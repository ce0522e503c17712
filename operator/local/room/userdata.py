"""Understanding user data: what cloud-config, scripts and MIME messages ask a machine to do.

Runs inside machines too (see `cloudinit`): the standard library and PyYAML only. Where user data could trip over
cloud-init on a real instance, cloud-init is followed to the letter: a later part's key replaces an earlier part's
unless it asks to be merged, and what is not understood is told and passed over.
"""

from __future__ import annotations

import base64
import gzip
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

# First bytes of a part to its type, in the order in which cloud-init looks (cloudinit/handlers/__init__.py).
_TYPES_BY_START = {
    b"#!": "text/x-shellscript",
    b"#cloud-config": "text/cloud-config",
    b"#cloud-boothook": "text/cloud-boothook",
    b"#include": "text/x-include-url",
    b"## template: jinja": "text/jinja2",
}
_SELF_DESCRIBING = frozenset({"text/plain", "text/x-not-multipart", "application/octet-stream"})
_PLAYED = frozenset(
    {"bootcmd", "write_files", "runcmd", "ssh_keys", "ssh_authorized_keys", "ssh_deletekeys"}
    | {"ssh_genkeytypes", "disable_root", "merge_how", "merge_type"}
)


@dataclass(frozen=True)
class Script:
    """A part that is a program, with the file name that decides its turn."""

    name: str
    body: bytes


@dataclass
class Instructions:
    """What user data asks for, and what of it could not be understood."""

    config: dict[str, Any] = field(default_factory=dict)
    boothooks: list[Script] = field(default_factory=list)
    scripts: list[Script] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read(user_data: bytes) -> Instructions:
    """Understands user data in any of its forms: cloud-config, script, MIME multipart; each also gzipped."""
    found = Instructions()
    for number, (kind, name, body) in enumerate(_parts(_unzipped(user_data)), start=1):
        script = Script(name or f"part-{number:03}", body)
        if kind == "text/cloud-config":
            _add_config(found, script)
        elif kind == "text/x-shellscript":
            found.scripts.append(script)
        elif kind == "text/cloud-boothook":
            found.boothooks.append(script)
        elif body.strip():
            start = body[:24].decode("utf-8", "replace")
            found.problems.append(f"{script.name}: user data of type {kind} is not handled: {start!r}…")
    found.problems += [
        f"cloud-config key {key!r} is not played by the machine room"
        for key in found.config
        if key not in _PLAYED
    ]
    return found


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """A later part's settings over the earlier ones', as its `merge_how` asks.

    cloud-init's default is that a later key replaces; `list(append)` joins lists, and `dict(no_replace)` keeps
    what is there of everything else.
    """
    how = new.get("merge_how", new.get("merge_type", ""))
    append, keep = _asks(how, "list", "append"), _asks(how, "dict", "no_replace")
    result = dict(old)
    for key, value in new.items():
        if append and isinstance(value, list) and isinstance(old.get(key), list):
            result[key] = [*old[key], *value]
        elif not (keep and key in old):
            result[key] = value
    return result


def _asks(how: Any, merger: str, setting: str) -> bool:
    """Whether merge_how, in either of its two notations, gives that setting to that merger."""
    if isinstance(how, str):
        return any(
            part.strip().startswith(f"{merger}(")
            and setting in part.partition("(")[2].rstrip(") ").split(",")
            for part in how.split("+")
        )
    entries = how if isinstance(how, list) else []
    return any(entry.get("name") == merger and setting in entry.get("settings", ()) for entry in entries)


def content_of(entry: Mapping[str, Any]) -> bytes:
    """The bytes of a write_files entry, decoded. Raises ValueError for content that is not what it says."""
    raw = entry.get("content", "")
    data = raw if isinstance(raw, bytes) else str(raw).encode()
    encoding = str(entry.get("encoding", "")).lower().strip()
    if encoding in {"b64", "base64", "gz+b64", "gz+base64", "gzip+b64", "gzip+base64"}:
        data = base64.b64decode(data)
    if encoding.startswith("gz"):
        data = gzip.decompress(data)
    return data


def shell_script(commands: Iterable[Any]) -> str:
    """One script of bootcmd's or runcmd's entries: text is shell, a list is one quoted command."""
    lines = ["#!/bin/sh"]
    for command in commands:
        if isinstance(command, list):
            lines.append(shlex.join(str(word) for word in command))
        elif command is not None:
            lines.append(str(command))
    return "\n".join(lines) + "\n"


def _unzipped(data: bytes) -> bytes:
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def _parts(data: bytes) -> list[tuple[str, str | None, bytes]]:
    head = data[:4096].lower()
    if not head.startswith((b"mime-version:", b"content-type:")):
        return [(_type_of(data), None, data)]
    import email  # noqa: PLC0415 - 40 ms that plain cloud-config need not pay

    found = []
    for part in email.message_from_bytes(data).walk():
        if part.is_multipart():
            continue
        payload = part.get_payload(decode=True)
        body = _unzipped(payload if isinstance(payload, bytes) else b"")
        declared = part.get_content_type()
        found.append(
            (_type_of(body) if declared in _SELF_DESCRIBING else declared, part.get_filename(), body)
        )
    return found


def _type_of(body: bytes) -> str:
    start = body.lstrip()
    return next(
        (kind for mark, kind in _TYPES_BY_START.items() if start.startswith(mark)), "text/x-not-multipart"
    )


def _add_config(found: Instructions, part: Script) -> None:
    try:
        config = yaml.safe_load(part.body)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        found.problems.append(f"{part.name}: cloud-config is no YAML: {error}")
        return
    if config is None:
        return
    if not isinstance(config, dict):
        found.problems.append(f"{part.name}: cloud-config is a {type(config).__name__}, not a mapping")
        return
    found.config = merged(found.config, config)
