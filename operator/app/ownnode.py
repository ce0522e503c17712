"""Where this process runs, by the Node its pod is on: for pods that the instance metadata service does not answer.

On EKS that is usual: with a hop limit of 1, which AWS recommends, only the machine itself gets an answer.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from kip.cloud.errors import CloudError
from kip.cloud.metadata import Whereabouts
from kip.kube.client import ApiClient
from kip.kube.errors import ApiError

log = structlog.get_logger(__name__)

#: Asks for one instance: region, id. Gives what DescribeInstances says of it, None if nothing. Raises CloudError.
Describe = Callable[[str, str], Awaitable[Mapping[str, Any] | None]]

# As the AWS cloud controller writes it; a Fargate pod's node has no instance in it.
_PROVIDER_ID = re.compile(r"aws:///[^/]*/(i-[0-9a-f]+)")
_REGION = "topology.kubernetes.io/region"


async def whereabouts(
    client: ApiClient, node_name: str | None, describe: Describe, *, region: str | None
) -> Whereabouts | None:
    """Look the node's instance up; None, and the reason in the log, when that does not say it.

    `region` is for a Node without the label. Raises Unavailable when the API server cannot be asked now.
    """
    if not node_name:
        return None
    try:
        node = await client.get(f"/api/v1/nodes/{node_name}")
        found = await _of_instance(node, describe, region)
    except (ApiError, CloudError) as error:
        log.warning("the node does not say where Kip runs", node=node_name, reason=str(error))
        return None
    if found is None:
        provider_id = (node.get("spec") or {}).get("providerID", "")
        log.warning("the node is no EC2 instance that is known", node=node_name, provider_id=provider_id)
    return found


async def _of_instance(node: Mapping[str, Any], describe: Describe, region: str | None) -> Whereabouts | None:
    match = _PROVIDER_ID.fullmatch((node.get("spec") or {}).get("providerID", ""))
    region = (node["metadata"].get("labels") or {}).get(_REGION) or region
    if match is None or not region:
        return None
    instance = await describe(region, match[1])
    # One that has just been terminated is in no subnet any more.
    if instance is None or not instance.get("SubnetId"):
        return None
    return Whereabouts(region=region, vpc_id=instance["VpcId"], subnet_id=instance["SubnetId"])
