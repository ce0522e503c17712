"""What is told of requests when nobody asks for more: structured log lines."""

from __future__ import annotations

import structlog

from kip.cellapi.identity import CellIdentity

log = structlog.get_logger(__name__)


class LogHooks:
    """Logs refusals and faults; answers are only counted by hooks that have counters."""

    def answered(self, rule: str, verdict: str, code: int, seconds: float) -> None:
        pass

    def refused(self, cell: CellIdentity, method: str, resource: str, reason: str) -> None:
        log.warning(
            "cell asked for what is not its own",
            cell=cell.cell_name,
            pod=cell.pod,
            method=method,
            resource=resource,
            reason=reason,
        )

    def failed(self, cell: CellIdentity, method: str, resource: str, error: BaseException) -> None:
        log.error(
            "request of a cell failed",
            cell=cell.cell_name,
            pod=cell.pod,
            method=method,
            resource=resource,
            exc_info=error,
        )

    def pull_failed(self, cell: CellIdentity, trouble: str) -> None:
        log.warning("no login for a pull that failed", cell=cell.cell_name, pod=cell.pod, error=trouble)
