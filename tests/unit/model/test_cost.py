"""What instances have cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kip.model.cost import cost_usd

LAUNCHED = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "usd"), [(-5, 0.06), (0, 0.06), (59, 0.06), (60, 0.06), (61, 0.061), (3600, 3.6)]
)
def test_by_the_second_and_a_minute_at_least(seconds: float, usd: float) -> None:
    assert cost_usd(3.6, LAUNCHED, LAUNCHED + timedelta(seconds=seconds)) == pytest.approx(usd)
