"""What the clients of all services have in common."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kip.cloud.errors import CloudError
from kip.cloud.sdk.border import border

Answer = dict[str, Any]
Observe = Callable[[str, str, str, float], None]
"""Hears of every call: the AWS action; `ok`, `cancelled` or the error's reason; AWS's error code, if any; seconds."""


def unobserved(action: str, result: str, code: str, seconds: float) -> None:
    """For calls that nobody counts."""


class ServiceClient:
    """One service's client, and who hears of its calls."""

    def __init__(self, client: Any, observe: Observe = unobserved) -> None:
        self._client = client
        self._observe = observe

    async def _call(self, action: str, call: Awaitable[Answer]) -> Answer:
        with self._observed(action), border(action):
            return await call

    @contextmanager
    def _observed(self, action: str) -> Iterator[None]:
        """Tell how the call ended and how long it took, its repetitions by botocore included."""
        # What is neither an answer nor an error was cut off: by a time-out around it, or by the end of the process.
        began, result, code = time.monotonic(), "cancelled", ""
        try:
            yield
            result = "ok"
        except CloudError as error:
            result, code = error.reason, error.code
            raise
        finally:
            self._observe(action, result, code, time.monotonic() - began)

    async def _paged(
        self, action: str, operation: str, key: str, page_size: int, **params: Any
    ) -> list[Answer]:
        """What all pages of an answer have below `key`."""
        pages = self._client.get_paginator(operation).paginate(
            **params, PaginationConfig={"PageSize": page_size}
        )
        with self._observed(action), border(action):
            return [item async for page in pages for item in page[key]]
