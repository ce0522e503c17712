"""A local AWS without a port."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from kip.local.aws.account import Account
from kip.local.aws.backend import SUBNET_ID, Site
from kip.local.aws.server import LocalAws

SITE = Site(cidr=IPv4Network("10.77.0.0/26"), withheld=(IPv4Network("10.77.0.48/28"),))
IMAGE = "ami-0c1b0000020261105"
_SIGNED = "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/{}/aws4_request, Signature=x"


class Aws:
    """What a client of the local AWS can do."""

    def __init__(self, state_file: Path | None = None, site: Site = SITE) -> None:
        self.account = Account(site, state_file)
        self._client = Client(LocalAws(self.account))

    def call(
        self, action: str, *, service: str = "ec2", version: str = "2016-11-15", **parameters: str | int
    ) -> tuple[int, str]:
        """Status and text of AWS's answer. `__` in a name stands for a dot."""
        form = {name.replace("__", "."): value for name, value in parameters.items()}
        form |= {"Action": action, "Version": version}
        answer = self._client.post("/", data=form, headers={"Authorization": _SIGNED.format(service)})
        return answer.status_code, answer.text

    def rest(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and JSON of an answer of EFS."""
        arguments: dict[str, Any] = {} if body is None else {"json": body}
        signed = {"Authorization": _SIGNED.format("elasticfilesystem")}
        answer = self._client.open(path, method=method, headers=signed, **arguments)
        return answer.status_code, answer.get_json(silent=True)

    def run(self, token: str = "", **changes: str | int) -> list[str]:
        """Ids of launched instances."""
        parameters: dict[str, str | int] = {
            "ImageId": IMAGE,
            "InstanceType": "t3.micro",
            "MinCount": 1,
            "MaxCount": 1,
            "UserData": base64.b64encode(b"#!/bin/sh").decode(),
            "NetworkInterface__1__DeviceIndex": 0,
            "NetworkInterface__1__SubnetId": SUBNET_ID,
            "NetworkInterface__1__SecondaryPrivateIpAddressCount": 1,
            **({"ClientToken": token} if token else {}),
        }
        status, text = self.call("RunInstances", **{**parameters, **changes})
        if status != 200:
            raise AssertionError(text)
        return re.findall(r"<instanceId>(i-\w+)</instanceId>", text)

    def control(self, method: str, path: str, body: object = None) -> Any:
        """The JSON of a successful call of the control API."""
        status, answer = self.control_status(method, path, body)
        assert status == 200, answer
        return answer

    def control_status(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and JSON of any call of the control API."""
        arguments: dict[str, Any] = {} if body is None else {"json": body}
        answer = self._client.open(f"/_kip/{path}", method=method, **arguments)
        return answer.status_code, answer.json

    def instances(self) -> dict[str, Any]:
        """Instance id to what the machine room sees of it."""
        return {i["id"]: i for i in self.control("GET", "instances")["instances"]}


@pytest.fixture
def aws() -> Aws:
    """One that keeps nothing."""
    return Aws()


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Aws]:
    """Starts one that goes on from what the last one kept."""
    return lambda **arguments: Aws(tmp_path / "aws.state", **arguments)
