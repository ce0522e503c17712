"""A Prometheus server of the test's own (Debian's package), which scrapes an operator every second."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode

import yaml
from support.waiting import eventually

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "doubles"))

import prometheus_program

from kip.local.addresses import free_ports

_ANSWER = 10.0  # seconds


class Prometheus:
    """Its HTTP API."""

    def __init__(self, url: str) -> None:
        self._url = url

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The instant query's samples: `metric` and `value`. Raises AssertionError: it is no good query."""
        found: list[dict[str, Any]] = self._ask("query", query=expr)["result"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """All alerting rules: `name`, `health`, `state`, `lastError`."""
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]

    def targets(self) -> list[dict[str, Any]]:
        """What is scraped: `health`, `lastError`."""
        found: list[dict[str, Any]] = self._ask("targets")["activeTargets"]
        return found

    def _ask(self, what: str, **query: str) -> Any:
        try:
            with urllib.request.urlopen(
                f"{self._url}/api/v1/{what}?{urlencode(query)}", timeout=_ANSWER
            ) as answer:
                return json.load(answer)["data"]
        except HTTPError as error:
            raise AssertionError(f"{what} {query}: {error.read().decode(errors='replace')}") from error


@contextmanager
def scraping(targets: Sequence[str], rules: Path, folder: Path) -> Iterator[Prometheus]:
    """Runs until the block's end. `targets` are host:port; `rules` is a rules file; `folder` is for its data."""
    program = prometheus_program.find("prometheus")
    port = free_ports({"prometheus": 19090}, set())["prometheus"]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [{"job_name": "kip", "static_configs": [{"targets": list(targets)}]}],
    }
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    log = folder / "prometheus.log"
    command = [
        program,
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        server = Prometheus(f"http://127.0.0.1:{port}")
        try:
            eventually(
                lambda: [target["health"] for target in server.targets()] == ["up"] * len(targets),
                30,
                "Prometheus scrapes all of them",
                log.read_text,
            )
            yield server
        finally:
            process.terminate()
            process.wait(30)
