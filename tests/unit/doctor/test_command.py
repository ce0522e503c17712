"""`kip doctor`: what it takes, prints and returns."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from kip import cli
from kip.doctor import command

PROVIDER = """
apiVersion: v1
cloud: {aws: {region: us-east-1, vpcID: vpc-1, endpointURL: "ENDPOINT", accessKeyID: a, secretAccessKey: b}}
cluster: {name: blue}
"""


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the end of the loop may take longer than a person would wait; the process is pytest's here."""
    monkeypatch.setattr(command, "_PATIENCE_S", 300.0)


@pytest.fixture
def deaf() -> Iterator[str]:
    """A server that takes connections and never answers: its host and port."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def provider(tmp_path: Path, deaf: str) -> Path:
    path = tmp_path / "provider.yaml"
    path.write_text(PROVIDER.replace("ENDPOINT", f"http://{deaf}"))
    return path


@pytest.fixture
def kubeconfig(tmp_path: Path, deaf: str) -> Path:
    path = tmp_path / "kubeconfig"
    there = {"name": "x", "cluster": {"server": f"http://{deaf}"}}
    context = {"name": "x", "context": {"cluster": "x", "user": "x"}}
    user = {"name": "x", "user": {"token": "t"}}
    path.write_text(
        yaml.safe_dump({"clusters": [there], "contexts": [context], "users": [user], "current-context": "x"})
    )
    return path


@pytest.fixture
def run(provider: Path, kubeconfig: Path) -> Callable[..., Result]:
    def invoke(*options: str) -> Result:
        common = ["doctor", "--config", str(provider), "--kubeconfig", str(kubeconfig), "--timeout", "0.5"]
        return CliRunner().invoke(cli.main, [*common, *options])

    return invoke


def test_nobody_who_answers_is_some_lines_and_no_hang(run: Callable[..., Result]) -> None:
    began, before = time.monotonic(), {*threading.enumerate()}
    result = run()
    assert time.monotonic() - began < 20
    assert result.exit_code == 1
    assert "  failure  API server: " in result.stdout
    assert "  unknown  clock of AWS: no answer" in result.stdout
    assert "1 failure, " in result.stdout.splitlines()[-1]
    for left in {*threading.enumerate()} - before:
        left.join(10)
        assert not left.is_alive(), f"{left} would end this process, or keep it"


def test_scripts_get_json_and_choose_what_fails(run: Callable[..., Result]) -> None:
    result = run("-o", "json", "--fail-on", "never")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["counts"]["failure"] == 1
    assert document["findings"][0] == {
        "check": "configuration",
        "status": "ok",
        "what": "configuration",
        "why": document["findings"][0]["why"],
        "remedy": None,
    }


def test_a_wrong_configuration_is_told_line_by_line(run: Callable[..., Result], provider: Path) -> None:
    provider.write_text("cells: {bootDelay: 3}\nkubelet: {nodes: many}\n")
    result = run()
    assert result.exit_code == 1
    assert result.stdout.count("  failure  configuration: ") == 2
    assert "cells.bootDelay" in result.stdout
    assert f"$ kip config check {provider}" in result.stdout


@pytest.mark.parametrize("content", ["", "a: [", "42", "{}", "clusters: x\n"])
def test_a_file_that_is_no_kubeconfig_is_a_line(
    run: Callable[..., Result], kubeconfig: Path, content: str
) -> None:
    kubeconfig.write_text(content)
    result = run()
    assert result.exit_code == 1
    assert "  failure  API server: " in result.stdout
    assert "kubeconfig" in result.stdout


def test_in_a_pod_the_mounted_configuration_is_read() -> None:
    result = CliRunner().invoke(cli.main, ["doctor", "--in-cluster", "--timeout", "0.5"])
    assert result.exit_code == 1
    assert "/etc/kip/provider.yaml" in result.stdout
    assert "  failure  configuration: " in result.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "give --config provider.yaml, or --in-cluster"),
        (("--timeout", "0"), "--timeout"),
        (("--fail-on", "x"), "never"),
    ],
)
def test_wrong_usage(options: tuple[str, ...], words: str) -> None:
    result = CliRunner().invoke(cli.main, ["doctor", *options])
    assert result.exit_code == 2
    assert words in result.output
