"""Section `registries`: where images come from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field

from kip.config.schema.section import Section
from kip.config.types import Flag, one_or_many, parsed, words


def _mirrors(value: Any) -> Mapping[str, tuple[str, ...]]:
    if not isinstance(value, Mapping):
        raise TypeError(value)
    return {
        str(registry): tuple(_mirror(url) for url in words(one_or_many(urls)))
        for registry, urls in value.items()
    }


def _mirror(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(url)
    return url


def _accounts(value: Any) -> tuple[str, ...]:
    found = words(value)
    if not all(re.fullmatch(r"[0-9]{12}", account) for account in found):
        raise ValueError(value)
    return found


class EcrLogins(Section):
    """Kip's own login to ECR, for pods whose images are there."""

    enabled: Annotated[
        Flag,
        Field(
            description="Pods pull from ECR with Kip's role, where it may (`ecr:GetAuthorizationToken`), as those of an "
            "ordinary node do with the node's: after their own pull secrets, before the cell's instance profile. The "
            "cell's kubelet gets the login, never a key of AWS. false: only secrets and profiles count, for the image "
            "cache too."
        ),
    ] = True
    accounts: Annotated[
        tuple[str, ...],
        parsed(_accounts, "account numbers of 12 digits in a list, in quotes, like ['012345678910']"),
        Field(description="Only for registries of these AWS accounts. Empty: wherever the role may pull."),
    ] = ()


class Registries(Section):
    """Where images come from: whom Kip itself asks, for the image cache and to see what an image is made for, and with
    which of its own logins pods may pull."""

    mirrors: Annotated[
        Mapping[str, tuple[str, ...]],
        parsed(_mirrors, "registries with their mirrors, like {docker.io: [https://cache.example.com]}"),
        Field(
            description="URLs at which a registry is asked in place of its own name, in this order, until one has the "
            "image; `*` stands for all registries that are not named. They get the pod's credentials. The registry "
            "itself is asked only if it is in the list (Docker Hub is https://registry-1.docker.io). Cells have their "
            "own mirrors (`hosts.toml` of containerd)."
        ),
    ] = {}
    ecr_logins: Annotated[
        EcrLogins, Field(description="Pulls from private registries of ECR with Kip's own role.")
    ] = EcrLogins()
