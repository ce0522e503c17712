"""The machine image ("AMI"): what every machine starts from, prepared once per world.

A directory with `usr` (laid over the host's /usr), `etc` (the machine's whole /etc, nothing of the host's but
what a Linux system cannot do without) and `containerd` (a /var/lib/containerd that holds the world's images).
It is named after a digest of all that goes into it, so a changed ingredient gives a new image beside the old.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from kip.local.room import cloudinit, debs, units, userdata
from kip.local.room.store import import_images
from kip.local.world import WorldError

PAUSE_IMAGE = "localhost/kubernetes/pause:latest"  # the name on the EKS AMI; pinned there, too

_BINARIES = ("containerd", "containerd-shim-runc-v2", "ctr", "kubelet", "mount.nfs4")
_WRAPPED = frozenset({"containerd", "kubelet"})
_MOUNT_HELPERS = frozenset({"mount.nfs4"})  # where mount(8) looks for them

# What of the host's /etc a machine needs: name services, the loader's cache, certificates, shells.
_FROM_HOST = """
alternatives bash.bashrc ca-certificates.conf crypto-policies dbus-1 debian_version ethertypes gai.conf
host.conf inputrc iproute2 ld.so.cache ld.so.conf ld.so.conf.d localtime locale.conf login.defs
netconfig networks nsswitch.conf os-release pam.conf pam.d pki profile protocols rpc security services
shells skel ssl terminfo timezone xattr.conf
"""

# AL2023's cloud-init makes this user; root may not log in with the instance's key pair.
_USER = ("ec2-user", 1000, "/home/ec2-user")
# Users of services whose package may have been unpacked only: its own script, which adds them, did not run.
_SERVICE_USERS = {"sshd": 971, "messagebus": 972, "systemd-network": 974}
_SERVICE_GROUPS = {"systemd-journal": 973, "messagebus": 972, "systemd-network": 974}
_HIGHEST_SYSTEM_ID = 999
_NOBODY_ID = 65534


@dataclass(frozen=True)
class Sources:
    """What goes into an image.

    Attributes:
        binaries: containerd, containerd-shim-runc-v2, ctr, kubelet and mount.nfs4, each by name.
        images: tar archives of container images, by image name.
    """

    binaries: Mapping[str, Path]
    images: Mapping[str, Path]


@dataclass(frozen=True)
class Ami:
    """A prepared machine image."""

    directory: Path

    @property
    def usr(self) -> Path:
        """Laid over the host's /usr."""
        return self.directory / "usr"

    @property
    def etc(self) -> Path:
        """The machine's /etc."""
        return self.directory / "etc"

    @property
    def containerd(self) -> Path:
        """Copied to each machine's /var/lib/containerd: overlayfs snapshots need a disk below them."""
        return self.directory / "containerd"


def interpreter() -> Path:
    """This process's Python, links resolved: machines play their user data with it."""
    return Path(sys.executable).resolve()


def interpreter_mount() -> Path | None:
    """The directory to show to machines so that the interpreter runs there; None if /usr has it all."""
    prefix = Path(sys.base_prefix).resolve()
    return None if prefix.is_relative_to("/usr") else prefix


def prepare(directory: Path, sources: Sources) -> Ami:
    """The image of these sources below `directory`, built if it is not there. Takes about two seconds.

    Raises:
        WorldError: a binary is missing, a package cannot be had, an image cannot be imported.
    """
    if absent := [name for name in _BINARIES if name not in sources.binaries]:
        raise WorldError(f"the machine image needs {', '.join(absent)}, which were not built")
    ami = Ami(directory / digest(sources))
    if ami.directory.is_dir():
        return ami
    unfinished = directory / f"{ami.directory.name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    _build(Ami(unfinished), sources)
    unfinished.rename(ami.directory)
    return ami


