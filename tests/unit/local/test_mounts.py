"""Reading the kernel's table of mounts."""

from pathlib import Path

from kip.local.mounts import Mount, mounts, parse


def test_mount_points_with_spaces_are_read_as_they_are() -> None:
    line = r"36 35 98:0 /mnt1 /a\040b\134c rw,noatime master:1 - ext4 /dev/root rw,errors=continue"
    assert parse(line) == [Mount(Path("/a b\\c"), "ext4")]


def test_this_machine_has_a_proc() -> None:
    assert Mount(Path("/proc"), "proc") in mounts()
