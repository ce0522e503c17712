"""The cell API's hooks: log lines for people, counters for Prometheus."""

from __future__ import annotations

from kip.cellapi.hooks import LogHooks
from kip.observe.metrics import Metrics


class CountingHooks(LogHooks):
    """As LogHooks, and counts every answer."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics.cellapi

    def answered(self, rule: str, verdict: str, code: int, seconds: float) -> None:
        self._metrics.answered(rule, verdict, code, seconds)
