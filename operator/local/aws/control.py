"""The control API below /_kip/: for the machine room, which boots what runs, and for tests and benchmarks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from moto.ec2.models.instance_types import INSTANCE_TYPES
from werkzeug.exceptions import BadRequest, Conflict, HTTPException, NotFound
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from kip.local.aws import throttle
from kip.local.aws.account import Account
from kip.local.aws.calls import Calls
from kip.local.aws.faults import Fault, FaultError, Faults
from kip.local.aws.instance import INSTANCE_INITIATED, LocalInstance
from kip.local.aws.networking import led_to_instances
from kip.local.aws.throttle import Throttle

PREFIX = "/_kip"
#: A long poll is answered after this many seconds at the latest, whatever its `wait` asks for.
LONGEST_WAIT = 60.0
_SETTINGS = {"boot_delay_s", "efs_delay_s", "tags", "throttle"}

_ROUTES = Map(
    [
        Rule(f"{PREFIX}/health", endpoint="health", methods=["GET"]),
        Rule(f"{PREFIX}/instances", endpoint="list_instances", methods=["GET"]),
        Rule(f"{PREFIX}/instances/<instance_id>/state", endpoint="set_state", methods=["POST"]),
        Rule(f"{PREFIX}/faults", endpoint="list_faults", methods=["GET"]),
        Rule(f"{PREFIX}/faults", endpoint="add_faults", methods=["POST"]),
        Rule(f"{PREFIX}/faults", endpoint="clear_faults", methods=["DELETE"]),
        Rule(f"{PREFIX}/settings", endpoint="list_settings", methods=["GET"]),
        Rule(f"{PREFIX}/settings", endpoint="change_settings", methods=["PUT"]),
        Rule(f"{PREFIX}/calls", endpoint="list_calls", methods=["GET"]),
        Rule(f"{PREFIX}/calls", endpoint="clear_calls", methods=["DELETE"]),
    ]
)


class Control:
    """The API as a WSGI application; every answer is JSON."""

    def __init__(self, account: Account, faults: Faults, calls: Calls, throttle: Throttle) -> None:
        self._account = account
        self._throttle = throttle
        self._faults = faults
        self._calls = calls

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        try:
            endpoint, arguments = _ROUTES.bind_to_environ(environ).match()
            answer = getattr(self, endpoint)(request, **arguments)
            response = _json(answer)
        except HTTPException as error:
            response = _json({"error": error.description}, status=error.code or 500)
        return response(environ, start_response)

    def health(self, request: Request) -> Any:
        with self._account.lock:
            return {"status": "ok", "instances": len(self._account.backend.instances())}

    def list_instances(self, request: Request) -> Any:
        """All instances; with `wait` and `revision`, not before something differs from that revision."""
        wait = min(_number(request.args.get("wait", "0"), "wait"), LONGEST_WAIT)
        revision = int(_number(request.args.get("revision", "-1"), "revision"))
        self._account.wait_for_change(revision, wait)
        with self._account.lock:
            instances = [describe(instance) for instance in self._account.backend.instances()]
            return {"revision": self._account.revision, "instances": instances}

    def set_state(self, request: Request, instance_id: str) -> Any:
        """What became of a machine: it runs, it was stopped, or it is gone."""
        body = _body(request)
        state, reason = body.get("state"), body.get("reason") or ""
        with self._account.lock:
            instance = self._account.instance(instance_id)
            if instance is None:
                raise NotFound(f"no instance {instance_id}")
            if instance.state == "terminated" and state != "terminated":
                raise Conflict(f"{instance_id} is terminated")
            if state == "running":
                instance.set_state("running")
            elif state == "stopped":
                instance.set_state("stopped", reason or INSTANCE_INITIATED)
            elif state == "terminated":
                instance.terminate()
                instance.set_state("terminated", reason or INSTANCE_INITIATED)
            else:
                raise BadRequest(f"state: expected running, stopped or terminated, not {state!r}")
            self._account.changed()
            return describe(instance)

    def list_faults(self, request: Request) -> Any:
        return {"faults": self._faults.pending()}

    def add_faults(self, request: Request) -> Any:
        """One fault or a list of them; all or none."""
        found = request.get_json(force=True)
        try:
            faults = [Fault.parse(fault) for fault in (found if isinstance(found, list) else [found])]
        except FaultError as error:
            raise BadRequest(f"fault: {error}") from error
        self._faults.add(faults)
        return self.list_faults(request)

    def clear_faults(self, request: Request) -> Any:
        self._faults.clear()
        return self.list_faults(request)

    def list_settings(self, request: Request) -> Any:
        with self._account.lock:
            return {
                "boot_delay_s": self._account.boot_delay,
                "efs_delay_s": self._account.efs_delay,
                "tags": self._account.launch_tags,
                "throttle": self._throttle.setting(),
            }

    def change_settings(self, request: Request) -> Any:
        """Sets what is given; all or nothing. The throttle (kip.local.aws.throttle) ends with the process."""
        body = _body(request)
        if unknown := set(body) - _SETTINGS:
            raise BadRequest(
                f"unknown: {', '.join(sorted(unknown))}; expected {' or '.join(sorted(_SETTINGS))}"
            )
        delays = {key: _number(body[key], key) for key in ("boot_delay_s", "efs_delay_s") if key in body}
        tags = _tags(body["tags"]) if "tags" in body else None
        changes = _throttled(body["throttle"]) if "throttle" in body else None
        with self._account.lock:
            self._account.boot_delay = delays.get("boot_delay_s", self._account.boot_delay)
            self._account.efs_delay = delays.get("efs_delay_s", self._account.efs_delay)
            if tags is not None:
                self._account.launch_tags = tags
            if "throttle" in body:
                self._throttle.set(changes)
        return self.list_settings(request)

    def list_calls(self, request: Request) -> Any:
        return {"calls": self._calls.listing(request.args.get("action"))}

    def clear_calls(self, request: Request) -> Any:
        self._calls.clear()
        return self.list_calls(request)


def describe(instance: LocalInstance) -> dict[str, Any]:
    """An instance as the machine room needs it; addresses stay after termination, so that it can clean up."""
    shape = INSTANCE_TYPES[instance.instance_type]
    address = instance.last_private_ip or "0.0.0.0"
    return {
        "id": instance.id,
        "state": instance.state,
        "type": instance.instance_type,
        "vcpus": shape["VCpuInfo"]["DefaultVCpus"],
        "memory_mib": shape["MemoryInfo"]["SizeInMiB"],
        "private_ip": instance.last_private_ip,
        "secondary_ips": list(instance.last_secondary_ips),
        "mac": mac_of(address),
        "user_data_b64": str(instance.user_data or ""),
        "launch_index": instance.ami_launch_index,
        "image_id": instance.image_id,
        "image_name": _image_name(instance),
        "gpus": sum(gpu["Count"] for gpu in _gpus(shape) if gpu["Manufacturer"] == "NVIDIA"),
        "tags": {tag["key"]: tag["value"] for tag in instance.get_tags()},
        "launch_time": instance.launch_time.isoformat(),
        "shutdown_behavior": instance.instance_initiated_shutdown_behavior,
        "subnet_cidr": instance.last_subnet_cidr,
        "vpc_cidr": str(instance.ec2_backend.site.cidr),
        "routes": led_to_instances(instance),
        "zone": instance.placement.zone,
        "hop_limit": instance.metadata_options.http_put_response_hop_limit,
        "market": instance.lifecycle or "on-demand",
    }


def _image_name(instance: LocalInstance) -> str:
    image = instance.ec2_backend.amis.get(instance.image_id)
    return str(image.name) if image else ""


def _gpus(shape: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list((shape.get("GpuInfo") or {}).get("Gpus") or ())


def mac_of(address: str) -> str:
    """A MAC that follows from the address: whoever gets the address again is found without waiting for ARP."""
    return ":".join(["02", "00", *(f"{int(part):02x}" for part in address.split("."))])


def _body(request: Request) -> dict[str, Any]:
    body = request.get_json(force=True)
    if not isinstance(body, dict):
        raise BadRequest("expected a JSON object")
    return body


def _number(text: Any, name: str) -> float:
    try:
        number = float(text)
    except (TypeError, ValueError):
        raise BadRequest(f"{name}: expected a number, not {text!r}") from None
    return number


def _tags(found: Any) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise BadRequest(f"tags: expected an object of texts, not {found!r}")
    return found


def _throttled(found: Any) -> throttle.Changes | None:
    try:
        return throttle.parse(found)
    except throttle.ThrottleError as error:
        raise BadRequest(f"throttle: {error}") from error


def _json(answer: Any, status: int = 200) -> Response:
    return Response(json.dumps(answer) + "\n", status=status, content_type="application/json")
