"""Errors of the Kubernetes API, named by what a caller does about them."""

from __future__ import annotations

from typing import Any

import msgspec


class KubeError(Exception):
    """Anything that kept a request to the API server from succeeding."""


class Unavailable(KubeError):
    """The API server could not be reached, or answered that it cannot serve now: try again later."""


class ApiError(KubeError):
    """The API server refused the request."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{message} ({status} {reason})" if reason else f"{message} ({status})")
        self.status = status
        self.reason = reason
        self.message = message


class NotFound(ApiError):
    """The object is not there (404)."""


class Conflict(ApiError):
    """Somebody else was faster: already there, or changed since it was read (409, 422 of a failed `test`)."""


class Forbidden(ApiError):
    """RBAC or admission says no (401, 403): trying again is pointless until a person changes it."""


class Gone(ApiError):
    """The resourceVersion is too old (410): list again."""


_BY_STATUS = {401: Forbidden, 403: Forbidden, 404: NotFound, 409: Conflict, 410: Gone}


def from_reply(status: int, body: bytes) -> KubeError:
    """The error for a reply of 400 and above."""
    detail: dict[str, Any] = {}
    try:
        decoded = msgspec.json.decode(body)
        detail = decoded if isinstance(decoded, dict) else {}
    except msgspec.DecodeError:
        pass
    message = detail.get("message") or body[:200].decode(errors="replace") or "no message"
    if status in (429, 500, 502, 503, 504):
        return Unavailable(f"the API server answered {status}: {message}")
    kind = Conflict if _is_for_another(detail) else _BY_STATUS.get(status, ApiError)
    return kind(status, detail.get("reason", ""), message)


def _is_for_another(detail: dict[str, Any]) -> bool:
    """A patch that names a UID meets a successor of the same name: 422 in place of the 409 that a deletion gets."""
    causes = (detail.get("details") or {}).get("causes") or ()
    return any(cause.get("field") == "metadata.uid" for cause in causes)
