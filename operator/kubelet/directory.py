"""Which cell serves which pod, as the kubelet API needs to know it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One pod's cell and the way to its kubelet."""

    cell: str
    namespace: str
    pod: str
    pod_uid: str
    kubelet_socket: Path | None
    """A unix socket that leads to the cell's 127.0.0.1:10250; None while there is no tunnel."""
    address: str
    """The instance's address, for messages only; empty before there is one."""


class CellDirectory(Protocol):
    """Answers from memory: it is asked on every request."""

    def find(self, namespace: str, pod: str, uid: str | None = None) -> Endpoint | None:
        """The endpoint of this pod of the virtual node, or None; with `uid`, only of exactly that pod."""
        ...

    def why_silent(self, namespace: str, pod: str, uid: str | None = None) -> str | None:
        """Why nothing of this pod answers although nothing is wrong, in words to follow `pod "…" `.

        It waits for its machine, or has ended. None for a pod whose containers should answer, and for none of ours.
        """
        ...

    def all(self) -> Iterable[Endpoint]:
        """Every pod that has a cell, connected or not."""
        ...
