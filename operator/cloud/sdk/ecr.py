"""The calls of ECR."""

from __future__ import annotations

from kip.cloud.sdk.service import Answer, ServiceClient


class EcrSdk(ServiceClient):
    """The registry of one region. Create it with `Session.ecr`."""

    async def get_authorization_token(self) -> Answer:
        return await self._call("GetAuthorizationToken", self._client.get_authorization_token())
