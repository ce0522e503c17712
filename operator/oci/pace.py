"""How fast an answer has to come: a server that sends a byte now and then must not keep somebody waiting for ever."""

from __future__ import annotations

from dataclasses import dataclass

from kip.model.quantity import human_bytes


@dataclass(frozen=True, slots=True)
class Least:
    """What has to come in any such time of waiting. 17 kB/s are a seventh of a line of 1 Mbit/s."""

    bytes: int = 512 << 10
    within_s: float = 30.0

    def __str__(self) -> str:
        return f"{human_bytes(self.bytes)} in {self.within_s:g} s"


class Pace:
    """Of one answer. Only waiting counts: the time that its reader takes in between is not the server's fault."""

    def __init__(self, least: Least) -> None:
        self._least = least
        self._bytes = 0
        self._waited_s = 0.0

    def too_slow(self, come_bytes: int, waited_s: float) -> str:
        """Why no more should be waited for, now that so many bytes have come for which so long was waited; empty if it may
        go on."""
        self._bytes += come_bytes
        self._waited_s += waited_s
        if self._waited_s < self._least.within_s:
            return ""
        come, waited = self._bytes, self._waited_s
        self._bytes, self._waited_s = 0, 0.0
        if come >= self._least.bytes:
            return ""
        return f"{human_bytes(come)} bytes came in {waited:.0f} s; expected at least {self._least}"
