"""The commands: what they need, what they say when it is not there."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from kip.local import lifecycle
from kip.local.cli import local
from kip.local.lifecycle import PartStatus
from kip.local.world import World, WorldError


@pytest.fixture(autouse=True)
def _states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KIP_LOCAL_STATE", str(tmp_path / "states"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # which every command completes


@pytest.mark.parametrize("command", [["status"], ["kubectl", "get", "nodes"], ["logs", "aws"]])
def test_without_a_world_they_say_how_to_get_one(command: list[str]) -> None:
    result = CliRunner().invoke(local, command)
    assert result.exit_code == 1
    assert "there is no world 'kip': kip local up" in result.output


def test_programs_of_the_system_are_found_whatever_the_users_path_is() -> None:
    CliRunner().invoke(local, ["down"])
    assert {"/usr/sbin", "/sbin"} <= {*os.environ["PATH"].split(":")}


def test_down_without_a_world_is_fine() -> None:
    result = CliRunner().invoke(local, ["down", "--name", "other"])
    assert result.exit_code == 0
    assert "there is no world 'other'" in result.output


@pytest.mark.parametrize(
    "error",
    [
        WorldError("no port is left"),
        PermissionError("no port is left"),
        TimeoutError("no port is left"),
    ],
)
def test_what_a_user_can_change_is_no_traceback(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(lifecycle, "up", refuse)
    result = CliRunner().invoke(local, ["up"])
    assert result.exit_code == 1
    assert result.output == "Error: no port is left\n"


def test_a_wrong_name_is_refused() -> None:
    result = CliRunner().invoke(local, ["up", "--name", "No/Good"])
    assert result.exit_code == 1
    assert "world name 'No/Good'" in result.output


@pytest.mark.parametrize(
    ("part", "code"),
    [
        (PartStatus("etcd", True, 7, None), 0),
        (PartStatus("room", False, None, "not running"), 0),
        (PartStatus("etcd", True, None, "not running"), 1),
    ],
)
def test_status_fails_only_for_what_was_started(
    monkeypatch: pytest.MonkeyPatch, part: PartStatus, code: int
) -> None:
    World.open("kip")
    monkeypatch.setattr(lifecycle, "status", lambda _: [part])
    result = CliRunner().invoke(local, ["status"])
    assert result.exit_code == code
    assert part.name in result.output


def test_logs_of_an_unknown_part_names_those_there_are() -> None:
    world = World.open("kip")
    world.logs.mkdir()
    (world.logs / "etcd.log").touch()
    result = CliRunner().invoke(local, ["logs", "ectd"])
    assert result.exit_code == 1
    assert "there are: etcd" in result.output


def test_kubectl_gets_every_argument_as_it_was_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name in lifecycle.build.KUBERNETES.programs:
        (tmp_path / "bin" / name).touch(0o755)
    monkeypatch.setenv("KIP_KUBE_BIN_DIR", str(tmp_path / "bin"))
    world, calls = World.open("kip"), []
    monkeypatch.setattr(os, "execve", lambda *arguments: calls.append(arguments))
    CliRunner().invoke(local, ["kubectl", "get", "pods", "--help", "-o", "name"], catch_exceptions=False)
    [(program, arguments, environment)] = calls
    assert program == tmp_path / "bin" / "kubectl"
    assert arguments == ["kubectl", "get", "pods", "--help", "-o", "name"]
    assert environment["KUBECONFIG"] == str(world.kubeconfig)
