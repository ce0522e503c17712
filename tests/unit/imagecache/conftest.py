"""A volume, and what makes images come onto it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from kip.imagecache.fetch import Fetcher
from kip.images.pull import ImageCache
from kip.images.volume import Volume
from kip.model.clock import ManualClock, SystemClock
from kip.oci.client import Registries

CHECK_AFTER_S = 900.0


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
