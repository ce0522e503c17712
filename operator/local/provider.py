"""The provider.yaml of a local world: what a user of EKS would write, with this world's addresses."""

from __future__ import annotations

from typing import Any

import yaml

from kip.local.cluster import OPERATOR_NAMESPACE
from kip.local.images import DEVICE_PLUGIN
from kip.local.world import World, write_atomically

REGION = "us-east-1"
# The local AWS endpoint takes any credentials; the SDK wants some.
_CREDENTIALS = {"accessKeyID": "kip-local", "secretAccessKey": "kip-local"}


def settings(
    world: World, *, kubelet_port: int | None = None, health_port: int | None = None
) -> dict[str, Any]:
    """The file's content; other ports are for a second process that stands by."""
    health_host, usual_health_port = world.address("operator")
    return {
        "apiVersion": "v1",
        "kind": "serverConfig",
        "cloud": {
            "aws": {"region": REGION, "vpcID": "default", "endpointURL": world.url("aws"), **_CREDENTIALS}
        },
        "cells": {
            "defaultInstanceType": "t3.small",
            "deadManSwitch": "10m",
            "gpu": {"devicePluginImage": DEVICE_PLUGIN},
        },
        "kubelet": {
            "nodeIP": str(world.host_address),
            "listenAddress": str(world.host_address),
            "port": kubelet_port or world.ports["kubelet"],
        },
        "cluster": {"name": f"kip-local-{world.name}", "namespace": OPERATOR_NAMESPACE, **_dns(world)},
        # As on the cells: every registry's name leads to the world's own, and nothing is asked outside.
        "registries": {"mirrors": {"*": [world.url("registry")]}},
        "health": {"listenAddress": health_host, "port": health_port or usual_health_port},
        "log": {"format": "json"},
    }


def _dns(world: World) -> dict[str, Any]:
    """A world without root has no cluster DNS that the operator could find; nor do its cells ever boot to ask."""
    return {} if world.rooted else {"dns": [str(world.cluster_dns)]}


def write(world: World) -> None:
    """Writes the world's provider.yaml unless there is one: its user may have changed it."""
    if not world.provider_config.exists():
        header = "# Made by `kip local up`; change it as you like, it is kept until `kip local down`.\n"
        text = header + yaml.safe_dump(settings(world), sort_keys=False)
        write_atomically(world.provider_config, text)
