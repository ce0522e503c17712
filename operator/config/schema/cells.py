"""Section `cells`: the machines that pods run on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from kip.config.schema.boot_image import BootImageSpec
from kip.config.schema.image_cache import ImageCache
from kip.config.schema.instance_types import InstanceTypeName, InstanceTypes
from kip.config.schema.section import Section
from kip.config.types import Annotations, Cidr, Flag, duration, matching, size, whole_number
from kip.model.patterns import INSTANCE_PROFILE, SECURITY_GROUP

Profile = Annotated[str, matching(INSTANCE_PROFILE, "the name or the ARN of an instance profile")]
Group = Annotated[str, matching(SECURITY_GROUP, "the id of a security group, like sg-0123abcd")]


class StandbyCell(Section):
    """One pool of cells that are kept running without a pod."""

    instance_type: Annotated[InstanceTypeName, Field(description="Instance type of the pool.")]
    count: Annotated[int, whole_number(at_least=0), Field(description="Cells that wait at any time.")] = 0
    spot: Annotated[Flag, Field(description="Whether they are spot instances.")] = False
    dedicated: Annotated[Flag, Field(description="Whether they are on hardware of one's own.")] = False


class KeptLogs(Section):
    """The logs of finished pods, kept when their cell is gone."""

    max_size: Annotated[
        int, size(at_least="1Ki"), Field(description="The last bytes that are kept of each container's log.")
    ] = 256 * 1024


class Gpu(Section):
    """Cells with NVIDIA GPUs, for pods that request `nvidia.com/gpu`."""

    device_plugin_image: Annotated[
        str,
        matching(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*", "the name of a container image"),
        Field(
            description="NVIDIA's device plugin, which runs on each such cell beside the pod and is no pod of the "
            "cluster. The cells pull it themselves: their subnets need a way to its registry, or it is a copy in "
            "one that they reach."
        ),
    ] = "nvcr.io/nvidia/k8s-device-plugin:v0.20.0"
    device_plugin_timeout: Annotated[
        float,
        duration(at_least="1s"),
        Field(
            description="How long the kubelet of a connected cell may take to report the pod's GPUs before the cell "
            "is replaced. The driver is loaded and the plugin pulled meanwhile."
        ),
    ] = 300.0


class ImageArchitecture(Section):
    """Cells of pods that name no architecture, neither by `kubernetes.io/arch` nor by instance types."""

    multi_platform: Annotated[
        Literal["amd64", "cheapest"],
        Field(
            description="What a pod gets whose images are all built for amd64 and arm64. `cheapest` is for those who "
            "know that nothing in their pods depends on it. An image for one architecture gets that one."
        ),
    ] = "amd64"
    timeout: Annotated[
        float,
        duration(at_least="0s"),
        Field(
            description="How long the launch of the first pod with an image waits for its registry to tell what it is "
            "built for; later ones do not wait. What is not known is taken for amd64. 0s asks no registry."
        ),
    ] = 1.0


class Cells(Section):
    """The machines that pods run on."""

    default_instance_type: Annotated[
        InstanceTypeName, Field(description="Instance type of a pod that asks for nothing.")
    ] = "t3.small"
    instance_types: Annotated[InstanceTypes, Field(description="Which instance types pods may get.")] = (
        InstanceTypes()
    )
    instance_data: Annotated[
        Path | None,
        matching(r"(?s).+", "the path of a file"),
        Field(
            description="A file with prices and instance types of one's own, which goes on top of the built-in "
            "catalogue (docs/choosing-instances.md); a relative path starts at the directory of provider.yaml."
        ),
    ] = None
    default_volume_size: Annotated[
        int,
        size(at_least="1Gi"),
        Field(description="Root volume of a cell, rounded up to GiB; never smaller than the image's own."),
    ] = 5 * 2**30
    boot_image_spec: Annotated[
        BootImageSpec,
        Field(
            description="Machine image. Without it the newest EKS image (Amazon Linux 2023) for the cluster's "
            "Kubernetes version: its NVIDIA variant for instance types with NVIDIA GPUs, the standard one for all "
            "others."
        ),
    ] = BootImageSpec()
    gpu: Annotated[Gpu, Field(description="Cells with NVIDIA GPUs.")] = Gpu()
    image_cache: Annotated[
        ImageCache, Field(description="Images that are already there, on a shared volume.")
    ] = ImageCache()
    image_architecture: Annotated[
        ImageArchitecture, Field(description="What follows from what images are built for.")
    ] = ImageArchitecture()
    standby_cells: Annotated[
        tuple[StandbyCell, ...],
        Field(description="Pools of cells that wait for pods. Checked, but without effect in this version."),
    ] = ()
    cloud_init_file: Annotated[
        Path | None,
        matching(r"(?s).+", "the path of a file"),
        Field(
            description="A cloud-config file merged into the user data of every cell; a relative path starts "
            "at the directory of provider.yaml."
        ),
    ] = None
    extra_cidrs: Annotated[
        tuple[Cidr, ...],
        Field(description="Address ranges, besides the VPC's own, from which pods on cells may be reached."),
    ] = ()
    extra_security_groups: Annotated[
        tuple[Group, ...],
        Field(
            description="Security groups added to every cell. On EKS that of the cluster has to be one of them: "
            "only its members reach the nodes, and the cluster's DNS on them."
        ),
    ] = ()
    nametag: Annotated[
        str | None,
        matching(r"[a-z]([-a-z0-9]{0,32}[a-z0-9])?", "a DNS label of at most 34 characters, like shop-kip"),
        Field(description="Part of the cells' Name tag. Without it the cluster's name."),
    ] = None
    private_ip_only: Annotated[
        Flag, Field(description="No public address for any cell, whatever the subnet's setting.")
    ] = False
    default_iam_permissions: Annotated[
        Profile | None,
        Field(
            description="Instance profile (name or ARN) of cells whose pod has no annotation "
            "pod.elotl.co/instance-profile."
        ),
    ] = None
    default_annotations: Annotated[
        Annotations,
        Field(
            description="Annotations `pod.elotl.co/…` for pods that have none of the same name, neither themselves nor "
            "by their namespace. They go before privateIPOnly, defaultIAMPermissions and defaultVolumeSize."
        ),
    ] = {}  # noqa: RUF012 - pydantic copies it
    connect_timeout: Annotated[
        float,
        duration(at_least="1s"),
        Field(
            description="How long an instance may take from its launch to its first answer over SSH before it is replaced."
        ),
    ] = 300.0
    start_timeout: Annotated[
        float,
        duration(at_least="1s"),
        Field(
            description="How long a connected cell's kubelet may take to ask for its pod before the cell is "
            "replaced."
        ),
    ] = 300.0
    dead_man_switch: Annotated[
        float,
        duration(at_least="30s"),
        Field(
            description="A cell to which Kip has not connected for so long powers itself off and is gone, so "
            "that nothing keeps running after a lost cluster. Longer than any outage of Kip that pods shall "
            "survive."
        ),
    ] = 7200.0
    kept_logs: Annotated[KeptLogs, Field(description="Logs of finished pods.")] = KeptLogs()
    allow_daemon_sets: Annotated[
        Flag,
        Field(
            description="Give pods of DaemonSets a cell too. They tolerate every taint: each would cost an "
            "instance."
        ),
    ] = False
