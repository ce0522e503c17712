"""The real images' programs, compiled once into the cache that the local world uses too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kip.local import build
from kip.local.images import PROGRAMS
from kip.local.progress import Silent


@pytest.fixture(scope="session")
def programs() -> Iterator[Path]:
    return build.ensure(PROGRAMS, Silent())
