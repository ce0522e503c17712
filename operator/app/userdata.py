"""What the machines of a virtual node are told at boot, and whether it fits, known before anything is launched."""

from __future__ import annotations

from collections.abc import Sequence

from kip.app.keys import OperatorKeys, generate
from kip.bootstrap.options import BootstrapOptions
from kip.bootstrap.render import UserDataTooLarge, user_data
from kip.cloud.errors import InvalidRequest
from kip.config import Settings
from kip.model.clock import Clock
from kip.model.hugepages import HugePages

# cells.deadManSwitch: 0 turns the switch off; a machine does not live for ten years.
_NEVER_S = 10 * 365 * 86400

# As long as the real ones, for a look at a file where there is no cluster.
_SAMPLE_DNS = "10.100.0.10"
_SAMPLE_VPC = "10.100.0.0/16"


def cell_user_data(
    settings: Settings,
    node_name: str,
    *,
    dns: Sequence[str],
    vpc_cidrs: Sequence[str],
    keys: OperatorKeys,
    gpus: bool = False,
    huge_pages: tuple[HugePages, ...] = (),
) -> bytes:
    """The user data of every cell of this node without NVIDIA GPUs, or of those with them, that has these huge pages.

    Raises:
        InvalidRequest: cells.cloudInitFile cannot be read, or is too large; the message has sizes and the limit.
    """
    cells = settings.cells
    try:
        extra = cells.cloud_init_file.read_bytes() if cells.cloud_init_file else None
    except OSError as error:
        raise InvalidRequest(f"cells.cloudInitFile cannot be read: {error}") from error
    options = BootstrapOptions(
        node_name=node_name,
        cluster_dns=tuple(dns),
        cluster_domain=settings.cluster.domain,
        first_contact_host_key=keys.first_contact_host_key,
        operator_public_key=keys.ssh_public_key,
        operator_ca_pem=keys.ca.certificate.decode(),
        dead_man_switch_s=int(cells.dead_man_switch) or _NEVER_S,
        vpc_cidrs=tuple(vpc_cidrs),
        extra_cloud_init=extra,
        volume=cells.image_cache.endpoint,
        volume_options=cells.image_cache.mount_options,
        device_plugin_image=cells.gpu.device_plugin_image if gpus else None,
        huge_pages=huge_pages,
    )
    try:
        return user_data(options)
    except UserDataTooLarge as error:
        raise InvalidRequest(f"{error}; cells.cloudInitFile is {len(extra or b'')} bytes of it") from error


def trouble(settings: Settings, clock: Clock) -> str | None:
    """Why cells could not be launched with this user data, without asking any cluster; None when they can.

    Keys made for the occasion stand in for the real ones, so sizes are right to some ten bytes.
    """
    if settings.cells.cloud_init_file is None:
        return None
    dns = settings.cluster.dns or (_SAMPLE_DNS,)
    node_name = settings.kubelet.node_names[0]
    try:
        # With GPUs, which is the larger one.
        cell_user_data(
            settings, node_name, dns=dns, vpc_cidrs=(_SAMPLE_VPC,), keys=generate(clock), gpus=True
        )
    except InvalidRequest as error:
        return str(error)
    return None
