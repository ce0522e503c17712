"""The cell API's hooks: log lines and events for people, counters for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from kip.cellapi.hooks import LogHooks
from kip.cellapi.identity import CellIdentity
from kip.observe.metrics import Metrics


class CountingHooks(LogHooks):
    """As LogHooks, and counts every answer."""

    def __init__(self, metrics: Metrics, pull_failed: Callable[[CellIdentity, str], None]) -> None:
        """`pull_failed` tells people."""
        self._metrics = metrics.cellapi
        self._pull_failed = pull_failed

    def answered(self, rule: str, verdict: str, code: int, seconds: float) -> None:
        self._metrics.answered(rule, verdict, code, seconds)

    def pull_failed(self, cell: CellIdentity, trouble: str) -> None:
        super().pull_failed(cell, trouble)
        self._pull_failed(cell, trouble)
