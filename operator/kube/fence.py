"""Writes that stop the moment the node may be somebody else's.

Who may write is asked at every single request, not once for a piece of work: between the two, a process may have been
paused for a minute.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Unpack

from kip.kube.client import ApiClient, Reply, RequestOptions
from kip.kube.errors import Unavailable
from kip.kube.slots import Slots

_READS = frozenset(("GET", "HEAD"))
# A thousand pods at once must not become a thousand connections. The API server's priority level for service accounts has
# some hundred seats for all of them together (kube-controller-manager limits itself to far fewer). One on two processors
# does no more with a hundred at a time, but answers each so late that some time out, the Lease among them.
_WRITES_AT_ONCE = 32
# Of what has time (kip.kube.slots.patiently), while there is other work: one that is always under way is late, not lost.
_PATIENT_AT_ONCE = 1


class FencedClient(ApiClient):
    """Another client's connections, for those who act in the name of a virtual node."""

    def __init__(self, client: ApiClient, may_write: Callable[[], bool]) -> None:
        """`may_write` is false once the node's Lease may be held by another process."""
        super().__init__(client.configuration, client.session)
        self._may_write = may_write
        self._slots = Slots(_WRITES_AT_ONCE, few=_PATIENT_AT_ONCE)

    async def request(self, method: str, path: str, **options: Unpack[RequestOptions]) -> Reply:
        """As ApiClient.request; raises Unavailable for a write that is not ours to make any more."""
        send = functools.partial(super().request, method, path, **options)
        if method in _READS:
            return await send()
        async with self._slots.one():
            if not self._may_write():
                raise Unavailable(
                    f"{method} {path} is not sent: this process does not hold the node's Lease now"
                )
            return await send()

    async def close(self) -> None:
        """Nothing: the connections belong to the client that was fenced."""
