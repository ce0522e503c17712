"""Booting the ordinary node and letting it join, and taking it away."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from kip.cloud.base import LIVE_STATES, ImageSpec, Instance, LaunchRequest
from kip.cloud.ec2 import Ec2Compute
from kip.cloud.errors import CloudError
from kip.cloud.images import Ec2Images
from kip.cloud.network import Ec2Network
from kip.cloud.sdk import SdkSettings, open_ec2
from kip.local import packages
from kip.local.api import Api, ApiError
from kip.local.build import KUBERNETES, program
from kip.local.ordinary.userdata import PROXY_PROGRAM, Node, cloud_config
from kip.local.pki import ControlPlanePki
from kip.local.progress import Progress
from kip.local.provider import REGION
from kip.local.waiting import until
from kip.local.world import World, WorldError

NODE = "node-0"

_TAG = {"kip-local/node": NODE}
_TYPE = "m5.large"  # 2 processors and 8 GiB: room for a few dozen small pods
_IMAGES = ImageSpec(filters={"name": ("amazon-eks-node-al2023-x86_64-standard-*",)})
_PACKAGES = (packages.Package("containernetworking-plugins", "/usr/lib/cni/bridge"),)
_SIGNER = "kubernetes.io/kubelet-serving"
_PATIENCE = 90.0  # seconds; a node is ready after about 8


def up(world: World, progress: Progress) -> None:
    """Makes the node be there and Ready; what is there already is left alone.

    Raises:
        WorldError: the world has no machine room, the instance cannot be had, or the node does not get ready.
    """
    if not world.rooted:
        raise WorldError("an ordinary node is a booted machine, which takes root")
    packages.ensure(_PACKAGES, progress)
    with progress.step(f"boot {NODE}"):
        instance = asyncio.run(_instance(world))
        until(lambda: _bring_proxy(world, instance), what=f"the machine of {NODE}", seconds=_PATIENCE)
    with progress.step(f"{NODE} joins"):
        joining = _Joining(Api(world))
        until(joining.missing, what=NODE, seconds=_PATIENCE)


def down(world: World, progress: Progress) -> None:
    """Ends the node's machine and removes the Node; fine when there is none. Raises WorldError."""
    with progress.step(f"end {NODE}"):
        asyncio.run(_terminate(world))
        Api(world).delete({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})


@dataclass(frozen=True)
class _Ec2:
    compute: Ec2Compute
    images: Ec2Images
    network: Ec2Network

    async def nodes(self) -> list[Instance]:
        """The node's machine, if there is one."""
        return await self.compute.describe(tags=_TAG, states=LIVE_STATES)


@asynccontextmanager
async def _ec2(world: World) -> AsyncIterator[_Ec2]:
    # The local endpoint asks for a signature and does not check whose.
    settings = SdkSettings(
        region=REGION, endpoint_url=world.url("aws"), access_key_id="local", secret_access_key="local"
    )
    try:
        async with open_ec2(settings) as sdk:
            yield _Ec2(Ec2Compute(sdk), Ec2Images(sdk), Ec2Network(sdk))
    except CloudError as error:
        raise WorldError(f"the AWS endpoint of world {world.name!r}: {error}") from error


async def _instance(world: World) -> Instance:
    async with _ec2(world) as ec2:
        if found := await ec2.nodes():
            return found[0]
        subnet = (await ec2.network.subnets())[0]
        image = await ec2.images.find(_IMAGES)
        launched = await ec2.compute.launch(
            LaunchRequest(
                client_token=f"{NODE}-{secrets.token_hex(8)}",
                count=1,
                instance_type=_TYPE,
                image_id=image.id,
                subnet_id=subnet.id,
                security_group_ids=(),
                user_data=cloud_config(_description(world)),
                tags={**_TAG, "Name": NODE},
                secondary_private_ips=0,
            )
        )
        return launched[0]


def _description(world: World) -> Node:
    pki = ControlPlanePki(world)
    kubelet = pki.kubeconfig(world.pki / f"{NODE}.kubeconfig", f"system:node:{NODE}", ["system:nodes"])
    proxy = pki.kubeconfig(world.pki / "kube-proxy.kubeconfig", "system:kube-proxy")
    return Node(
        name=NODE,
        pods=world.node_pods,
        cluster_dns=world.cluster_dns,
        authority=pki.cluster.pair.certificate.read_text(),
        kubelet_kubeconfig=kubelet.read_text(),
        proxy_kubeconfig=proxy.read_text(),
    )


def _bring_proxy(world: World, instance: Instance) -> str | None:
    """Puts kube-proxy into the machine's disk: too large for user data, and not part of an AMI."""
    root = world.cells / instance.id / "root"
    target = root / PROXY_PROGRAM.lstrip("/")
    if target.exists():
        return None
    if not (root / "opt").is_dir():
        return f"{instance.id} has not been booted; see the log of the machine room"
    target.parent.mkdir(exist_ok=True)
    partial = target.with_name(f".{target.name}")
    # A copy: the machine's root may write it, and the file is every world's.
    shutil.copy(program(KUBERNETES, "kube-proxy").resolve(), partial)
    partial.rename(target)
    return None


class _Joining:
    """Approves the kubelet's request for a serving certificate, and looks whether the node is ready."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def missing(self) -> str | None:
        """Why the node is not ready yet, in the kubelet's words once there are some."""
        try:
            self._approve()
            node = self._api.read({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
        except (OSError, ApiError) as error:
            return str(error)
        return unready(node)

    def _approve(self) -> None:
        for request in self._api.items("/apis/certificates.k8s.io/v1/certificatesigningrequests"):
            if approval := approved(request):
                self._api.put(f"{request_path(request)}/approval", approval)


def request_path(request: dict[str, Any]) -> str:
    """Where that certificate request is."""
    return f"/apis/certificates.k8s.io/v1/certificatesigningrequests/{request['metadata']['name']}"


def approved(request: dict[str, Any]) -> dict[str, Any] | None:
    """The request with its approval, if it is the node's own and has not been decided on; else None."""
    spec, status = request["spec"], request.get("status", {})
    ours = spec["username"] == f"system:node:{NODE}" and spec["signerName"] == _SIGNER
    if not ours or status.get("conditions"):
        return None
    condition = {"type": "Approved", "status": "True", "reason": "LocalWorld", "message": f"{NODE} is ours"}
    return {**request, "status": {**status, "conditions": [condition]}}


def unready(node: dict[str, Any] | None) -> str | None:
    """Why the node is not ready; None when it is."""
    if node is None:
        return "it has not registered"
    conditions = node.get("status", {}).get("conditions", [])
    ready = next((found for found in conditions if found["type"] == "Ready"), None)
    if ready is None:
        return "it has not told its state"
    return None if ready["status"] == "True" else f"{ready['reason']}: {ready['message']}"


async def _terminate(world: World) -> None:
    async with _ec2(world) as ec2:
        await ec2.compute.terminate([instance.id for instance in await ec2.nodes()])
        deadline = asyncio.get_running_loop().time() + _PATIENCE
        while left := [found.id for found in await ec2.nodes()]:
            if asyncio.get_running_loop().time() > deadline:
                raise WorldError(f"{', '.join(left)} did not terminate within {_PATIENCE:.0f} s")
            await asyncio.sleep(0.2)
