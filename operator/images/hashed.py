"""Pieces of something, and the digest of what has passed by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from kip.images.errors import WrongContent


class Hashed:
    """Hands the pieces on, and knows their digest so far."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._hash = hashlib.sha256()
        self.bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece = next(self._pieces)
        self._hash.update(piece)
        self.bytes += len(piece)
        return piece

    def drain(self) -> None:
        """Lets the rest pass by."""
        for _ in self:
            pass

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def check(what: str, found: str, expected: str) -> None:
    """Raises WrongContent if a digest is not the expected one."""
    if found != expected:
        raise WrongContent(f"{what} is {found}; expected {expected}")
