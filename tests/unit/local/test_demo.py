"""The demonstration: commands that are really run, a story that stops at the first wrong answer, no world lost."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from rich.console import Console

from kip.local import lifecycle
from kip.local.cli import local
from kip.local.demo import aftermath, demonstration, story
from kip.local.demo.demonstration import Demonstration, kip_command
from kip.local.demo.stage import CommandFailed, Stage
from kip.local.lifecycle import PartStatus
from kip.local.world import World, WorldError


class _Told:
    """A stage, and what was printed on it."""

    def __init__(self) -> None:
        self.console = Console(file=io.StringIO(), width=40)
        self.stage = Stage(self.console, os.environ)

    @property
    def text(self) -> str:
        return self.console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture
def told() -> _Told:
    return _Told()


def test_a_command_is_shown_before_its_output(told: _Told) -> None:
    assert told.stage.run("echo one; echo two >&2") == "one\ntwo"
    assert told.text == "\n$ echo one; echo two >&2\none\ntwo\n"


def test_a_long_line_is_never_wrapped(told: _Told) -> None:
    told.stage.run(f"echo {'x' * 200}")
    assert "x" * 200 in told.text


def test_a_watch_is_ended_at_the_line_that_is_waited_for(told: _Told) -> None:
    seen = told.stage.run("yes 'web 1/1 Running'", until=story.is_ready)
    assert seen == "web 1/1 Running"


@pytest.mark.parametrize(
    ("command", "until", "seconds", "said"),
    [
        ("false", None, 10, "`false` failed with exit code 1"),
        ("sleep 60", None, 0.1, "`sleep 60` did not end within 0.1 s"),
        ("echo web 0/1 Pending", story.is_ready, 10, "ended before what was expected came"),
        ("sleep 60", story.is_ready, 0.1, "did not end within 0.1 s"),
    ],
)
def test_what_did_not_go_well_is_named(
    told: _Told, command: str, until: Callable[[str], bool] | None, seconds: float, said: str
) -> None:
    with pytest.raises(CommandFailed, match=said):
        told.stage.run(command, until=until, seconds=seconds)


def test_asking_shows_nothing_and_tells_why_it_failed(told: _Told) -> None:
    assert told.stage.ask("echo yes") == "yes"
    with pytest.raises(CommandFailed, match="no such pod"):
        told.stage.ask("echo no such pod >&2; exit 1")
    assert told.text == ""


@pytest.mark.parametrize(
    ("line", "ready"),
    [
        ("web    1/1     Running   0          7s", True),
        ("web    0/1     Running   0          7s", False),
        ("web    0/1     Pending   0          7s", False),
        ("web    11/1    Running   0          7s", False),
    ],
)
def test_ready_is_one_of_one(line: str, ready: bool) -> None:
    assert story.is_ready(line) is ready


# The story, with a kubectl that answers what a cluster would.

_INSTANCES = "i-1   terminated   t3.small\ni-2   terminated   m5.large"
_CELLS = {
    "items": [
        {
            "metadata": {"name": "kip-1"},
            "spec": {"podNamespace": "demo"},
            "status": {"instanceID": "i-1"},
        },
        {
            "metadata": {"name": "kip-9"},
            "spec": {"podNamespace": "other"},
            "status": {"instanceID": "i-9"},
        },
    ]
}


class _Cluster(Stage):
    """Answers each command by the first of its words that is known."""

    def __init__(self, **changed: str) -> None:
        super().__init__(Console(file=io.StringIO()), {})
        self.commands: list[str] = []
        self._answers = {
            "http://web/fetch": "hello from toolbox",
            "wget": "hostname: web",
            "get pod": "1/1 Running",
            "events": "CellLaunched",
            "get namespace": "",
            "-o json": json.dumps(_CELLS),
            "local instances": _INSTANCES,
            **changed,
        }

    def run(self, command: str, *, until: Callable[[str], bool] | None = None, seconds: float = 90) -> str:
        self.commands.append(command)
        answer = next((text for part, text in self._answers.items() if part in command), "")
        assert until is None or until(answer), f"{command} would never end"
        return answer

    def ask(self, command: str, seconds: float = 90) -> str:
        return self.run(command)


def _setting(*, boots: bool = True) -> story.Setting:
    return story.Setting(node="kip-provider-0", kip="kip", world="", boots=boots)


def test_the_story_ends_with_every_cell_of_its_own_gone() -> None:
    cluster = _Cluster()
    story.tell(cluster, _setting())
    assert "kubectl wait --for=delete cells kip-1 --timeout=60s" in cluster.commands
    assert cluster.commands[-1] == "kip local instances"


def test_what_an_earlier_one_left_is_removed_first() -> None:
    cluster = _Cluster(**{"get namespace": "demo Active 3m"})
    story.tell(cluster, _setting())
    assert cluster.commands[1] == "kubectl delete namespace demo"


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"wget": "wget: bad address"}, "was expected to answer 'hostname: web'"),
        ({"http://web/fetch": "dial tcp: no route"}, "was expected to answer 'hello from toolbox'"),
        ({"local instances": "i-1   running   t3.small"}, "EC2 still has i-1"),
    ],
)
def test_the_story_stops_at_a_wrong_answer(answers: dict[str, str], said: str) -> None:
    with pytest.raises(CommandFailed, match=said):
        story.tell(_Cluster(**answers), _setting())


def test_where_nothing_boots_nothing_is_asked_of_a_container() -> None:
    cluster = _Cluster()
    story.tell(cluster, _setting(boots=False))
    assert not [command for command in cluster.commands if "exec" in command or "logs" in command]
    assert any("events --for pod/web" in command for command in cluster.commands)


def test_the_manifests_select_the_virtual_node_and_say_what_they_need() -> None:
    for name in ("web.yaml", "toolbox.yaml"):
        pod, service = yaml.safe_load_all(story.manifest(name).read_text())
        assert pod["spec"]["nodeSelector"] == {"type": "virtual-kubelet"}
        assert pod["spec"]["tolerations"][0]["key"] == "virtual-kubelet.io/provider"
        assert pod["spec"]["containers"][0]["resources"]["requests"].keys() == {"cpu", "memory"}
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()


def test_paths_are_said_as_seen_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert story.shortest(tmp_path / "a" / "b") == Path("a/b")
    assert story.shortest(Path("/etc/hosts")) == Path("/etc/hosts")


# Around the story.


class _Worlds:
    """Stands in for `kip.local.lifecycle`: which worlds were taken down."""

    def __init__(self) -> None:
        self.down: list[str] = []
        self.trouble: BaseException | None = None

    def bring_up(self, name: str, *_: object, **__: object) -> World:
        if self.trouble is not None:
            raise self.trouble
        return World.open(name)

    def take_down(self, name: str, *_: object) -> bool:
        self.down.append(name)
        return True


@pytest.fixture
def worlds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Worlds:
    monkeypatch.setenv("KIP_LOCAL_STATE", str(tmp_path / "states"))
    monkeypatch.setenv("KIP_KUBE_BIN_DIR", str(tmp_path / "bin"))
    monkeypatch.delenv("CI", raising=False)
    worlds = _Worlds()
    monkeypatch.setattr(lifecycle, "up", worlds.bring_up)
    monkeypatch.setattr(lifecycle, "down", worlds.take_down)
    monkeypatch.setattr(demonstration, "tell", lambda *_: None)
    return worlds


def _demo(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(local, ["demo", *arguments], catch_exceptions=False)
    return result.exit_code, result.output


def _goes_wrong(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def tell(*_: object) -> None:
        raise error

    monkeypatch.setattr(demonstration, "tell", tell)
    monkeypatch.setattr(aftermath, "tell", lambda *_: None)


def test_a_world_of_its_own_is_taken_down(worlds: _Worlds) -> None:
    assert _demo()[0] == 0
    assert worlds.down == ["kip"]


def test_a_kept_world_is_left_with_the_lines_to_paste(worlds: _Worlds, tmp_path: Path) -> None:
    code, output = _demo("--keep", "--name", "other")
    assert (code, worlds.down) == (0, [])
    lines = output.splitlines()
    assert f"export KUBECONFIG={tmp_path}/states/other/admin.kubeconfig" in lines
    assert any(line.startswith(f'export PATH="$PATH:{tmp_path}/bin"') for line in lines)
    assert any("local down --name other" in line for line in lines)


def test_a_kept_world_is_still_the_demonstrations_to_take_down(worlds: _Worlds) -> None:
    _demo("--keep")
    _demo()
    assert worlds.down == ["kip"]


def test_a_world_that_somebody_brought_up_stays(worlds: _Worlds) -> None:
    World.open("kip")
    code, output = _demo()
    assert (code, worlds.down) == (0, [])
    assert "export KUBECONFIG=" in output


def test_after_a_failure_the_world_is_left_to_look_at(
    worlds: _Worlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    _goes_wrong(monkeypatch, CommandFailed("`kubectl get` failed with exit code 1"))
    code, output = _demo()
    assert (code, worlds.down) == (1, [])
    assert "`kubectl get` failed with exit code 1" in output
    assert "local down" in output


def test_in_a_ci_a_failure_leaves_nothing(worlds: _Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    _goes_wrong(monkeypatch, CommandFailed("no"))
    assert _demo()[0] == 1
    assert worlds.down == ["kip"]


def test_a_world_that_does_not_come_up_says_why(worlds: _Worlds) -> None:
    worlds.trouble = WorldError("Debian packages are missing; as root: apt-get install runc")
    code, output = _demo()
    assert code == 1
    assert "apt-get install runc" in output


def test_an_interrupted_one_leaves_nothing(worlds: _Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    _goes_wrong(monkeypatch, KeyboardInterrupt())
    assert _demo()[0] == 130
    assert worlds.down == ["kip"]


def test_interrupted_again_it_says_what_is_left(worlds: _Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    def again(*_: object) -> bool:
        raise KeyboardInterrupt

    _goes_wrong(monkeypatch, KeyboardInterrupt())
    monkeypatch.setattr(lifecycle, "down", again)
    code, output = _demo()
    assert code == 130
    assert "World 'kip' is left" in output


def test_without_root_it_says_what_cannot_be_shown(worlds: _Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    code, output = _demo()
    assert code == 0
    assert "no machine can be booted here" in output


def test_nothing_is_left_is_said_when_nothing_is(worlds: _Worlds) -> None:
    assert Demonstration("kip", Console(file=io.StringIO())).interrupted() == 130
    assert worlds.down == []


def test_kip_is_called_by_its_name_only_if_that_leads_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "venv").mkdir()
    kip = tmp_path / "venv" / "kip"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    assert kip_command() == f"{tmp_path}/venv/python -m kip"
    kip.touch(0o755)
    assert kip_command() == str(kip)
    monkeypatch.chdir(tmp_path)
    assert kip_command(relative=True) == "venv/kip"
    monkeypatch.setenv("PATH", str(tmp_path / "venv"))
    assert kip_command() == "kip"


def test_the_aftermath_names_what_is_not_ready(
    told: _Told, worlds: _Worlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [PartStatus("etcd", True, 7, None), PartStatus("operator", True, None, "not running")]
    monkeypatch.setattr(lifecycle, "status", lambda _: parts)
    aftermath.tell(told.stage, World.open("kip"))
    assert "\noperator: not running\n" in told.text
    assert "etcd:" not in told.text


def test_log_lines_are_made_readable() -> None:
    line = json.dumps(
        {"time": "t", "level": "warning", "message": "cell lost", "logger": "kip.cells", "cell": "kip-1"}
    )
    assert aftermath.readable(line) == "t warning cell lost cell=kip-1"
    assert aftermath.readable("plain text") == "plain text"
    assert aftermath.readable("[1]") == "[1]"


def test_a_log_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    assert aftermath.last_lines(tmp_path / "operator.log") == [
        "(it cannot be read: No such file or directory)"
    ]
