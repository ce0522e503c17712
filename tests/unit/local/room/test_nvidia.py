"""The stand-in for NVIDIA's container runtime, run as it is but for where it looks."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from kip.local.room import nvidia


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "dev").mkdir()
    (tmp_path / "bundle").mkdir()
    for name in ("null", *(Path(path).name for path in nvidia.device_nodes(3))):
        (tmp_path / "dev" / name).touch()
    return tmp_path / "bundle"


def run(bundle: Path, *arguments: str, env: tuple[str, ...] = ()) -> tuple[list[str], list[str]]:
    """The devices that the container gets, and what runc is told."""
    config = {"process": {"env": ["PATH=/bin", *env]}, "linux": {"devices": [], "resources": {}}}
    (bundle / "config.json").write_text(json.dumps(config))
    script = nvidia.RUNTIME_SCRIPT.replace("/dev/nvidia[", f"{bundle.parent}/dev/nvidia[")
    script = script.replace("#/dev/nvidia", f"#{bundle.parent}/dev/nvidia").replace("/usr/sbin/runc", "echo")
    done = subprocess.run(
        ["sh", "-c", script, "runtime", *arguments], capture_output=True, text=True, check=True
    )
    linux = json.loads((bundle / "config.json").read_text())["linux"]
    assert len(linux["resources"].get("devices", [])) == (1 if linux["devices"] else 0)
    return [device["path"] for device in linux["devices"]], done.stdout.split()


@pytest.mark.parametrize(
    ("visible", "devices"),
    [
        (("NVIDIA_VISIBLE_DEVICES=all",), ["nvidia0", "nvidia1", "nvidia2", "nvidiactl"]),
        (("NVIDIA_VISIBLE_DEVICES=GPU-1",), ["nvidia1", "nvidiactl"]),
        (
            ("NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_VISIBLE_DEVICES=GPU-0,2"),
            ["nvidia0", "nvidia2", "nvidiactl"],
        ),
        (("NVIDIA_VISIBLE_DEVICES=void",), []),
        (("NVIDIA_VISIBLE_DEVICES=",), []),
        (("OF=NVIDIA_VISIBLE_DEVICES=all",), []),
        ((), []),
    ],
)
def test_a_container_gets_the_devices_that_its_environment_names(
    bundle: Path, visible: tuple[str, ...], devices: list[str]
) -> None:
    found, told = run(bundle, "--root", "/r", "create", "--bundle", str(bundle), "id", env=visible)
    assert found == [f"/dev/{name}" for name in devices]
    assert told == ["--root", "/r", "create", "--bundle", str(bundle), "id"]


def test_only_what_creates_a_container_brings_devices_into_it(bundle: Path) -> None:
    visible = ("NVIDIA_VISIBLE_DEVICES=all",)
    assert run(bundle, "kill", "id", "9", env=visible) == ([], ["kill", "id", "9"])
    assert run(bundle, "run", f"--bundle={bundle}", "id", env=visible)[0]


def test_a_machine_without_gpus_has_no_device_of_theirs() -> None:
    assert nvidia.device_nodes(0) == []
