"""A world in memory for the tests of cells."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "doubles"))

from cellworld.world import World, world_over

from kip.kube.fake import FakeApi
from kip.model.clock import ManualClock


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """No process runs in it yet."""
    clock = ManualClock()
    async with world_over(FakeApi(clock=clock), clock, node="kip-provider-0", namespace="shop") as made:
        yield made
