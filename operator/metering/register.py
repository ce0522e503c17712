"""Telling AWS Marketplace that this pod runs the product, once, as soon as AWS answers."""

from __future__ import annotations

import structlog

from kip.cloud.base import Marketplace
from kip.cloud.errors import CloudError, Throttled, Unreachable
from kip.model.backoff import Backoff
from kip.model.clock import Clock

log = structlog.get_logger(__name__)

# AWS wants to hear of it within six hours of the pod's start.
_PASSING = Backoff(first_s=5.0, limit_s=600.0)
# A person has to subscribe, or to change a policy or the configuration.
_REFUSED_S = 3600.0


async def register(market: Marketplace, clock: Clock, *, product_code: str, public_key_version: int) -> None:
    """Returns when AWS has heard of it. Raises nothing of AWS's: cells that run, and pods, do not depend on it."""
    failures = 0
    while True:
        try:
            await market.register(product_code, public_key_version)
        except CloudError as error:
            passing = isinstance(error, (Throttled, Unreachable))
            delay_s = _PASSING.delay_s(failures) if passing else _REFUSED_S
            failures += 1
            log.warning("not registered with AWS Marketplace", error=str(error), retry_s=delay_s)
            await clock.sleep(delay_s)
        else:
            log.info("registered with AWS Marketplace", product=product_code)
            return
