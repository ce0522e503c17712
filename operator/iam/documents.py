"""The policies as they are shipped. Each is valid as it is; what it leaves open with `*` is filled in by `narrow`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

Statement = dict[str, Any]
Policy = dict[str, Any]

#: What Kip needs, and nothing else.
BASE = "policy"
#: What the product's installation guide asks for: enough for any version of Kip, and for all of an account.
DOCUMENT = "document"

#: Add-ons, and what each is for. Without one Kip does without what it allows.
ADDONS: Mapping[str, str] = {
    "market": "today's instance types, zones and prices, spot included",
    "efs": "make the file system of the image cache, and find it",
    "ecr": "pull images from ECR, for pods and for the image cache",
    "notices": "read notices of spot instances from an SQS queue called kip-…, which nothing does yet",
    "metering": "tell AWS Marketplace of the use",
    "doctor": "quotas and instance profiles, for kip doctor",
}


def template(name: str) -> Policy:
    """One of the policies of deploy/iam by its name, like `market`."""
    text = (files("kip") / "deploy" / "iam" / f"{name}.json").read_text(encoding="utf-8")
    found: Policy = json.loads(text)
    return found


def merged(names: Sequence[str]) -> Policy:
    """Several of them as one, in that order."""
    documents = [template(name) for name in dict.fromkeys(names)]
    return {
        "Version": documents[0]["Version"],
        "Statement": [statement for document in documents for statement in document["Statement"]],
    }


def actions(statement: Mapping[str, Any]) -> tuple[str, ...]:
    """A statement's actions, whether they are a list or one."""
    given = statement["Action"]
    return (given,) if isinstance(given, str) else tuple(given)


def statements(action: str) -> Iterator[tuple[str, Statement]]:
    """(policy, statement) of all that allow this action, like `ec2:RunInstances`."""
    for name in (BASE, *ADDONS):
        for statement in template(name)["Statement"]:
            if action in actions(statement):
                yield name, statement
