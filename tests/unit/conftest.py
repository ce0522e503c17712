"""What tests of several packages ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.doubles.registry import PATIENCE, LocalRegistry, local_registry

from kip.model.clock import SystemClock
from kip.oci.client import Registries, open_registries


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[LocalRegistry]:
    """The local world's registry, really listening."""
    async with local_registry(tmp_path / "registry") as registry:
        yield registry


@pytest.fixture
async def registries(registry: LocalRegistry) -> AsyncIterator[Registries]:
    """A client that asks that registry for all others."""
    async with open_registries(SystemClock(), mirrors={"*": [registry.url]}, patience=PATIENCE) as client:
        yield client
