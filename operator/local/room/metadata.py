"""What the instance metadata service knows of an instance: a tree of texts, laid out as EC2 does."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from kip.local.room.instances import Instance

# A directory is a mapping, everything else a file's text.
Tree: TypeAlias = Mapping[str, Any]


def tree(instance: Instance) -> Tree:
    """Everything below `/latest/` for that instance."""
    region = instance.zone[:-1]
    known: dict[str, Any] = {
        "meta-data": _meta_data(instance, region),
        "dynamic": {"instance-identity": {"document": _identity(instance, region)}},
    }
    if instance.user_data_b64:
        known["user-data"] = base64.b64decode(instance.user_data_b64)
    return known


def look_up(known: Tree, path: str) -> bytes | None:
    """The content at that path: a file's, or a directory's list of names; None if there is nothing.

    As on EC2 a directory's name ends in a slash in its parent's list, and is found with or without it.
    """
    found: Any = known
    for name in filter(None, path.split("/")):
        if not isinstance(found, Mapping) or name not in found:
            return None
        found = found[name]
    if isinstance(found, Mapping):
        return "\n".join(_listed(name, value) for name, value in sorted(found.items())).encode()
    return found if isinstance(found, bytes) else str(found).encode()


def _listed(name: str, value: Any) -> str:
    return f"{name}/" if isinstance(value, Mapping) else name


def _meta_data(instance: Instance, region: str) -> Tree:
    hostname = f"{instance.hostname}.ec2.internal"
    return {
        "ami-id": instance.image_id,
        "ami-launch-index": str(instance.launch_index),
        "hostname": hostname,
        "iam": {"security-credentials": {}},
        "instance-action": "none",
        "instance-id": instance.id,
        "instance-life-cycle": instance.market,
        "instance-type": instance.type,
        "local-hostname": hostname,
        "local-ipv4": instance.private_ip,
        "mac": instance.mac,
        "network": {"interfaces": {"macs": {instance.mac: _interface(instance)}}},
        "placement": {"availability-zone": instance.zone, "region": region},
        "services": {"domain": "amazonaws.com", "partition": "aws"},
        # A key with a slash cannot be a tag in instance metadata.
        "tags": {"instance": {key: value for key, value in instance.tags.items() if "/" not in key}},
    }


def _interface(instance: Instance) -> Tree:
    return {
        "device-number": "0",
        "local-hostname": f"{instance.hostname}.ec2.internal",
        "local-ipv4s": "\n".join(instance.addresses),
        "mac": instance.mac,
        "subnet-ipv4-cidr-block": instance.subnet_cidr,
        "vpc-ipv4-cidr-block": instance.vpc_cidr,
        "vpc-ipv4-cidr-blocks": instance.vpc_cidr,
    }


def _identity(instance: Instance, region: str) -> str:
    return json.dumps(
        {
            "availabilityZone": instance.zone,
            "imageId": instance.image_id,
            "instanceId": instance.id,
            "instanceType": instance.type,
            "pendingTime": instance.launch_time,
            "privateIp": instance.private_ip,
            "region": region,
            "version": "2017-09-30",
        },
        indent=2,
    )
