"""The bundle that runc gets."""

from __future__ import annotations

import json
from pathlib import Path

from kip.local.room.bundle import Layout, capability_names, config
from kip.local.room.hardware import Hardware

_LAYOUT = Layout(
    directory=Path("/state/cells/i-1"),
    usr_below=(Path("/state/ami/usr"), Path("/usr")),
    etc_below=(Path("/state/ami/etc"),),
    namespace=Path("/state/netns/i-1"),
    cgroup="kip-local-x/i-1",
    shown=(Path("/opt/python"),),
    volume=Path("/state/volume"),
)


def made() -> dict:
    return config(_LAYOUT, Hardware(1, 2048), "ip-10-0-0-1", capability_mask=0b1001)


def test_it_is_json_and_names_only_the_machines_own_places():
    text = json.dumps(made())
    assert '"/kip-local-x/i-1"' in text
    assert "/state/netns/i-1" in text


def test_the_worlds_volume_is_where_its_mount_program_looks_for_it():
    [found] = [mount for mount in made()["mounts"] if mount["source"] == "/state/volume"]
    assert found["destination"] == "/run/kip-room/volume"
    assert "rw" in found["options"]


def test_the_image_is_above_the_host_and_the_machines_layer_above_both():
    overlays = {
        mount["destination"]: mount["options"] for mount in made()["mounts"] if mount["type"] == "overlay"
    }
    assert overlays["/usr"] == [
        "lowerdir=/state/ami/usr:/usr",
        "upperdir=/state/cells/i-1/usr-upper",
        "workdir=/state/cells/i-1/usr-work",
    ]
    assert overlays["/etc"][0] == "lowerdir=/state/ami/etc"  # nothing of the host's /etc


def test_limits_are_the_instance_types():
    resources = made()["linux"]["resources"]
    assert resources["memory"] == {"limit": 2048 * 1024 * 1024}
    assert resources["cpu"] == {"quota": 100_000, "period": 100_000}


def test_the_kernel_log_is_not_the_hosts():
    kmsg = next(device for device in made()["linux"]["devices"] if device["path"] == "/dev/kmsg")
    assert (kmsg["major"], kmsg["minor"]) == (1, 3)


def test_gpus_are_null_devices():
    hardware = Hardware(1, 2048, gpus=2)
    devices = config(_LAYOUT, hardware, "ip-10-0-0-1", capability_mask=0)["linux"]["devices"]
    gpus = {
        device["path"]: (device["major"], device["minor"]) for device in devices if "nvidia" in device["path"]
    }
    assert gpus == dict.fromkeys(("/dev/nvidia0", "/dev/nvidia1", "/dev/nvidiactl"), (1, 3))
    assert not [device for device in made()["linux"]["devices"] if "nvidia" in device["path"]]


def test_what_the_interpreter_needs_is_read_only():
    shown = next(mount for mount in made()["mounts"] if mount["destination"] == "/opt/python")
    assert "ro" in shown["options"]


def test_a_machine_has_the_hosts_capabilities_and_no_others():
    assert capability_names(1 << 21 | 1) == ["CAP_CHOWN", "CAP_SYS_ADMIN"]
    assert made()["process"]["capabilities"]["bounding"] == ["CAP_CHOWN", "CAP_FOWNER"]
