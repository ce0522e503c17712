"""provider.yaml as values: what every key means and what it is when it is not given.

The keys are those of the first Kip, so that its files go on working; new ones are named as those would have
been. docs/provider-config.md is generated from the descriptions here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator
from pydantic.alias_generators import to_camel

from kip.config.types import (
    Address,
    Amount,
    Annotations,
    Cidr,
    DnsLabel,
    DnsName,
    Flag,
    Labels,
    Port,
    Url,
    Words,
    duration,
    matching,
    one_or_many,
    parsed,
    size,
    whole_number,
    words,
    wrong,
)
from kip.model.patterns import (
    INSTANCE_PROFILE,
    INSTANCE_TYPE,
    INSTANCE_TYPE_GLOB,
    MOUNT_OPTIONS,
    NFS_EXPORT,
    SECURITY_GROUP,
    UNUSABLE_FAMILY,
)

_ACRONYMS = re.compile(r"(?<=[a-z])(Id|Ip|Iam|Url|Tls|Dns)(?=[A-Z]|s?$)|(?<=[a-z])Cidr(?=s?$)")


def key_of(field: str) -> str:
    """The key in the file for a field here: `vpc_id` is `vpcID`, as Go writes acronyms."""
    return _ACRONYMS.sub(lambda match: match[0].upper(), to_camel(field))


class Section(BaseModel):
    """A mapping in the file. A key without a value, or with an empty text, counts as not given."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=key_of, populate_by_name=True, validate_default=False
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_is_absent(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        return {key: value for key, value in data.items() if value is not None and value != ""}


def _instance_type(value: Any) -> str:
    if not INSTANCE_TYPE.fullmatch(value) or value.startswith(UNUSABLE_FAMILY):
        raise ValueError(value)
    return str(value)


def _filters(value: Any) -> Mapping[str, tuple[str, ...]]:
    """`{name: [a, b]}`, or the first Kip's text `name=a,b is-public=true`."""
    if isinstance(value, str):
        pairs = [word.partition("=") for word in value.split()]
        if not all(name and equals and values for name, equals, values in pairs):
            raise ValueError(value)
        return {name: tuple(values.split(",")) for name, _, values in pairs}
    if not isinstance(value, Mapping):
        raise TypeError(value)
    return {str(name): words(one_or_many(values)) for name, values in value.items()}


def _tags(value: Any) -> Mapping[str, str]:
    """EC2's tags; a `*` in a filter's value would match any text, and is not meant."""
    if not isinstance(value, Mapping):
        raise TypeError(value)
    for key, text in value.items():
        if not isinstance(text, str) or not key or "*" in text or "?" in text:
            raise ValueError(value)
    return dict(value)


def _platforms(value: Any) -> tuple[str, ...]:
    found = words(value)
    if not found or not all(re.fullmatch(r"linux/(amd64|arm64)", name) for name in found):
        raise ValueError(value)
    return found


def _mirrors(value: Any) -> Mapping[str, tuple[str, ...]]:
    if not isinstance(value, Mapping):
        raise TypeError(value)
    return {
        str(registry): tuple(_mirror(url) for url in words(one_or_many(urls)))
        for registry, urls in value.items()
    }


def _mirror(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(url)
    return url


InstanceTypeName = Annotated[str, parsed(_instance_type, "an instance type like t3.small, of no t1 family")]
Profile = Annotated[str, matching(INSTANCE_PROFILE, "the name or the ARN of an instance profile")]
Group = Annotated[str, matching(SECURITY_GROUP, "the id of a security group, like sg-0123abcd")]
Subnet = Annotated[str, matching(r"subnet-[0-9a-z]+", "the id of a subnet, like subnet-0123abcd")]


class Marketplace(Section):
    """Only for those who bought Kip on AWS Marketplace: how its use is told."""

    product_code: Annotated[
        str | None,
        matching(r"[-a-zA-Z0-9/=:_.@]{1,255}", "a product code of AWS Marketplace"),
        Field(
            description="Code of the product. With it each process registers at its start (RegisterUsage), and the "
            "hours that cells have run are told each hour (MeterUsage). Pods do not depend on either."
        ),
    ] = None
    public_key_version: Annotated[
        int,
        whole_number(at_least=1),
        Field(description="Version of the product's public key, given by AWS Marketplace."),
    ] = 1
    dimension: Annotated[
        str,
        matching(r"[^\s]{1,255}", "the API name of a dimension of the product"),
        Field(description="Dimension of the product that counts hours of cells."),
    ] = "CellHours"
    endpoint_url: Annotated[
        Url | None, Field(description="Address of the metering service, for private endpoints and for tests.")
    ] = None


class Aws(Section):
    """Where in AWS, and as whom."""

    region: Annotated[
        str | None,
        matching(r"[a-z]{2,4}(-[a-z]+)+-[0-9]+", "a region like us-east-1"),
        Field(description="Region of the cells. Without it AWS_REGION, then the instance's own region."),
    ] = None
    access_key_id: Annotated[
        str | None,
        matching(r"\S+", "an access key id, text in quotes"),
        Field(
            description="Access key, together with secretAccessKey. Without both the usual sources are asked: "
            "environment, role of the service account, instance profile."
        ),
    ] = None
    secret_access_key: Annotated[
        SecretStr | None,
        matching(r"\S+", "a secret access key, text in quotes"),
        Field(description="Belongs to accessKeyID. Better left out: a role needs no secret in a file."),
    ] = None
    vpc_id: Annotated[
        str | None,
        matching(r"vpc-[0-9a-z]+|default", "the id of a VPC, like vpc-0123abcd, or default"),
        Field(
            description="VPC of the cells; `default` is the account's. Without it that of the subnets, or "
            "the one Kip runs in."
        ),
    ] = None
    subnet_ids: Annotated[
        tuple[Subnet, ...],
        BeforeValidator(one_or_many),
        Field(
            alias="subnetID",
            description="Subnet of the cells, or a list of them, all in one VPC. Without it subnetTags, else the VPC's, "
            "else the one Kip runs in.",
        ),
    ] = ()
    subnet_tags: Annotated[
        Mapping[str, str],
        parsed(_tags, "tags, like {kip-cells: 'true'}, their values as text"),
        Field(
            description="The subnets of the cells are those that have all of these tags, in vpcID or wherever they are. "
            "Instead of subnetID; read again every minute."
        ),
    ] = {}
    endpoint_url: Annotated[
        Url | None, Field(description="Address of the EC2 API, for private endpoints and for tests.")
    ] = None
    insecure_tls_skip_verify: Annotated[
        Flag, Field(description="Accept any certificate from endpointURL. For tests only.")
    ] = False
    marketplace: Annotated[Marketplace, Field(description="Use told to AWS Marketplace.")] = Marketplace()

    @model_validator(mode="after")
    def _keys_belong_together(self) -> Aws:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise wrong("accessKeyID and secretAccessKey together, or neither")
        return self

    @model_validator(mode="after")
    def _one_way_to_the_subnets(self) -> Aws:
        if self.subnet_ids and self.subnet_tags:
            raise wrong("subnetID or subnetTags, not both")
        return self


class Cloud(Section):
    """The cloud that has the cells."""

    aws: Annotated[Aws, Field(description="Amazon Web Services.")] = Aws()


class BootImageSpec(Section):
    """The machine image of the cells. Of several that match, the newest is taken.

    Every key may also be a text with spaces between its entries, as the first Kip had it.
    """

    owners: Annotated[
        Words, Field(description="Account numbers, `self`, `amazon` or `aws-marketplace`.")
    ] = ()
    executable_users: Annotated[
        Words, Field(description="Accounts that may launch the image: numbers, `self` or `all`.")
    ] = ()
    filters: Annotated[
        Mapping[str, tuple[str, ...]],
        parsed(_filters, "filters, like {name: my-image-*} or the text name=my-image-*"),
        Field(description="DescribeImages filters, name to value or values."),
    ] = {}
    image_ids: Annotated[
        tuple[Annotated[str, matching(r"ami-[0-9a-z]+", "the id of an image, like ami-0123abcd")], ...],
        parsed(words, "the ids of images in a list, or in one text with spaces between them"),
        Field(
            description="Ids of images; then owners and filters are seldom needed. Whatever is named by these keys is "
            "used for every instance type: it has to be of one architecture, and pods get GPUs on it only if it brings "
            "NVIDIA's driver and container toolkit (`/usr/bin/nvidia-container-runtime`)."
        ),
    ] = ()

    @property
    def given(self) -> bool:
        """False when every key was left out, so that Kip looks for the image itself."""
        return bool(self.owners or self.executable_users or self.filters or self.image_ids)


class StandbyCell(Section):
    """One pool of cells that are kept running without a pod."""

    instance_type: Annotated[InstanceTypeName, Field(description="Instance type of the pool.")]
    count: Annotated[int, whole_number(at_least=0), Field(description="Cells that wait at any time.")] = 0
    spot: Annotated[Flag, Field(description="Whether they are spot instances.")] = False
    dedicated: Annotated[Flag, Field(description="Whether they are on hardware of one's own.")] = False


def _instance_patterns(value: Any) -> tuple[str, ...]:
    patterns = words(value)
    if not all(INSTANCE_TYPE_GLOB.fullmatch(pattern) for pattern in patterns):
        raise ValueError(value)
    return patterns


_Patterns = Annotated[
    tuple[str, ...],
    parsed(_instance_patterns, "a list of families, types or patterns, like [m7i, c7i.large, r*]"),
]


class InstanceTypes(Section):
    """Which instance types pods may get. Whatever a pod asks for by name, these hold."""

    allowed: Annotated[
        _Patterns,
        Field(
            description="Families (`m7i`), types (`m7i.large`) or patterns (`c7*`, `*.metal`): no others are "
            "chosen. Without it all are."
        ),
    ] = ()
    excluded: Annotated[
        _Patterns, Field(description="Likewise: these are never chosen, though they be allowed above.")
    ] = ()


class KeptLogs(Section):
    """The logs of finished pods, kept when their cell is gone."""

    max_size: Annotated[
        int, size(at_least="1Ki"), Field(description="The last bytes that are kept of each container's log.")
    ] = 256 * 1024


class ImageCacheController(Section):
    """What `kip image-cache run` does (docs/image-cache.md). The images of the virtual nodes' pods are always cached."""

    images: Annotated[
        tuple[str, ...],
        parsed(words, "names of images in a list, or in one text with spaces between them"),
        Field(
            description="Images to cache though no pod uses them yet. Kip asks for them without a login, or with its role."
        ),
    ] = ()
    unscheduled_pods: Annotated[
        Flag,
        Field(
            description="Cache images of pods that are meant for a virtual node (toleration or node selector) and not bound "
            "to it yet, too. Their pull secrets can be read only once they are bound."
        ),
    ] = False
    platforms: Annotated[
        tuple[str, ...],
        parsed(_platforms, "platforms like linux/amd64 or linux/arm64"),
        Field(description="Platforms of which these images, and those of `images`, are cached."),
    ] = ("linux/amd64",)
    parallel: Annotated[
        int,
        whole_number(at_least=1),
        Field(description="Images that are fetched, and layers that are converted, at the same time."),
    ] = 2
    processors: Annotated[
        int, whole_number(at_least=1), Field(description="Threads that compress, for each of them.")
    ] = 1
    memory: Annotated[
        int,
        size(at_least="64Mi"),
        Field(description="Memory of the program that makes the file systems, for each of them."),
    ] = 256 * 2**20
    max_size: Annotated[
        int | None,
        size(at_least="100Mi"),
        Field(
            description="What all layers together may take on the volume; then images go that were not used for longest, "
            "but none that a cell has. Without it there is no limit but the next one."
        ),
    ] = None
    min_free_space: Annotated[
        int,
        size(at_least="0"),
        Field(
            description="What has to be free on the volume; below that nothing is fetched, and images go likewise."
        ),
    ] = 2**30
    keep_unused_for: Annotated[
        float,
        duration(at_least="1h"),
        Field(description="How long an image is kept that no pod uses."),
    ] = 720 * 3600.0
    check_tags_every: Annotated[
        float,
        duration(at_least="1m"),
        Field(
            description="How often a registry is asked whether a tag that is in use leads to another image now (one HEAD)."
        ),
    ] = 900.0


class ImageCache(Section):
    """Images that are already there, on a shared volume (docs/image-cache.md)."""

    endpoint: Annotated[
        str | None,
        matching(
            NFS_EXPORT,
            "an NFS export like fs-0123abcd.efs.us-east-1.amazonaws.com:/",
        ),
        Field(
            description="The volume: an EFS or any other NFS 4.1 export, `SERVER:/PATH`. Without it the environment "
            "variable NFS_VOLUME_ENDPOINT; without either there is no image cache."
        ),
    ] = None
    mount_options: Annotated[
        str,
        matching(
            MOUNT_OPTIONS,
            "mount options with commas between them, without spaces",
        ),
        Field(
            description="How cells mount it, besides `ro,nosuid,nodev,noexec`, which are always added. The default is what "
            "AWS recommends for EFS."
        ),
    ] = "nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport"
    deadline: Annotated[
        float,
        duration(at_least="100ms"),
        Field(
            description="How long after its first contact a cell's pod may be held back for the cache; what is not there "
            "by then is pulled. The kubelet needs one to two seconds of this time to start anyway."
        ),
    ] = 3.0
    dm_verity: Annotated[
        Literal["auto", "off"],
        Field(
            description="`auto` lets the kernel of a cell check each block of a layer at its first read, where it has "
            "dm-verity and the machine image has dmsetup."
        ),
    ] = "auto"
    controller: Annotated[
        ImageCacheController, Field(description="Who fills the volume and keeps it in bounds.")
    ] = ImageCacheController()


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
    ] = {}
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


class ServingCertificate(Section):
    """The certificate of the virtual node's kubelet API."""

    signer_name: Annotated[
        str,
        matching(r"[a-z0-9.-]+/[A-Za-z0-9./-]+", "a signer like kubernetes.io/kubelet-serving"),
        Field(
            description="Signer of the CertificateSigningRequest; on EKS beta.eks.amazonaws.com/app-serving."
        ),
    ] = "kubernetes.io/kubelet-serving"


#: What the virtual node offers unless told otherwise; cpu, memory and pods are the first Kip's numbers.
DEFAULT_CAPACITY: Mapping[str, str] = {
    "cpu": "20",
    "memory": "100Gi",
    "pods": "20",
    "ephemeral-storage": "400Gi",
}


class Kubelet(Section):
    """The virtual nodes: what the cluster sees."""

    node_name: Annotated[
        str | None, DnsName, Field(description="Name of the only virtual node, instead of nodeNamePrefix.")
    ] = None
    node_name_prefix: Annotated[
        str, DnsLabel, Field(description="Virtual nodes are called so, with -0, -1 and so on.")
    ] = "kip-provider"
    nodes: Annotated[
        int,
        whole_number(at_least=1),
        Field(
            description="Number of virtual nodes. Each is served by one process at a time. The permissions in "
            "deploy/kustomize/base/rbac.yaml are for four."
        ),
    ] = 1
    node_ip: Annotated[
        Address | None,
        Field(
            description="Address under which the cluster reaches the virtual node's kubelet API. Without it "
            "the environment variable NODE_IP, then POD_IP.",
        ),
    ] = None
    listen_address: Annotated[Address, Field(description="Address on which the kubelet API listens.")] = (
        "0.0.0.0"  # noqa: S104 - a kubelet does
    )
    port: Annotated[Port, Field(description="Port of the kubelet API.")] = 10250
    serving_certificate: Annotated[
        ServingCertificate, Field(description="Certificate of the kubelet API.")
    ] = ServingCertificate()
    capacity: Annotated[
        Mapping[str, Amount],
        BeforeValidator(lambda given: {**DEFAULT_CAPACITY, **given} if isinstance(given, Mapping) else given),
        Field(
            description="What each virtual node offers to the scheduler, which binds no more pods than fit. "
            "cpu, memory, pods and ephemeral-storage keep their default when not named here; no other resource "
            "is offered. Pods that request GPUs need `nvidia.com/gpu` here, those with huge pages "
            "`hugepages-2Mi` or `hugepages-1Gi`."
        ),
    ] = DEFAULT_CAPACITY
    labels: Annotated[
        Labels,
        Field(
            description="Labels added to the virtual nodes. One that is taken out here goes from the nodes too."
        ),
    ] = {}

    @model_validator(mode="after")
    def _one_name_is_for_one_node(self) -> Kubelet:
        if self.node_name is not None and self.nodes > 1:
            raise wrong("nodeName with one node only; for several use nodeNamePrefix")
        return self

    @property
    def node_names(self) -> tuple[str, ...]:
        """Every virtual node of this installation."""
        if self.node_name is not None:
            return (self.node_name,)
        return tuple(f"{self.node_name_prefix}-{index}" for index in range(self.nodes))


class Cluster(Section):
    """The Kubernetes cluster that the virtual nodes belong to."""

    name: Annotated[
        str | None,
        matching(
            r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,98}[A-Za-z0-9])?", "a name of letters, digits, dashes and dots"
        ),
        Field(
            description="Tells the instances of one cluster from those of another: two clusters in one account "
            "must never have the same. Without it the UID of the namespace kube-system. Not to be changed "
            "while there are cells."
        ),
    ] = None
    namespace: Annotated[
        str,
        DnsLabel,
        Field(description="Namespace of Kip's own objects (leases, secrets). Without it POD_NAMESPACE."),
    ] = "kip"
    dns: Annotated[
        tuple[Address, ...],
        BeforeValidator(one_or_many),
        Field(
            description="Addresses of the cluster's DNS. Without it those of the Service kube-system/kube-dns."
        ),
    ] = ()
    domain: Annotated[str, DnsName, Field(description="DNS domain of the cluster.")] = "cluster.local"
    impersonate_node: Annotated[
        Flag,
        Field(
            description="Make a cell's requests to the API server as the virtual node, so that the Node "
            "authorizer limits Kip as it limits a kubelet. Where that is not allowed, false uses Kip's own "
            "rights, which then have to include reading secrets and configMaps."
        ),
    ] = True


