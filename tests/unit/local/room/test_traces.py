"""Finding what a machine left. What needs root is tried by the e2e tests, on real machines."""

from __future__ import annotations

import json
from pathlib import Path

from kip.local.room import traces


def test_mounts_are_found_by_their_place_the_deepest_first():
    every = traces.mounts_below(Path("/"))
    assert every[-1] == Path("/")
    assert Path("/proc") in every
    assert Path("/") not in traces.mounts_below(Path("/proc"))


def test_mounts_below_a_directory_are_found_by_another_name_of_it(tmp_path):
    (tmp_path / "link").symlink_to("/proc")
    assert traces.mounts_below(tmp_path / "link") == traces.mounts_below(Path("/proc")) != []


def test_where_losetup_is_missing_there_are_no_loop_devices(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert traces.loop_devices_below(tmp_path) == []
    traces.detach_loops_below(tmp_path)


def test_a_cgroup_that_nobody_made_has_no_directory_and_no_process():
    assert traces.cgroup_directories("kip-local-none/i-none") == []
    assert traces.processes("kip-local-none/i-none") == set()


def test_a_loop_device_that_is_losing_its_file_is_nobodys(tmp_path, monkeypatch):
    listing = {"loopdevices": [{"name": "/dev/loop7", "back-ino": None, "back-maj:min": None}]}
    monkeypatch.setattr(traces, "_answer", lambda *command: json.dumps(listing))
    assert traces.loop_devices_below(tmp_path) == []
