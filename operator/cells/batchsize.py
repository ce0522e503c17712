"""For how many cells one RunInstances call may be: fewer after EC2 has refused a batch as a whole, more as it grants."""

from __future__ import annotations

from collections.abc import Hashable

import structlog

from kip.cells.refusal import NOT_TOGETHER, smaller_helps
from kip.cells.spec import LaunchSpec
from kip.cloud.errors import CloudError, QuotaExceeded, SubnetFull, Throttled
from kip.model.cell import Intent

log = structlog.get_logger(__name__)

#: "To ensure faster instance launches, break up large requests into smaller batches. For example, create five separate
#: launch requests for 100 instances each instead of one launch request for 500 instances" (RunInstances, API reference).
#: A thousand pods are ten calls: five at once, two a second after that.
MOST = 100
# Tokens whose calls were throttled; a cell that was busy meanwhile asks within seconds.
_REMEMBERED = 1000


class BatchSizes:
    """What EC2's answers have taught about sizes.

    Only memory: a process that begins anew may ask for too many once more.
    """

    def __init__(self, most: int = MOST) -> None:
        self._allowed = most
        self._most = most
        self._sizes: dict[Hashable, int] = {}
        self._throttled: dict[str, int] = {}

    def of(self, spec: LaunchSpec) -> int:
        """The most of these that may be asked for by one call."""
        return min([self._most, *(self._sizes[key] for key in _counted(spec) if key in self._sizes)])

    def cautious(self, spec: LaunchSpec) -> bool:
        """True while less is asked for than could be: then one call at a time shows how much there is."""
        return self.of(spec) < self._most

    def throttled(self, client_token: str) -> int:
        """How often in a row the call with this token was throttled."""
        return self._throttled.get(client_token, 0)

    def granted(self, intent: Intent, spec: LaunchSpec) -> None:
        """EC2 has given what was asked for: ask for twice as many next time."""
        self._throttled.pop(intent.client_token, None)
        for key in _counted(spec):
            if key in self._sizes and (twice := self._sizes[key] * 2) < self._most:
                self._sizes[key] = twice
            else:
                self._sizes.pop(key, None)

    def refused(self, error: CloudError, intent: Intent, spec: LaunchSpec) -> None:
        """What a refusal says about the size of later batches."""
        in_a_row = self._throttled.pop(intent.client_token, 0) + 1
        if isinstance(error, Throttled):
            self._throttled[intent.client_token] = in_a_row
            if len(self._throttled) > _REMEMBERED:
                del self._throttled[next(iter(self._throttled))]
        if error.code == NOT_TOGETHER:
            self._one_at_a_time(error, intent)
        elif smaller_helps(error, count=intent.count, throttled=in_a_row):
            key = _scarce(error, spec)
            # Batches that were under way side by side halve it once, not each.
            self._sizes[key] = max(1, min(self._sizes.get(key, self._most), intent.count // 2))

    def _one_at_a_time(self, error: CloudError, intent: Intent) -> None:
        """Older documents of EC2 forbid secondary addresses with more than one instance. If one alone is refused too, the
        number was not the reason."""
        self._most = 1 if intent.count > 1 else self._allowed
        log.warning("EC2 refuses this combination", count=intent.count, most=self._most, error=str(error))


def _counted(spec: LaunchSpec) -> tuple[Hashable, ...]:
    """What EC2 counts when it is asked for these: its token bucket, the market's quota, the subnet's addresses."""
    return "rate", ("quota", spec.market), ("addresses", spec.subnet_id)


def _scarce(error: CloudError, spec: LaunchSpec) -> Hashable:
    """Which of them there was too little of."""
    rate, quota, addresses = _counted(spec)
    if isinstance(error, SubnetFull):
        return addresses
    return quota if isinstance(error, QuotaExceeded) else rate