def digest(sources: Sources) -> str:
    """A name for what goes into the image: our own files, binaries (by size and time), images (by content)."""
    parts = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        parts.update(file.read_bytes())
    for name, path in sorted(sources.binaries.items()):
        facts = path.stat()
        parts.update(f"{name} {path} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    for name, path in sorted(sources.images.items()):
        parts.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    parts.update(f"{interpreter()} {debs.missing_packages()}".encode())
    return parts.hexdigest()[:16]


def _build(ami: Ami, sources: Sources) -> None:
    ami.usr.mkdir()
    ami.etc.mkdir()
    if missing := debs.missing_packages():
        debs.extract(missing, ami.directory)
        _merge_usr(ami.directory)
        _choose_iptables(ami.usr)
    _copy_from_host(ami.etc)
    _write_accounts(ami.etc)
    _write_texts(ami)
    _add_binaries(ami.usr, sources.binaries)
    import_images(ami.containerd, sources.binaries, sources.images, pinned={PAUSE_IMAGE})


def _merge_usr(directory: Path) -> None:
    """Moves what packages have in /lib, /bin, /sbin to where it is on a merged system; drops the rest."""
    for name in ("bin", "sbin", "lib", "lib64"):
        if (directory / name).is_dir():
            shutil.copytree(directory / name, directory / "usr" / name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(directory / name)
    for other in directory.iterdir():
        if other.name not in {"usr", "etc"}:
            shutil.rmtree(other)


def _choose_iptables(usr: Path) -> None:
    """Links the names to the nft variant, which a package's own script does through /etc/alternatives."""
    if (usr / "sbin/xtables-nft-multi").exists():
        for name in ("iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save"):
            (usr / "sbin" / name).symlink_to("xtables-nft-multi")


def _copy_from_host(etc: Path) -> None:
    for name in _FROM_HOST.split():
        source, target = Path("/etc") / name, etc / name
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        elif source.exists():
            shutil.copy2(source, target, follow_symlinks=False)


def _write_accounts(etc: Path) -> None:
    name, number, home = _USER
    users = list(system_accounts(Path("/etc/passwd").read_text()))
    groups = list(system_accounts(Path("/etc/group").read_text()))
    users.append(f"{name}:x:{number}:{number}:EC2 Default User:{home}:/bin/bash")
    groups.append(f"{name}:x:{number}:")
    known_users, known_groups = ({line.split(":")[0] for line in lines} for lines in (users, groups))
    users += [
        f"{service}:x:{number}:{_NOBODY_ID}::/run:/usr/sbin/nologin"
        for service, number in _SERVICE_USERS.items()
        if service not in known_users
    ]
    groups += [
        f"{group}:x:{number}:" for group, number in _SERVICE_GROUPS.items() if group not in known_groups
    ]
    # "*" is no password; "!" would be a locked account, which sshd without PAM lets nobody into.
    shadow = [f"{user.split(':')[0]}:*:19000:0:99999:7:::" for user in users]
    for file, lines, mode in (("passwd", users, 0o644), ("group", groups, 0o644), ("shadow", shadow, 0o600)):
        (etc / file).write_text("\n".join(lines) + "\n")
        (etc / file).chmod(mode)


def system_accounts(text: str) -> Iterator[str]:
    """Lines of a passwd or group file that the system, not a person, owns."""
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) > 3 and fields[2].isdigit():
            number = int(fields[2])
            if number <= _HIGHEST_SYSTEM_ID or number == _NOBODY_ID:
                yield line


def _write_texts(ami: Ami) -> None:
    for name, text in units.etc_files().items():
        path = ami.etc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name, target in units.etc_links().items():
        path = ami.etc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target)
    for name in ("eks/kubelet", "kubernetes", "containerd/certs.d", "cni/net.d", "ssh/sshd_config.d"):
        (ami.etc / name).mkdir(parents=True, exist_ok=True)
    for name, text in units.wrappers(interpreter()).items():
        path = ami.usr / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)


def _add_binaries(usr: Path, binaries: Mapping[str, Path]) -> None:
    library = usr / units.LIBRARY.removeprefix("/usr/")
    places = dict.fromkeys(_WRAPPED, library) | dict.fromkeys(_MOUNT_HELPERS, usr / "sbin")
    for name in _BINARIES:
        _link_or_copy(binaries[name].resolve(), places.get(name, usr / "bin") / name)
    (usr / "sbin/mount.nfs").symlink_to("mount.nfs4")  # a kubelet mounts by the shorter name
    package = library / "lib/kip/local/room"
    package.mkdir(parents=True)
    for module in (cloudinit, userdata):
        shutil.copy2(Path(str(module.__file__)), package)
    modules = Path(yaml.__file__).parent
    shutil.copytree(modules, library / "lib/yaml", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    if not Path("/usr/bin/python3").exists():
        (usr / "bin/python3").symlink_to(interpreter())  # an AMI has one


def _link_or_copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    if not os.access(target, os.X_OK):
        target.chmod(0o755)
