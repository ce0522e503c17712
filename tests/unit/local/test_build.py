"""Programs are compiled once, whole or not at all."""

import os
import threading
from pathlib import Path

import pytest

from kip.local import build
from kip.local.build import CONTAINERD, COREDNS, KUBERNETES, Build, BuildError, ensure, go_suffices, program
from kip.local.progress import Silent


class Compiler:
    """Writes the program, counts how often, fails when told to."""

    def __init__(self) -> None:
        self.calls = 0
        self.error: BaseException | None = None

    def __call__(self, output: Path, log: Path) -> None:
        self.calls += 1
        (output / "tool").write_text("#!/bin/sh\n")
        if self.error:
            raise self.error
        (output / "tool").chmod(0o755)


@pytest.fixture
def compiler() -> Compiler:
    return Compiler()


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: Compiler) -> Build:
    monkeypatch.setenv("KIP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "_check_go", lambda _: None)
    return Build("tool", "v1", ("tool",), 1, "KIP_TEST_BIN_DIR", "facts", compiler)


def test_compiled_once(tool: Build, compiler: Compiler) -> None:
    directory = ensure(tool, Silent())
    assert ensure(tool, Silent()) == directory
    assert compiler.calls == 1
    assert os.access(program(tool, "tool"), os.X_OK)


@pytest.mark.parametrize("error", [BuildError("no"), KeyboardInterrupt()])
def test_an_interrupted_build_leaves_nothing_that_looks_finished(
    tool: Build, compiler: Compiler, error: BaseException
) -> None:
    compiler.error = error
    with pytest.raises(type(error)):
        ensure(tool, Silent())
    assert not tool.directory.exists()
    compiler.error = None
    assert (ensure(tool, Silent()) / "tool").exists()


def test_what_a_killed_build_left_is_not_taken_over(tool: Build) -> None:
    partial = tool.directory.with_name(f".{tool.directory.name}.partial")
    partial.mkdir(parents=True)
    (partial / "half").touch()
    assert sorted(path.name for path in ensure(tool, Silent()).iterdir()) == ["tool"]
    assert not partial.exists()


def test_two_at_the_same_time_compile_once(tool: Build, compiler: Compiler) -> None:
    threads = [threading.Thread(target=ensure, args=(tool, Silent())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert compiler.calls == 1


def test_other_sources_are_another_build(tool: Build) -> None:
    assert Build("tool", "v1", ("tool",), 1, "X", "other", Compiler()).directory != tool.directory


def test_ready_programs_replace_the_build(
    tool: Build, compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KIP_TEST_BIN_DIR", str(tmp_path))
    with pytest.raises(BuildError, match=f"KIP_TEST_BIN_DIR={tmp_path} has no executable tool"):
        ensure(tool, Silent())
    (tmp_path / "tool").touch(0o755)
    assert ensure(tool, Silent()) == tmp_path
    assert program(tool, "tool") == tmp_path / "tool"
    assert compiler.calls == 0


@pytest.mark.parametrize(
    ("answer", "suffices"),
    [
        ("go1.26.8\nauto\n", True),
        ("go1.30\nlocal\n", True),
        ("go1.26rc1\nlocal\n", True),
        ("go1.22.1\nauto\n", True),
        ("go1.22.1\nlocal\n", False),
        ("go1.19.8\n\n", False),
        ("devel go1.27-abc\n", True),
        ("", False),
    ],
)
def test_which_go_suffices(answer: str, suffices: bool) -> None:
    assert go_suffices(answer) is suffices


def test_a_host_without_go_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("KIP_CACHE_DIR", str(tmp_path / "cache"))
    for variable in (KUBERNETES.replacement, CONTAINERD.replacement, COREDNS.replacement):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(
        BuildError, match=r"(?s)needs Go 1\.26 .*golang-go.*`go` was not found.*KIP_KUBE_BIN_DIR"
    ):
        ensure(KUBERNETES, Silent())


def test_a_compilers_last_lines_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho 'main.go:1: undefined: x'\nexit 1\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(BuildError, match=r"(?s)go build failed .*undefined: x"):
        build.run_go(tmp_path / "log", "build", directory=tmp_path)


def test_kubernetes_is_one_program_under_the_name_of_each_component_but_the_kubelet(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    go.write_text('#!/bin/sh\nfor last; do out=$previous; previous=$last; done\n: > "$out"\n')
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    output = tmp_path / "out"
    output.mkdir()
    KUBERNETES.compile(output, tmp_path / "log")
    assert sorted(path.name for path in output.iterdir()) == sorted(["kube", *KUBERNETES.programs])
    assert {path.readlink().name for path in output.iterdir() if path.is_symlink()} == {"kube"}
    assert {path.name for path in output.iterdir() if not path.is_symlink()} == {"kube", "kubelet"}
