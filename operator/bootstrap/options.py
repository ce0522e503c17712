"""What the cells of one virtual node have in common and their machines must be told."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from kip.model.hugepages import HugePages
from kip.model.patterns import MOUNT_OPTIONS, NFS_EXPORT

# A node's name is a DNS subdomain (RFC 1123) in Kubernetes.
_NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_PUBLIC_KEY = re.compile(r"(ssh-|ecdsa-|sk-)[a-z0-9@.-]+ [A-Za-z0-9+/]+=*( [^\n]*)?")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")

# The switch looks every ten seconds, and sshd needs up to forty to notice that the operator is gone.
MIN_DEAD_MAN_SWITCH_S = 30


class InvalidOptions(ValueError):
    """An option that no cell could work with; the message names it, its value and what was expected."""


@dataclass(frozen=True, kw_only=True)
class BootstrapOptions:
    """Equal options give byte-identical user data.

    Nothing here may be a secret of the cluster: pods can read their machine's user data.

    Raises:
        InvalidOptions: an option cannot be what its name says.
    """

    node_name: str
    """The virtual node that every kubelet believes to be."""
    cluster_dns: tuple[str, ...]
    """Addresses that pods ask for names; none leaves pods with the machine's resolver."""
    cluster_domain: str = "cluster.local"
    first_contact_host_key: str
    """OpenSSH private ed25519 key that sshd shows until the operator has activated the cell's own one."""
    operator_public_key: str
    """OpenSSH public key that may log in as root and open the two tunnels."""
    operator_ca_pem: str
    """CA of the client certificate with which the operator calls the cell's kubelet."""
    dead_man_switch_s: int
    """Seconds without the operator's tunnel after which the machine powers itself off."""
    vpc_cidrs: tuple[str, ...]
    """Destinations that see the pod's own address; for all others it is translated to the machine's."""
    extra_cloud_init: bytes | None = None
    """The user's own cloud-init: cloud-config, script or MIME multipart. Comes first, so its settings win."""
    registry_credential_provider: bool = True
    """Use the image's ECR credential provider if it has one."""
    device_plugin_image: str | None = None
    """Image of NVIDIA's device plugin, for machines that have NVIDIA GPUs; None for all others."""
    huge_pages: tuple[HugePages, ...] = ()
    """What the machine sets aside before its kubelet starts, which counts them then."""
    volume: str | None = None
    """The image cache's volume, `SERVER:/PATH`; None without one."""
    volume_options: str = ""
    """Mount options of it, besides those that are always set."""
    shutdown_grace_period_s: int = 120
    """How long the kubelet may stop the pod in order when the machine is shut down by others than us."""

    def __post_init__(self) -> None:
        _require(
            "node_name", self.node_name, _NODE_NAME.fullmatch(self.node_name), "a DNS name in lower case"
        )
        for address in self.cluster_dns:
            _require("cluster_dns", address, _is_address(address), "IPv4 addresses")
        _require(
            "cluster_domain", self.cluster_domain, _DOMAIN.fullmatch(self.cluster_domain), "a DNS domain"
        )
        _require(
            "first_contact_host_key",
            "…",
            self.first_contact_host_key.startswith("-----BEGIN OPENSSH PRIVATE KEY-----\n"),
            "a private key in OpenSSH's format",
        )
        _require(
            "operator_public_key",
            self.operator_public_key,
            _PUBLIC_KEY.fullmatch(self.operator_public_key.strip()),
            "one line as in authorized_keys",
        )
        _require(
            "operator_ca_pem",
            self.operator_ca_pem[:40],
            "-----BEGIN CERTIFICATE-----" in self.operator_ca_pem,
            "a certificate in PEM",
        )
        _require(
            "dead_man_switch_s",
            self.dead_man_switch_s,
            self.dead_man_switch_s >= MIN_DEAD_MAN_SWITCH_S,
            f"at least {MIN_DEAD_MAN_SWITCH_S} seconds",
        )
        _require("vpc_cidrs", self.vpc_cidrs, self.vpc_cidrs, "at least one IPv4 network")
        for cidr in self.vpc_cidrs:
            _require("vpc_cidrs", cidr, _is_network(cidr), "IPv4 networks like 10.0.0.0/16")
        _require(
            "device_plugin_image",
            self.device_plugin_image,
            self.device_plugin_image is None or _IMAGE.fullmatch(self.device_plugin_image),
            "the name of a container image",
        )
        _require(
            "volume",
            self.volume,
            self.volume is None or NFS_EXPORT.fullmatch(self.volume),
            "an NFS export like fs-0123abcd.efs.us-east-1.amazonaws.com:/",
        )
        _require(
            "volume_options",
            self.volume_options,
            not self.volume_options or MOUNT_OPTIONS.fullmatch(self.volume_options),
            "mount options with commas between them",
        )
        _require(
            "shutdown_grace_period_s",
            self.shutdown_grace_period_s,
            self.shutdown_grace_period_s >= 0,
            "0 (off) or more seconds",
        )


def _require(name: str, value: object, fulfilled: object, expected: str) -> None:
    if not fulfilled:
        raise InvalidOptions(f"bootstrap option {name}: {value!r}: expected {expected}")


def _is_address(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True


def _is_network(text: str) -> bool:
    try:
        IPv4Network(text)
    except ValueError:
        return False
    return True
