"""What several checks say about mending."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from kip.app.location import Location
from kip.doctor.facts import Facts, Identity, Unanswered
from kip.doctor.finding import Finding, Remedy, unknown
from kip.iam.documents import ADDONS, statements
from kip.iam.narrow import Installation, narrow_statement

# "…with an explicit deny in a service control policy", and the like for boundaries and identity-based policies.
_EXPLICIT_DENY = re.compile(r"explicit deny(?: in an?)?(?: (?P<where>[a-z -]*(?:policy|boundary)))?")
_BOUNDARY = re.compile(r"no (?P<where>permissions boundary|service control policy|session policy) allows")


def region_of(facts: Facts) -> str | None:
    """Of the cells, as far as it is known."""
    if isinstance(facts.location, Location):
        return facts.location.region
    return facts.settings.cloud.aws.region


def installation(facts: Facts) -> Installation:
    """As much of it as is known."""
    return Installation(
        account=facts.identity.account if isinstance(facts.identity, Identity) else None,
        region=region_of(facts),
        cluster=facts.cluster if isinstance(facts.cluster, str) else None,
    )


def allow(facts: Facts, permission: str, why: str) -> Remedy:
    """What gives Kip's role this IAM permission, which AWS refused with these words."""
    elsewhere = _EXPLICIT_DENY.search(why) or _BOUNDARY.search(why)
    if elsewhere:
        where = elsewhere["where"] or "policy"
        return Remedy(
            text=f"a {where.strip()} forbids it, whatever the role's own policy allows: whoever manages that has to "
            f"allow {permission}"
        )
    where = installation(facts)
    found = list(statements(permission))
    return Remedy(
        text=f"allow {permission} in the policy of Kip's role",
        command=policy_command(facts, tuple(name for name, _ in found if name in ADDONS)),
        statements=tuple(narrow_statement(statement, where) for _, statement in found),
    )


def policy_command(facts: Facts, addons: tuple[str, ...] = ()) -> str:
    """The shell's command that gives the role its whole policy anew."""
    where = installation(facts)
    options = [f"--account {where.account or 'ACCOUNT'}"]
    options += [f"--region {where.region}"] if where.region else []
    options += [f"--cluster {where.cluster}"] if where.cluster else []
    options += [f"--with {','.join(dict.fromkeys(addons))}"] if addons else []
    return f"kip iam policy {' '.join(options)} >policy.json && {_put(facts)} --policy-document file://policy.json"


def _put(facts: Facts) -> str:
    arn = facts.identity.arn if isinstance(facts.identity, Identity) else ""
    name = arn.split("/")[1] if arn.count("/") else "ROLE"
    if ":user/" in arn:
        return f"aws iam put-user-policy --user-name {arn.rpartition('/')[2]} --policy-name kip"
    return f"aws iam put-role-policy --role-name {name} --policy-name kip"


def not_known(facts: Facts, what: str, fact: Unanswered) -> Finding:
    """A line about something that could not be found out."""
    if fact.reason == "denied" and fact.permission:
        return unknown(what, fact.why, allow(facts, fact.permission, fact.why))
    return unknown(what, fact.why)


def as_json(value: Mapping[str, Any]) -> str:
    """In one line, for a shell or a policy."""
    return json.dumps(value, separators=(",", ":"))
