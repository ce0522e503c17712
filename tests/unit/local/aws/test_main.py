"""The server as a process: its port, its state, its end."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

RUN = {
    "Action": "RunInstances",
    "Version": "2016-11-15",
    "ImageId": "ami-0c1b0000020261105",
    "InstanceType": "t3.micro",
    "MinCount": "1",
    "MaxCount": "2",
    "ClientToken": "token",
}
SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/ec2/aws4_request, Signature=x"}


class Server:
    """A process and its address."""

    def __init__(self, *options: str, port: int = 0) -> None:
        command = [
            sys.executable,
            "-m",
            "kip.local.aws",
            "--port",
            str(port),
            "--cidr",
            "10.77.0.0/24",
            *options,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if "http://" not in line:
            _, errors = self.process.communicate(timeout=10)
            raise RuntimeError(errors)
        self.url = line.split()[-1]
        self.port = int(self.url.rsplit(":", 1)[1])

    def control(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_kip/{path}", method=method, data=data)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def run_instances(self) -> str:
        request = urllib.request.Request(self.url, data=urlencode(RUN).encode(), headers=SIGNED)
        with urllib.request.urlopen(request, timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    def end(self, how: signal.Signals = signal.SIGKILL) -> int:
        self.process.send_signal(how)
        self.process.communicate(timeout=10)
        return self.process.returncode


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers, and ends them with the test."""
    servers: list[Server] = []

    def start(*options: str, port: int = 0) -> Server:
        servers.append(Server(*options, port=port))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.end()


def test_instances_outlive_a_kill(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve("--state", str(tmp_path / "state"))
    server.run_instances()
    before = server.control("GET", "instances")["instances"]
    assert len(before) == 2
    server.end(signal.SIGKILL)

    again = serve("--state", str(tmp_path / "state"), port=server.port)
    assert again.control("GET", "instances")["instances"] == before
    again.run_instances()
    assert len(again.control("GET", "instances")["instances"]) == 2


def test_the_state_is_for_its_owner_alone(serve: Callable[..., Server], tmp_path: Path) -> None:
    serve("--state", str(tmp_path)).run_instances()
    assert (tmp_path / "aws.state").stat().st_mode & 0o077 == 0


def test_sigterm_ends_it(serve: Callable[..., Server]) -> None:
    assert serve().end(signal.SIGTERM) == 0


def test_a_port_in_use_is_said_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(RuntimeError) as caught:
        Server(port=taken.getsockname()[1])
    assert "Address already in use" in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_network_that_is_none_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"expected an IPv4 network like 10\.77\.0\.0/24"):
        Server("--cidr", "10.77.0.5/24")


@pytest.mark.parametrize(("when", "instances"), [("before", 0), ("after", 2)])
@pytest.mark.parametrize("error", ["drop", "timeout"])
def test_an_answer_can_be_withheld_before_or_after_the_call_took_effect(
    serve: Callable[..., Server], error: str, when: str, instances: int
) -> None:
    server = serve()
    delay = 0.3 if error == "timeout" else 0
    server.control("POST", "faults", {"error": error, "when": when, "delay_s": delay})
    started = time.monotonic()
    with pytest.raises(OSError, match="Remote end closed connection without response"):
        server.run_instances()
    assert time.monotonic() - started >= delay
    assert len(server.control("GET", "instances")["instances"]) == instances
    (call,) = server.control("GET", "calls")["calls"]
    assert (call["status"], call["error"]) == (None, error)
