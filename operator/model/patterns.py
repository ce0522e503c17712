"""How AWS and mount(8) want things written, for checking what users write."""

from __future__ import annotations

import re

#: Family and size: `m7i.large`, `u-6tb1.metal`, `mac2-m2pro.metal`.
INSTANCE_TYPE = re.compile(r"[a-z][a-z0-9-]*\.[a-z0-9-]+", re.ASCII)
#: What `INSTANCE_TYPE` matches with `*` for any part of it.
INSTANCE_TYPE_GLOB = re.compile(r"[a-z*][a-z0-9*-]*(?:\.[a-z0-9*-]+)?", re.ASCII)
#: `A10G`, `nvidia-tesla-t4`, `NVIDIA-H100-80GB-HBM3`.
GPU_KIND = re.compile(r"[A-Za-z0-9](?:[ ._-]?[A-Za-z0-9]){0,62}", re.ASCII)
SECURITY_GROUP = re.compile(r"sg-[0-9a-z]+", re.ASCII)
#: A name, or an ARN with it; IAM's characters for names (CreateInstanceProfile, "InstanceProfileName").
INSTANCE_PROFILE = re.compile(
    r"(?:arn:aws[a-z-]*:iam::\d+:instance-profile/(?:[\x21-\x7e]+/)?)?[\w+=,.@-]{1,128}", re.ASCII
)
#: The oldest family: no VPC, no HVM images; nothing that a cell needs runs on it.
UNUSABLE_FAMILY = "t1."
#: SERVER:/PATH, with nothing in it that a shell would understand otherwise.
NFS_EXPORT = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):/(?!/)[A-Za-z0-9._/-]*")
MOUNT_OPTIONS = re.compile(r"[A-Za-z0-9_.=:/-]+(?:,[A-Za-z0-9_.=:/-]+)*")
