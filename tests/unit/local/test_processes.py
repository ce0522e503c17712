"""Processes are started once, told apart from others, and found without their records."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from kip.local.processes import Command, Process, Processes, stop_all
from kip.local.world import World

SLEEP = Command("sleeper", ("sleep", "600"))


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    found = Processes(World("unit", tmp_path / "unit", IPv4Network("10.78.0.0/24"), False, {}))
    yield found
    stop_all(found.all(), grace=0)


def eventually(condition: Callable[[], bool], seen: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds} s: {seen()}"
        time.sleep(0.01)


def python(name: str, program: str) -> Command:
    return Command(name, (sys.executable, "-c", program))


def test_a_started_process_runs_and_is_stopped(processes: Processes) -> None:
    started = processes.start(SLEEP)
    assert processes.running("sleeper") == started
    processes.stop("sleeper")
    assert processes.running("sleeper") is None
    assert not started.alive
    assert not processes.was_started("sleeper")


def test_starting_again_leaves_it_alone_unless_its_command_changed(processes: Processes) -> None:
    first = processes.start(SLEEP)
    assert processes.start(SLEEP) == first
    other = processes.start(Command("sleeper", ("sleep", "601")))
    assert other != first
    assert not first.alive
    with_environment = processes.start(Command("sleeper", ("sleep", "601"), {"A": "B"}))
    assert not other.alive
    assert with_environment.environment()["A"] == "B"


def test_a_process_that_ended_is_not_running_though_nobody_took_its_status(processes: Processes) -> None:
    processes.start(Command("short", ("true",)))
    eventually(lambda: processes.running("short") is None, lambda: processes.running("short"))
    assert processes.was_started("short")


def test_it_outlives_its_starters_session(processes: Processes) -> None:
    started = processes.start(SLEEP)
    assert os.getsid(started.pid) == started.pid


def test_one_that_ignores_the_request_is_killed(processes: Processes) -> None:
    program = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    stubborn = processes.start(python("stubborn", program))
    eventually(lambda: processes.last_lines("stubborn") == ["up"], lambda: processes.last_lines("stubborn"))
    assert stubborn.stop(grace=0.1) is False
    assert not stubborn.alive


def test_a_recycled_process_id_is_neither_running_nor_stopped(processes: Processes) -> None:
    started = processes.start(SLEEP)
    former = Process(started.pid, started.started - 1)
    assert not former.alive
    assert former.stop(grace=0)
    assert started.alive


def test_another_worlds_process_under_our_record_is_not_ours(processes: Processes, tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "600"]) as foreign:
        try:
            mine = Process.of(foreign.pid)
            assert mine
            record = f'{{"pid": {mine.pid}, "started": {mine.started}, "argv": ["sleep", "600"]}}'
            (tmp_path / "unit" / "run").mkdir(parents=True)
            (tmp_path / "unit" / "run" / "sleeper.json").write_text(record)
            assert processes.running("sleeper") is None
            processes.stop("sleeper")
            assert foreign.poll() is None
        finally:
            foreign.kill()


def test_children_are_found_when_their_parent_and_all_records_are_gone(
    processes: Processes, tmp_path: Path
) -> None:
    program = (
        "import subprocess,time; print(subprocess.Popen(['sleep','600']).pid, flush=True); time.sleep(600)"
    )
    parent = processes.start(python("parent", program))
    eventually(lambda: bool(processes.last_lines("parent")), lambda: processes.last_lines("parent"))
    child = int(processes.last_lines("parent")[0])
    assert processes.orphans() == []
    os.kill(parent.pid, signal.SIGKILL)
    eventually(lambda: processes.running("parent") is None, lambda: parent)
    assert [process.pid for process in processes.orphans()] == [child]
    (tmp_path / "unit" / "run" / "parent.json").unlink()
    assert [process.pid for process in processes.all()] == [child]
    stop_all(processes.all(), grace=5)
    eventually(lambda: processes.all() == [], processes.all)


def test_a_command_run_from_inside_the_world_does_not_find_itself(processes: Processes) -> None:
    environment = {
        **os.environ,
        "KIP_LOCAL_WORLD": "unit",
        "KIP_LOCAL_STATE": str(processes.log("x").parents[2]),
    }
    program = (
        "from pathlib import Path; from ipaddress import IPv4Network; from kip.local.processes import Processes;"
        "from kip.local.world import World; import os;"
        "state = Path(os.environ['KIP_LOCAL_STATE']) / 'unit';"
        "print(Processes(World('unit', state, IPv4Network('10.78.0.0/24'), False, {})).all())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_last_lines_are_those_of_the_last_start(processes: Processes) -> None:
    for text in ("first", "second"):
        processes.start(python("talker", f"print({text!r})"))
        eventually(lambda: processes.running("talker") is None, lambda: processes.running("talker"))
    assert processes.last_lines("talker") == ["second"]
    assert processes.log("talker").read_text() == "first\nsecond\n"


def test_a_program_that_is_not_there_is_an_error(processes: Processes) -> None:
    with pytest.raises(FileNotFoundError):
        processes.start(Command("nothing", ("/no/such/program",)))
