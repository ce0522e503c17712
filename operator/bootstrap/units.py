"""The cell's systemd units and drop-ins, and the configuration of sshd and containerd."""

from __future__ import annotations

from kip.bootstrap.layout import (
    API_PORT,
    AUTHORIZED_KEYS,
    HELD_API_PORT,
    HOST_KEY,
    KUBELET_PORT,
    LAYERS,
    PROGRAMS,
)
from kip.bootstrap.options import BootstrapOptions

# First value wins in sshd_config, and drop-ins are included at its top: 00- is before the image's own.
# EC2 Instance Connect (an AuthorizedKeysCommand in the image) must not be a second way to become root.
SSHD = f"""\
HostKey {HOST_KEY}
ClientAliveInterval 10
ClientAliveCountMax 3
LoginGraceTime 20
MaxStartups 20:30:100
UseDNS no
X11Forwarding no
AllowAgentForwarding no
AllowStreamLocalForwarding no
GatewayPorts no
Match User root
AuthorizedKeysFile {AUTHORIZED_KEYS}
AuthorizedKeysCommand none
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxSessions 64
Match all
"""

# As the image's nodeadm would write it, but for: the CNI plugin set has no `loopback`, so containerd sets lo up
# itself; layers are kept, because the image cache refers to them; one directory of registry hosts instead of nodeadm's list
# of two, which containerd takes for one name since it pulls by its transfer service (2.1 to 2.2.9, image_pull.go): with it
# no mirror is ever found. On images with NVIDIA's container toolkit the boot
# script puts that runtime in runc's place, which nodeadm does too (internal/containerd/runtime_config_nvidia.go, 2026-07).
CONTAINERD = """\
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
address = "/run/containerd/containerd.sock"

[plugins.'io.containerd.cri.v1.images']
discard_unpacked_layers = false

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "localhost/kubernetes/pause:latest"

[plugins.'io.containerd.cri.v1.images'.registry]
config_path = "/etc/containerd/certs.d"

[plugins.'io.containerd.cri.v1.runtime']
enable_cdi = true

[plugins.'io.containerd.cri.v1.runtime'.containerd]
default_runtime_name = "runc"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = "/usr/sbin/runc"
SystemdCgroup = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/net.d"
use_internal_loopback = true
"""

# What containers inherit. The image's unit says infinity, and programs that close every possible file
# descriptor then take minutes; nodeadm sets the same numbers by a base runtime spec.
CONTAINERD_DROP_IN = """\
[Service]
LimitNOFILE=65536:1048576
"""

# No DISABLE_HTTP2 here: with it a kubelet closes all of its connections whenever a heartbeat times out, so also those
# that wait at kip-api.socket, and each minute of waiting adds to the requests that come at once in the end. What it
# is for cannot happen: the kubelet's peer is on this machine, and sshd ends a tunnel whose other end is silent
# within 40 s.
# nvidia-kmod-load is of the NVIDIA images, and loads the driver. Started before it, the device plugin would fail, and be
# tried again after 10, 20, 40 s.
KUBELET_DROP_IN = """\
[Unit]
After=kip-api.socket nvidia-kmod-load.service
Wants=kip-api.socket
StartLimitIntervalSec=0
[Service]
Restart=always
RestartSec=1
"""

BOOT_SERVICE = f"""\
[Unit]
Description=Make this machine a cell of Kip
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={PROGRAMS}/boot
"""

# Without an end: a volume that cannot be reached now may be later, and nobody waits for this unit but a kubelet whose
# layers are on it.
VOLUME_SERVICE = f"""\
[Unit]
Description=Mount the image cache
[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutStartSec=infinity
ExecStart={PROGRAMS}/mount-volume
"""

# Begins with the boot script, and neither waits for the other.
BOOT_WITH_VOLUME = """\
[Unit]
Wants=kip-volume.service
"""

# After a reboot containers would see empty directories in the place of layers that are not mounted yet.
KUBELET_AFTER_LAYERS = f"""\
[Service]
ExecStartPre=/bin/sh -c '[ ! -e {LAYERS} ] || systemctl start kip-volume.service'
TimeoutStartSec=infinity
"""

# Requests wait in this socket until the tunnel is there, so the kubelet starts while the operator still dials. Refused,
# it would back off by up to 30 s for each kind of object that it watches. Held for two minutes, kubelet 1.36 asked
# for everything within 0.1 s of the tunnel, and likewise after outages of 3 to 60 s; what had timed out meanwhile
# (a heartbeat each ten seconds) came first and did no harm.
API_SOCKET = f"""\
[Unit]
Description=Holds the kubelet's requests until the operator is connected
[Socket]
ListenStream=127.0.0.1:{HELD_API_PORT}
TriggerLimitIntervalSec=0
"""

# When the tunnel goes, all connections go with it; then this service ends and the socket holds again.
API_SERVICE = f"""\
[Unit]
Description=The kubelet's requests to the operator's tunnel
Requires=kip-api.socket
After=kip-api.socket
StartLimitIntervalSec=0
[Service]
ExecStartPre={PROGRAMS}/wait-for-tunnel
ExecStart=/usr/lib/systemd/systemd-socket-proxyd --exit-idle-time=200ms --connections-max=1024 127.0.0.1:{API_PORT}
TimeoutStartSec=infinity
"""

DEAD_MAN_SERVICE = f"""\
[Unit]
Description=Power off if the operator has been away for too long
[Service]
Type=oneshot
ExecStart={PROGRAMS}/dead-man-switch
"""

DEAD_MAN_TIMER = """\
[Unit]
Description=Look after the operator every ten seconds
[Timer]
OnActiveSec=10
OnUnitActiveSec=10
AccuracySec=1
"""


def authorized_keys(options: BootstrapOptions) -> str:
    """The operator may run commands, be called at the API's port and call the kubelet's; nobody may do anything else."""
    return (
        f'restrict,port-forwarding,permitlisten="127.0.0.1:{API_PORT}",permitopen="127.0.0.1:{KUBELET_PORT}" '
        f"{options.operator_public_key.strip()}\n"
    )
