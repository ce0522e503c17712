"""Where this process runs, by whoever knows it: the metadata service of its machine, else its node."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from kip.app import ownnode
from kip.app.aws import sdk_settings
from kip.cloud import metadata
from kip.cloud.metadata import Whereabouts
from kip.cloud.sdk import filters, open_ec2
from kip.config import Aws
from kip.kube.client import ApiClient
from kip.kube.waiting import when_available
from kip.model.clock import Clock


async def here(aws: Aws, client: ApiClient, clock: Clock) -> Whereabouts | None:
    """Ask both; None when neither says it. Waits for the API server as long as that is away."""

    async def describe(region: str, instance_id: str) -> Mapping[str, Any] | None:
        async with open_ec2(sdk_settings(aws, region)) as ec2:
            return next(iter(await ec2.describe_instances(filters({"instance-id": instance_id}))), None)

    async def by_node() -> Whereabouts | None:
        return await ownnode.whereabouts(client, os.environ.get("NODE_NAME"), describe, region=aws.region)

    return await metadata.whereabouts() or await when_available(by_node, clock, what="the node Kip runs on")
