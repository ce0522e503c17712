"""Takes out of a log line what must not be in it, whoever put it there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from structlog.typing import EventDict

REDACTED = "(redacted)"

_SECRET_KEY = re.compile(
    r"(secret|password|passwd|private_?key|access_?key|authorization|credentials?|user_?data|token)$",
    re.IGNORECASE,
)
# EC2's client token makes a launch repeatable; it opens nothing, and finding a launch by it is what logs are for.
_HARMLESS = frozenset({"client_token", "clientToken"})

_SECRET_TEXT = re.compile(
    r"-----BEGIN (?:[A-Z ]+ )?PRIVATE KEY-----.*?(?:-----END (?:[A-Z ]+ )?PRIVATE KEY-----|\Z)"
    r"|(?<=Bearer )[\w.~+/-]+=*"
    r"|\beyJ[\w-]+\.[\w-]+\.[\w-]+"  # a JSON web token, as service accounts have
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    re.DOTALL,
)


def redact(_logger: object, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: values under secret names, and what looks like a secret in any text."""
    return {key: _clean(key, value) for key, value in event.items()}


def _clean(key: str, value: Any) -> Any:
    if key not in _HARMLESS and _SECRET_KEY.search(key):
        return REDACTED
    if isinstance(value, str):
        return _SECRET_TEXT.sub(REDACTED, value)
    if isinstance(value, (bytes, bytearray)):
        return f"({len(value)} bytes)"
    if isinstance(value, Mapping):
        return {name: _clean(str(name), entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_clean("", entry) for entry in value]
    if isinstance(value, (int, float, type(None))):
        return value
    return _SECRET_TEXT.sub(REDACTED, str(value))
