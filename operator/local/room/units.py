"""The text files of the machine image: systemd units as on the EKS AL2023 AMI, and the lab's two wrappers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

LIBRARY = "/usr/libexec/kip-room"  # what the image has and an AMI has not

# As cloud-init's own on Amazon Linux: before sshd, and not before sysinit.target (that is Debian's).
_CLOUD_INIT = f"""\
[Unit]
Description=Initial cloud-init job, played by the machine room
DefaultDependencies=no
After=local-fs.target systemd-tmpfiles-setup.service
Before=network-online.target sshd.service systemd-user-sessions.service
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
Environment=PYTHONPATH={LIBRARY}/lib PYTHONDONTWRITEBYTECODE=1
ExecStart={LIBRARY}/python -m kip.local.room.cloudinit init
TimeoutSec=0
KillMode=process
TasksMax=infinity
"""

_CLOUD_FINAL = f"""\
[Unit]
Description=Execute cloud user/final scripts, played by the machine room
After=network-online.target cloud-init.service
Wants=network-online.target cloud-init.service

[Service]
Type=oneshot
RemainAfterExit=yes
Environment=PYTHONPATH={LIBRARY}/lib PYTHONDONTWRITEBYTECODE=1
ExecStart={LIBRARY}/python -m kip.local.room.cloudinit final
TimeoutSec=0
KillMode=process
TasksMax=infinity
"""

_SSHD = """\
[Unit]
Description=OpenSSH server daemon
Wants=cloud-init.service
After=network.target cloud-init.service
StartLimitIntervalSec=0

[Service]
Type=notify
RuntimeDirectory=sshd
RuntimeDirectoryPreserve=yes
ExecStart=/usr/sbin/sshd -D
ExecReload=/bin/kill -HUP $MAINPID
KillMode=process
Restart=on-failure
RestartSec=1s
"""

_CONTAINERD = """\
[Unit]
Description=containerd container runtime
After=network.target local-fs.target

[Service]
Type=notify
Slice=runtime.slice
ExecStart=/usr/bin/containerd
Delegate=yes
KillMode=process
Restart=always
RestartSec=5
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
OOMScoreAdjust=-999
"""

# EnvironmentFile has no "-": without the file, which nodeadm or user data writes, the unit fails.
_KUBELET = """\
[Unit]
Description=Kubernetes Kubelet
After=containerd.service
Wants=containerd.service

