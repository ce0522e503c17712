"""A registry that listens, a volume, and what makes images of the one come onto the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.doubles.registry import PATIENCE, LocalRegistry, local_registry

from kip.imagecache.fetch import Fetcher
from kip.images.pull import ImageCache
from kip.images.volume import Volume
from kip.model.clock import ManualClock, SystemClock
from kip.oci.client import Registries, open_registries

CHECK_AFTER_S = 900.0


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[LocalRegistry]:
    async with local_registry(tmp_path / "registry") as registry:
        yield registry


@pytest.fixture
async def registries(registry: LocalRegistry) -> AsyncIterator[Registries]:
    async with open_registries(SystemClock(), mirrors={"*": [registry.url]}, patience=PATIENCE) as client:
        yield client


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    directory = tmp_path / "volume"
    directory.mkdir()
    return Volume(directory, SystemClock())


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(SystemClock().now())


@pytest.fixture
def fetcher(volume: Volume, registries: Registries, clock: ManualClock) -> Fetcher:
    cache = ImageCache(volume, clock=clock, creator="a test", slots=asyncio.Semaphore(2))
    return Fetcher(volume, cache, registries, clock, check_after=timedelta(seconds=CHECK_AFTER_S))