class Registries(Section):
    """Where images come from, as far as Kip itself asks: for the image cache, and to see what an image is made for."""

    mirrors: Annotated[
        Mapping[str, tuple[str, ...]],
        parsed(_mirrors, "registries with their mirrors, like {docker.io: [https://cache.example.com]}"),
        Field(
            description="URLs at which a registry is asked in place of its own name, in this order, until one has the "
            "image; `*` stands for all registries that are not named. They get the pod's credentials. The registry "
            "itself is asked only if it is in the list (Docker Hub is https://registry-1.docker.io). Cells have their "
            "own mirrors (`hosts.toml` of containerd)."
        ),
    ] = {}


class Health(Section):
    """Probes and metrics, over plain HTTP."""

    listen_address: Annotated[
        Address, Field(description="Address on which /healthz, /readyz and /metrics listen.")
    ] = "0.0.0.0"  # noqa: S104 - probes come from the kubelet of the host
    port: Annotated[Port, Field(description="Their port.")] = 8080


class Log(Section):
    """What Kip says while it works."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="The least that is told.")
    ] = "info"
    format: Annotated[
        Literal["auto", "json", "text"],
        Field(description="`auto` is text on a terminal and JSON lines elsewhere."),
    ] = "auto"


class Settings(Section):
    """All of provider.yaml."""

    api_version: Annotated[Literal["v1"], Field(description="Version of this file's format.")] = "v1"
    kind: Annotated[Literal["serverConfig"], Field(description="Kind of this file.")] = "serverConfig"
    cloud: Annotated[Cloud, Field(description="The cloud that has the cells.")] = Cloud()
    cells: Annotated[Cells, Field(description="The machines that pods run on.")] = Cells()
    kubelet: Annotated[Kubelet, Field(description="The virtual nodes: what the cluster sees.")] = Kubelet()
    cluster: Annotated[Cluster, Field(description="The cluster that the virtual nodes belong to.")] = (
        Cluster()
    )
    registries: Annotated[Registries, Field(description="Where images come from.")] = Registries()
    health: Annotated[Health, Field(description="Probes and metrics.")] = Health()
    log: Annotated[Log, Field(description="What Kip says while it works.")] = Log()
