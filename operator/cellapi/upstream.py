"""Requests to the real API server on behalf of a cell."""

from __future__ import annotations

from collections.abc import Mapping

from kip.cellapi.ports import ApiClient
from kip.cellapi.problem import Problem, not_found, unavailable
from kip.kube.client import Impersonation, Reply
from kip.kube.errors import Unavailable

# Below the 30 s after which nothing on a cell is waiting for the answer any more.
_TIMEOUT_S = 25.0


class Upstream:
    """Asks as the virtual node, or as the operator itself.

    As the node (impersonation of `system:node:<name>` in `system:nodes`), the Node authorizer and NodeRestriction
    of the API server hold the operator to what that node's pods refer to: a second lock behind the rules here.
    Where impersonation is not to be had, the operator's own RBAC must allow what the rules pass on.
    """

    def __init__(self, client: ApiClient, *, impersonate: bool) -> None:
        self._client = client
        self._impersonate = impersonate

    async def send(
        self,
        node_name: str | None,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str | None = None,
    ) -> Reply:
        """The API server's answer, whatever its status; Problem (503) when it gives none that is meant for a cell.

        Without a `node_name`, the operator asks for itself.
        """
        node = None
        if node_name is not None and self._impersonate:
            node = Impersonation(f"system:node:{node_name}", ("system:nodes",))
        try:
            reply = await self._client.request(
                method,
                path,
                params=params,
                body=body,
                content_type=content_type,
                impersonate=node,
                timeout_s=_TIMEOUT_S,
            )
        except Unavailable as error:
            raise unavailable("the API server cannot be reached") from error
        if reply.status == 401 or (reply.status == 403 and b"cannot impersonate" in reply.body):
            # Our own credentials, not the cell's: to a kubelet this must not look like an answer about its pod.
            raise unavailable("the API server does not accept the operator")
        return reply

    async def get(self, node_name: str | None, path: str) -> Reply:
        """An object that must be there. Raises Problem: 404, 503, or what the API server said."""
        reply = await self.send(node_name, "GET", path)
        if reply.status == 404:
            raise not_found(f"{path} is not there")
        if reply.status != 200:
            raise Problem(reply.status, "", f"the API server answered {reply.status} for {path}")
        return reply
