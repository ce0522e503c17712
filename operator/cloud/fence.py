"""Machines are started and ended only by the process that holds their node."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from kip.cloud.base import ALL_STATES, Compute, Instance, InstanceState, LaunchRequest
from kip.cloud.errors import Unreachable


class FencedCompute:
    """Another `Compute`, whose effects stop the moment the node may be somebody else's."""

    def __init__(self, compute: Compute, may_write: Callable[[], bool]) -> None:
        """`may_write` is false once the node's Lease may be held by another process."""
        self._compute = compute
        self._may_write = may_write

    async def launch(self, request: LaunchRequest) -> tuple[Instance, ...]:
        """As Compute.launch; Unreachable when it is not ours to call: the intent stays for whoever holds the node."""
        self._check("RunInstances")
        return await self._compute.launch(request)

    async def describe(
        self, *, tags: Mapping[str, str], states: Collection[InstanceState] = ALL_STATES
    ) -> list[Instance]:
        return await self._compute.describe(tags=tags, states=states)

    async def describe_ids(self, ids: Collection[str]) -> list[Instance]:
        return await self._compute.describe_ids(ids)

    async def terminate(self, ids: Collection[str]) -> None:
        """As Compute.terminate; Unreachable when it is not ours to call."""
        self._check("TerminateInstances")
        await self._compute.terminate(ids)

    def _check(self, action: str) -> None:
        if not self._may_write():
            raise Unreachable("not sent: this process does not hold the node's Lease now", action=action)
