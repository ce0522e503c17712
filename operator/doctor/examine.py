"""All facts, in the order in which one needs another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from kip.doctor.asking import Asking
from kip.doctor.facts import Facts, Unanswered
from kip.doctor.look.aws import Cloud, look_at_aws
from kip.doctor.look.cluster import look_at_cluster
from kip.doctor.look.reach import look_at_reach
from kip.kube.client import ApiClient


@dataclass(frozen=True)
class Patient:
    """What is looked at, and how it is reached."""

    facts: Facts
    """What is known before anybody is asked."""
    connect: Callable[[], Awaitable[ApiClient]]
    """To the API server; raises KubeError or OSError."""
    cloud: Callable[[ApiClient | None], Cloud]


async def examine(patient: Patient, asking: Asking) -> Facts:
    """Ask cluster, AWS and network; raises nothing for what they do."""
    facts = patient.facts
    api = await asking.ask(patient.connect)
    try:
        if isinstance(api, Unanswered):
            facts = replace(facts, version=api)
        else:
            facts = await look_at_cluster(facts, asking, api, patient.cloud(api).clock)
        client = None if isinstance(api, Unanswered) else api
        facts = await look_at_aws(facts, asking, patient.cloud(client))
    finally:
        if not isinstance(api, Unanswered):
            await api.close()
    return await look_at_reach(facts, timeout_s=asking.timeout_s)
