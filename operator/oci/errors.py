"""What can go wrong between us and a registry, named by what to do about it."""

from __future__ import annotations

from typing import ClassVar


class RegistryError(Exception):
    """The registry did not do as it was asked; the text says which one, what was asked, and why."""

    reason: ClassVar[str] = "RegistryError"
    """CamelCase, fit for an event's reason."""


class NotFound(RegistryError):
    """There is no such image: correct its name, or push it. Docker Hub says `Denied` for what it does not have."""

    reason = "ImageNotFound"


class Denied(RegistryError):
    """None of the credentials may pull it: give the pod an imagePullSecret that may."""

    reason = "ImageDenied"


class TooMany(RegistryError):
    """The registry wants fewer requests, or none from somebody without a login: wait, log in, or use a mirror."""

    reason = "RegistryThrottles"

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        """`retry_after_s` is what the registry asked for, if it did."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unreachable(RegistryError):
    """No usable answer: try again later; if it lasts, look at the network, the DNS and the registry."""

    reason = "RegistryUnreachable"


class TooSlow(Unreachable):
    """It answers, but hardly anything comes: try again later, or use a mirror."""

    reason = "RegistryTooSlow"


class NotAnImage(RegistryError):
    """What is there is no image for such a machine: an artifact, an old format, or one for other platforms."""

    reason = "NotAnImage"


class Damaged(RegistryError):
    """What came is not what its digest says: something on the way, or the registry's disk, changes bytes."""

    reason = "ImageDamaged"
