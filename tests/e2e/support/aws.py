"""The control API of the world's AWS endpoint: what runs, what was asked, what shall fail."""

from __future__ import annotations

import json
import urllib.request
from typing import Any
from urllib.parse import urlencode

_ANSWER = 15.0  # seconds


class Aws:
    """The endpoint whose URL (without a path) is given."""

    def __init__(self, url: str) -> None:
        self._endpoint = url
        self._url = f"{url}/_kip"

    def instances(self, *states: str) -> list[dict[str, Any]]:
        """The instances in one of these states, or all that there ever were."""
        found = self._ask("GET", "instances")["instances"]
        return [instance for instance in found if not states or instance["state"] in states]

    def calls(self, action: str | None = None) -> list[dict[str, Any]]:
        """The API calls since the start or the last `forget_calls`, of one action or all."""
        query = f"?{urlencode({'action': action})}" if action else ""
        found: list[dict[str, Any]] = self._ask("GET", f"calls{query}")["calls"]
        return found

    def forget_calls(self) -> None:
        """Begins a new list of calls."""
        self._ask("DELETE", "calls")

    def fail(self, action: str, **fault: Any) -> None:
        """Adds a fault; its keys are those of kip.local.aws.faults.Fault (error, count, when, delay_s, …)."""
        self._ask("POST", "faults", {"action": action, **fault})

    def faults(self) -> list[dict[str, Any]]:
        """The faults still to come."""
        found: list[dict[str, Any]] = self._ask("GET", "faults")["faults"]
        return found

    def heal(self) -> None:
        """Forgets all faults; calls that are being held are let go."""
        self._ask("DELETE", "faults")

    def settings(self, **changes: Any) -> dict[str, Any]:
        """The settings (boot_delay_s, tags), after these changes."""
        found: dict[str, Any] = self._ask("PUT", "settings", changes)
        return found

    def report(self, instance_id: str, state: str, reason: str = "") -> None:
        """Makes it known what became of a machine: running, stopped or terminated."""
        self._ask("POST", f"instances/{instance_id}/state", {"state": state, "reason": reason})

    def call(self, service: str, action: str, **parameters: str) -> str:
        """The answer of AWS's own query API, as XML. Raises HTTPError for a refusal."""
        version = {"iam": "2010-05-08", "ec2": "2016-11-15"}[service]
        form = urlencode({"Action": action, "Version": version, **parameters}).encode()
        # moto tells services apart by the signature, and does not check it.
        scope = f"AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/{service}/aws4_request, Signature=x"
        request = urllib.request.Request(self._endpoint, form, {"Authorization": scope})
        with urllib.request.urlopen(request, timeout=_ANSWER) as answer:
            return str(answer.read().decode())

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self._url}/{path}", data, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=_ANSWER) as answer:
            return json.load(answer)
