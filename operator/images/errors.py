"""Why an image is not cached, by what is to be done about it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager


class CachingError(Exception):
    """An image, or a layer of it, was not cached; the message says why. Nothing half-made is left."""


class LayerRefused(CachingError):
    """The layer cannot be kept so that containers see what they would see after a pull. The pods pull it as ever."""


class WrongContent(CachingError):
    """The source sent something else than the digest says, or less. Try again, or look at what is between."""


class ToolMissing(CachingError):
    """A program is missing on this host; the message says which package has it."""


class ToolFailed(CachingError):
    """A program failed at what it should be able to do; the message has its last words. Worth a bug report."""


class VolumeFull(CachingError):
    """The volume has no space left: make it larger, or let the cache be smaller."""


class VolumeUnavailable(CachingError):
    """The volume cannot be used: not mounted, read-only, not ours to write, or its server is away."""


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Makes an OSError within it a VolumeFull or VolumeUnavailable that begins with `what`."""
    try:
        yield
    except OSError as error:
        kind = VolumeFull if error.errno in _FULL else VolumeUnavailable
        raise kind(f"{what}: {error.strerror or error}") from error
