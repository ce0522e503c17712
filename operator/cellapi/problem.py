"""Refusals, as the Kubernetes `Status` objects that a kubelet understands."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any


class Problem(Exception):
    """A request that gets an error for an answer.

    `reason` is one of apimachinery's `metav1.StatusReason`: clients decide by it, and by the code, what to do.
    With `retry_after_s` a client repeats the request by itself (client-go up to ten times).
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        retry_after_s: int | None = None,
        cause: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s
        self.cause = cause

    def status(self) -> dict[str, Any]:
        """The object for the body of the answer, or for an ERROR event of a watch."""
        details: dict[str, Any] = {}
        if self.retry_after_s is not None:
            details["retryAfterSeconds"] = self.retry_after_s
        if self.cause is not None:
            details["causes"] = [{"reason": self.cause, "message": self.message}]
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
            **({"details": details} if details else {}),
        }


def bad_request(message: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "BadRequest", message)


def unauthorized() -> Problem:
    return Problem(HTTPStatus.UNAUTHORIZED, "Unauthorized", "the bearer token is missing or not this cell's")


def forbidden(message: str) -> Problem:
    return Problem(HTTPStatus.FORBIDDEN, "Forbidden", message)


def not_found(message: str) -> Problem:
    return Problem(HTTPStatus.NOT_FOUND, "NotFound", message)


def already_exists(message: str) -> Problem:
    return Problem(HTTPStatus.CONFLICT, "AlreadyExists", message)


def conflict(message: str) -> Problem:
    return Problem(HTTPStatus.CONFLICT, "Conflict", message)


def expired(message: str) -> Problem:
    """410: a reflector lists again."""
    return Problem(HTTPStatus.GONE, "Expired", message)


def invalid(message: str) -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid", message)


def unsupported_media_type(message: str) -> Problem:
    return Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)


def too_large(message: str) -> Problem:
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "RequestEntityTooLarge", message)


def too_slow(message: str) -> Problem:
    return Problem(HTTPStatus.REQUEST_TIMEOUT, "Timeout", message)


def too_many(message: str) -> Problem:
    return Problem(HTTPStatus.TOO_MANY_REQUESTS, "TooManyRequests", message, retry_after_s=1)


def unavailable(message: str) -> Problem:
    """503: what would be answered is not known now. Never replaced by an empty list or a 404."""
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "ServiceUnavailable", message, retry_after_s=1)


def version_too_large(message: str) -> Problem:
    """504 as the API server says it: a reflector lists again, from any resourceVersion."""
    return Problem(
        HTTPStatus.GATEWAY_TIMEOUT, "Timeout", message, retry_after_s=1, cause="ResourceVersionTooLarge"
    )


def internal(message: str) -> Problem:
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "InternalError", message)
