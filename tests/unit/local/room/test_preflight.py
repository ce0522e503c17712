"""Saying before the first boot why there will be none."""

from __future__ import annotations

from pathlib import Path

import pytest

from kip.local.mounts import parse
from kip.local.room.preflight import allow_many_machines, file_system_of

_MOUNTS = """\
22 1 254:0 / / rw,relatime - overlay overlay rw
23 22 0:5 / /proc rw - proc proc rw
24 22 254:1 / /var/lib/docker\\040data rw shared:1 - ext4 /dev/vdb rw
25 22 0:9 / /mnt rw - ext4 /dev/vdc rw
26 25 0:9 / /mnt rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "file_system"),
    [
        ("/var/lib/kip-local", "overlay"),
        ("/var/lib/docker data/kip", "ext4"),
        ("/var/lib/docker data2", "overlay"),
        ("/mnt/x", "tmpfs"),
        ("/", "overlay"),
    ],
)
def test_the_innermost_mount_says_what_a_path_is_on(path, file_system):
    assert file_system_of(Path(path), parse(_MOUNTS)) == file_system


@pytest.mark.parametrize(("before", "after"), [("128\n", 1024), ("1024\n", 1024), ("8192\n", 8192)])
def test_the_limit_of_inotify_instances_is_raised_and_never_lowered(tmp_path, before, after):
    limit = tmp_path / "max_user_instances"
    limit.write_text(before)
    allow_many_machines(limit)
    assert int(limit.read_text()) == after


def test_a_limit_that_cannot_be_raised_is_told_and_no_reason_to_stop(tmp_path, caplog):
    allow_many_machines(tmp_path / "missing")
    assert "cannot be raised" in caplog.text
