"""What the demonstration's programs do, run as they are on this machine."""

from __future__ import annotations

import re
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Start = Callable[..., "Web"]


class Web:
    """A running web server."""

    def __init__(self, process: subprocess.Popen[str], url: str, lines: list[str]) -> None:
        self.process = process
        self.url = url
        self.lines = lines

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def stop(self) -> str:
        """Ends it as the kubelet does; returns the rest of what it printed."""
        self.process.send_signal(signal.SIGTERM)
        rest, _ = self.process.communicate(timeout=20)
        return rest


@pytest.fixture
def start(programs: Path) -> Iterator[Start]:
    started = []

    def run(*arguments: str, **environment: str) -> Web:
        process = subprocess.Popen(
            [programs / "web", "-port", "0", *arguments], env=environment, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line.rstrip())
            if found := re.search(r"serving on \S*:(\d+)$", lines[-1]):
                return Web(process, f"http://127.0.0.1:{found[1]}", lines)
        raise AssertionError(f"ended with {process.wait()} after {lines}")

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_tells_where_it_runs(start: Start) -> None:
    status, body = start(POD_NAME="one", POD_NAMESPACE="two", POD_IP="10.0.0.9").get("/")
    assert status == 200
    told = dict(line.split(": ", 1) for line in body.splitlines())
    assert (told["name"], told["namespace"], told["ip"]) == ("one", "two", "10.0.0.9")
    assert told["hostname"]


def test_shows_environment_and_files(start: Start, tmp_path: Path) -> None:
    web = start(GREETING="hello")
    (tmp_path / "file").write_text("content")
    assert web.get("/env/GREETING") == (200, "hello\n")
    assert web.get("/env/NONE") == (404, "NONE is not set\n")
    assert web.get(f"/file?path={tmp_path}/file") == (200, "content")
    assert web.get(f"/file?path={tmp_path}/none")[0] == 404


def test_fetches_from_another(start: Start) -> None:
    one, two = start(), start(NAME="two")
    assert one.get(f"/fetch?url={two.url}/env/NAME") == (200, "two\n")
    assert one.get(f"/fetch?url={two.url}/env/NONE")[0] == 404
    assert one.get("/fetch?url=http://127.0.0.1:9/")[0] == 502
    assert one.get("/fetch?url=:")[0] == 400
    for file in ("ca", "token"):
        status, said = one.get(f"/fetch?url={two.url}/&{file}=/none")
        assert status == 400
        assert "/none" in said


def test_health_is_switched(start: Start) -> None:
    web = start()
    assert web.get("/healthz")[0] == 200
    web.get("/healthz/off")
    assert web.get("/healthz") == (503, "switched off\n")
    web.get("/healthz/on")
    assert web.get("/healthz")[0] == 200
    assert web.get("/healthz/maybe")[0] == 404


def test_is_not_ready_at_once_if_told_so(start: Start) -> None:
    assert start("-ready-after", "1h").get("/healthz") == (503, "not ready yet\n")


def test_ends_with_the_code_it_is_asked_for(start: Start) -> None:
    web = start()
    assert web.get("/exit?code=x")[0] == 400
    assert web.get("/exit?code=7") == (200, "exiting with 7\n")
    assert web.process.wait(timeout=10) == 7


def test_logs_requests_and_stops_on_sigterm(start: Start) -> None:
    web = start("-lines", "2")
    assert web.lines[:2] == ["line 1 of 2", "line 2 of 2"]
    web.get("/env/NONE")
    rest = web.stop()
    assert re.search(r"GET /env/NONE 404$", rest, re.MULTILINE)
    assert rest.splitlines()[-1].endswith("stopped")
    assert web.process.returncode == 0


def test_pause_stops_when_told(programs: Path) -> None:
    with subprocess.Popen([programs / "pause"]) as process:
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=0.2)
            process.send_signal(signal.SIGTERM)
            # 0 says the signal was handled; -15 is right as well when it came before the handler was set.
            assert process.wait(timeout=10) in (0, -signal.SIGTERM)
        finally:
            process.kill()


def test_a_device_plugin_without_gpus_says_so_and_ends(programs: Path) -> None:
    done = subprocess.run(
        [programs / "deviceplugin"], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "no GPUs: nothing is called /dev/nvidia[0-9]*\n"
