"""The machine image's own programs, run as they are but for where they look."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

from kip.local.room import units

_ECHO = '#!/bin/sh\nprintf "%s\\n" "$@"\n'


def run(
    tmp_path: Path, name: str, *arguments: str, capabilities: str = "0", cgroup_v2: bool = False
) -> list[str]:
    """What the wrapped program is given; the wrapper's fixed paths are moved below the test's directory."""
    text = units.wrappers(Path("/usr/bin/python3"))[f"bin/{name}"]
    for path in (units.LIBRARY, "/run/kip-room", "/etc/containerd", "/proc/self/status", "/sys/fs/cgroup"):
        text = text.replace(path, f"{tmp_path}{path}")
    for path, content in {
        f"{units.LIBRARY}/{name}": _ECHO,
        "/proc/self/status": f"CapEff:\t0\nCapBnd:\t{capabilities}\n",
        "/etc/containerd/config.toml": "",
        "/sys/fs/cgroup/cgroup.controllers" if cgroup_v2 else "/sys/fs/cgroup/other": "",
    }.items():
        file = tmp_path / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        file.chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", text, "wrapper", *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_a_kubelet_is_told_to_accept_cgroup_v1_only_where_that_is_what_there_is(tmp_path):
    assert run(tmp_path / "1", "kubelet", "--a=b c") == ["--a=b c", "--fail-cgroupv1=false"]
    assert run(tmp_path / "2", "kubelet", "--a=b c", cgroup_v2=True) == ["--a=b c"]


def test_containerd_is_left_alone_where_root_may_everything(tmp_path):
    assert run(tmp_path, "containerd", "--log-level=debug", capabilities="000001ffffffffff") == [
        "--log-level=debug"
    ]


def test_a_command_of_containerd_is_left_alone(tmp_path):
    assert run(tmp_path, "containerd", "config", "dump") == ["config", "dump"]


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ([], "{}/etc/containerd/config.toml"),
        (["--config", "{}/own.toml"], "{}/own.toml"),
        (["--config={}/own.toml"], "{}/own.toml"),
        (["-c", "{}/own.toml"], "{}/own.toml"),
    ],
)
def test_the_labs_settings_come_over_the_given_configuration(tmp_path, arguments, given):
    (tmp_path / "own.toml").write_text("")
    arguments = [argument.format(tmp_path) for argument in arguments]
    told = run(tmp_path, "containerd", *arguments, capabilities="000001fffeffffff")
    merged = f"{tmp_path}/run/kip-room/containerd.toml"
    assert told == [*arguments, "--config", merged]
    assert tomllib.loads(Path(merged).read_text()) == {
        "version": 3,
        "imports": [given.format(tmp_path), f"{tmp_path}{units.LIBRARY}/containerd.toml"],
    }


def test_every_enabled_unit_is_one_of_the_image():
    files = units.etc_files()
    for link, target in units.etc_links().items():
        if target.startswith("../"):
            assert f"systemd/system/{target.removeprefix('../')}" in files, link