[Service]
Slice=runtime.slice
EnvironmentFile=/etc/eks/kubelet/environment
ExecStartPre=/sbin/iptables -P FORWARD ACCEPT -w 5
ExecStart=/usr/bin/kubelet $NODEADM_KUBELET_ARGS
Restart=on-failure
RestartForceExitStatus=SIGPIPE
RestartSec=5
KillMode=process
CPUAccounting=true
MemoryAccounting=true
"""

_RUNTIME_SLICE = """\
[Unit]
Description=Kubernetes and container runtime slice
DefaultDependencies=no
Before=slices.target
"""

# EC2's console shows systemd's status lines; here the failed unit's last lines go to the console's file.
_FAILURE_TO_CONSOLE = """\
[Unit]
Description=Tell the console that %i failed
DefaultDependencies=no

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo "[FAILED] %i"; journalctl --unit=%i --lines=20 --no-pager --output=cat'
StandardOutput=append:/var/log/cloud-init-output.log
"""
_ON_FAILURE = "[Unit]\nOnFailure=failure-to-console@%n.service\n"

_JOURNAL = "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\n"

_SSHD_CONFIG = """\
Include /etc/ssh/sshd_config.d/*.conf
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
# On the AMI this is yes; here PAM's session modules would be the host's.
UsePAM no
X11Forwarding no
Subsystem sftp internal-sftp
"""

# What no machine needs and what would cost time, reach for the host's hardware or wait for a console.
_MASKED = """
apt-daily-upgrade.timer apt-daily.timer dev-hugepages.mount dpkg-db-backup.timer e2scrub_all.timer
e2scrub_reap.service fstrim.timer getty.target kmod-static-nodes.service ldconfig.service
logrotate.timer man-db.timer proc-sys-fs-binfmt_misc.automount sys-fs-fuse-connections.mount
sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount
systemd-ask-password-console.path systemd-ask-password-wall.path systemd-binfmt.service
systemd-firstboot.service systemd-hwdb-update.service systemd-journald-audit.socket
systemd-machine-id-commit.service systemd-modules-load.service
systemd-networkd.service systemd-pcrphase-sysinit.service systemd-pcrphase.service
systemd-random-seed.service systemd-repart.service systemd-resolved.service systemd-sysusers.service
systemd-timesyncd.service systemd-tmpfiles-setup-dev.service systemd-udev-trigger.service
systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udevd.service
systemd-update-done.service systemd-update-utmp-runlevel.service systemd-update-utmp.service
"""


def etc_files() -> Mapping[str, str]:
    """Text files below `/etc` of the image."""
    units = {
        "cloud-init.service": _CLOUD_INIT,
        "cloud-final.service": _CLOUD_FINAL,
        "sshd.service": _SSHD,
        "containerd.service": _CONTAINERD,
        "kubelet.service": _KUBELET,
        "runtime.slice": _RUNTIME_SLICE,
        "failure-to-console@.service": _FAILURE_TO_CONSOLE,
        "service.d/10-console.conf": _ON_FAILURE,
        # The same name in the more special directory: the unit that tells failures does not tell its own.
        "failure-to-console@.service.d/10-console.conf": "",
    }
    return {f"systemd/system/{name}": text for name, text in units.items()} | {
        "systemd/journald.conf.d/room.conf": _JOURNAL,
        "ssh/sshd_config": _SSHD_CONFIG,
        "fstab": "",
        "machine-id": "",
    }


def etc_links() -> Mapping[str, str]:
    """Symbolic links below `/etc` of the image and where they point."""
    system = "/usr/lib/systemd/system"
    enabled = ("cloud-init.service", "cloud-final.service", "sshd.service")
    links = {f"multi-user.target.wants/{name}": f"../{name}" for name in enabled}
    links |= {"default.target": f"{system}/multi-user.target"}
    links |= dict.fromkeys(_MASKED.split(), "/dev/null")
    return {f"systemd/system/{name}": target for name, target in links.items()}


def wrappers(python: Path) -> Mapping[str, str]:
    """Programs of the image below `/usr` that are scripts, by path.

    Args:
        python: the interpreter that plays cloud-init, as the machine sees it.
    """
    library = LIBRARY.removeprefix("/usr/")
    return {
        "bin/containerd": _CONTAINERD_WRAPPER,
        "bin/kubelet": _KUBELET_WRAPPER,
        f"{library}/containerd.toml": _CONTAINERD_SETTINGS,
        f"{library}/python": f'#!/bin/sh\nexec {python} "$@"\n',
    }


# Without CAP_SYS_RESOURCE runc cannot lower a process's oom_score_adj, and says "can't get final child's PID from
# pipe". The image's setting is merged over whatever configuration containerd is started with.
_CONTAINERD_WRAPPER = f"""\
#!/bin/sh
# Starts containerd with what this host needs besides the machine's own configuration.
capabilities=$(sed -n 's/^CapBnd:\\s*//p' /proc/self/status)
case "${{1:-}}" in [!-]*) exec {LIBRARY}/containerd "$@" ;; esac
[ $((0x$capabilities >> 24 & 1)) = 1 ] && exec {LIBRARY}/containerd "$@"
given=/etc/containerd/config.toml
previous=
for word; do
    case "$previous" in --config | -c) given=$word ;; esac
    case "$word" in --config=* | -c=*) given=${{word#*=}} ;; esac
    previous=$word
done
[ -e "$given" ] && imports="\\"$given\\", "
mkdir -p /run/kip-room
echo "version = 3
imports = [$imports\\"{LIBRARY}/containerd.toml\\"]" >/run/kip-room/containerd.toml
exec {LIBRARY}/containerd "$@" --config /run/kip-room/containerd.toml
"""
_CONTAINERD_SETTINGS = """\
version = 3
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
"""

_KUBELET_WRAPPER = f"""\
#!/bin/sh
# From 1.35 on a kubelet refuses to run on a host with cgroup v1.
[ -e /sys/fs/cgroup/cgroup.controllers ] && exec {LIBRARY}/kubelet "$@"
exec {LIBRARY}/kubelet "$@" --fail-cgroupv1=false
"""
