"""Every file that user data brings to a cell."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from importlib import resources

from kip.bootstrap import deviceplugin, kubelet, units
from kip.bootstrap.layout import (
    AUTHORIZED_KEYS,
    CNI_PLUGIN,
    CREDENTIAL_PROVIDER_CONFIG,
    DEVICE_PLUGIN,
    HOST_KEY,
    KUBECONFIG_TEMPLATE,
    KUBELET_CONFIG,
    OPERATOR_CA,
    OPTIONS,
    PROGRAMS,
    STATIC_PODS,
    VOLUME_OPTIONS,
)
from kip.bootstrap.options import BootstrapOptions

_UNITS = "/etc/systemd/system"
_CNI_CONFIG = {
    "cniVersion": "1.0.0",
    "name": "kip",
    "plugins": [{"type": "kip", "capabilities": {"portMappings": True}}],
}


@dataclass(frozen=True, slots=True)
class File:
    """A file as cloud-init's write_files wants it."""

    path: str
    content: str
    mode: str = "0644"


def cell_files(options: BootstrapOptions) -> tuple[File, ...]:
    """The files in the order of writing: `boot` is last, because its presence says that all others are there."""
    files = [
        File("/etc/ssh/sshd_config.d/00-kip.conf", units.SSHD, "0600"),
        File(AUTHORIZED_KEYS, units.authorized_keys(options), "0600"),
        File(HOST_KEY, options.first_contact_host_key.rstrip("\n") + "\n", "0600"),
        File(OPERATOR_CA, options.operator_ca_pem.rstrip("\n") + "\n"),
        File(OPTIONS, _shell_variables(options)),
        File(KUBECONFIG_TEMPLATE, kubelet.kubeconfig(), "0600"),
        File(KUBELET_CONFIG, kubelet.configuration(options)),
        File("/etc/containerd/config.toml", units.CONTAINERD),
        File("/etc/cni/net.d/10-kip.conflist", json.dumps(_CNI_CONFIG) + "\n"),
        File(f"{_UNITS}/containerd.service.d/10-kip.conf", units.CONTAINERD_DROP_IN),
        File(f"{_UNITS}/kubelet.service.d/10-kip.conf", units.KUBELET_DROP_IN),
        File(f"{_UNITS}/kip-boot.service", units.BOOT_SERVICE),
        File(f"{_UNITS}/kip-api.socket", units.API_SOCKET),
        File(f"{_UNITS}/kip-api.service", units.API_SERVICE),
        File(f"{_UNITS}/kip-dead-man-switch.service", units.DEAD_MAN_SERVICE),
        File(f"{_UNITS}/kip-dead-man-switch.timer", units.DEAD_MAN_TIMER),
        File(f"{PROGRAMS}/wait-for-tunnel", script("wait-for-tunnel"), "0755"),
        File(f"{PROGRAMS}/dead-man-switch", script("dead-man-switch"), "0755"),
        File(CNI_PLUGIN, script("cni"), "0755"),
        File(f"{PROGRAMS}/boot", script("boot"), "0755"),
    ]
    if options.registry_credential_provider:
        files.insert(0, File(CREDENTIAL_PROVIDER_CONFIG, kubelet.credential_providers()))
    if options.device_plugin_image is not None:
        manifest = deviceplugin.manifest(options.device_plugin_image)
        files.insert(0, File(f"{STATIC_PODS}/{DEVICE_PLUGIN}.json", manifest))
    if options.volume is not None:
        files[:0] = _volume_files(options, options.volume)
    return tuple(files)


def _volume_files(options: BootstrapOptions, volume: str) -> tuple[File, ...]:
    always = ("ro", "nosuid", "nodev", "noexec")
    values = {"VOLUME": volume, "VOLUME_OPTIONS": ",".join(filter(None, (*always, options.volume_options)))}
    return (
        File(VOLUME_OPTIONS, "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())),
        File(f"{PROGRAMS}/mount-volume", script("mount-volume"), "0755"),
        File(f"{_UNITS}/kip-volume.service", units.VOLUME_SERVICE),
        File(f"{_UNITS}/kip-boot.service.d/10-volume.conf", units.BOOT_WITH_VOLUME),
        File(f"{_UNITS}/kubelet.service.d/20-kip-volume.conf", units.KUBELET_AFTER_LAYERS),
    )


def _shell_variables(options: BootstrapOptions) -> str:
    values = {
        "NODE_NAME": options.node_name,
        "DEAD_MAN_SWITCH_S": str(options.dead_man_switch_s),
        # nft's notation of a set's elements. AWS lists them in no promised order, and a repeated launch must bring the
        # same bytes.
        "VPC_CIDRS": ", ".join(sorted(set(options.vpc_cidrs))),
    }
    if options.huge_pages:
        values["HUGE_PAGES"] = " ".join(f"{pages.kernel_name}={pages.number}" for pages in options.huge_pages)
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def script(name: str) -> str:
    """A script of this package without its comments, which a cell does not read and user data has no room for."""
    text = resources.files("kip.bootstrap").joinpath("scripts", f"{name}.sh").read_text()
    shebang, *lines = text.splitlines(keepends=True)
    return shebang + "".join(line for line in lines if line.strip() and not line.lstrip().startswith("#"))
