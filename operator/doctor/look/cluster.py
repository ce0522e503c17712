"""What the cluster says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from kip.app import cluster
from kip.cloud.date import parse
from kip.doctor.access import Access, Permission, needed, service_account
from kip.doctor.asking import Asking
from kip.doctor.facts import CellType, ClusterVersion, Facts, Unanswered
from kip.kube.client import ApiClient
from kip.kube.errors import ApiError, Forbidden, NotFound, Unavailable
from kip.model.clock import Clock
from kip.model.names import GROUP, VERSION

_AUTHORIZATION = "/apis/authorization.k8s.io/v1"
# Reviews of access cost the API server next to nothing; more at once would only queue.
_REVIEWS_AT_ONCE = 10


async def look_at_cluster(facts: Facts, asking: Asking, api: ApiClient, clock: Clock) -> Facts:
    """The facts with those of the cluster."""
    settings = facts.settings
    version = await asking.ask(lambda: _version(api))
    facts = replace(facts, server=api.server, version=version)
    if isinstance(version, Unanswered):
        return facts
    ahead, name, dns, nodes, access, cell_type = await asyncio.gather(
        asking.ask(lambda: _ahead(api, clock)),
        asking.ask(lambda: cluster.name_of(api, settings)),
        asking.ask(lambda: cluster.dns_of(api, settings)),
        asking.ask(lambda: _nodes(api, settings.kubelet.node_names)),
        asking.ask(lambda: _access(api, facts)),
        asking.ask(lambda: _cell_type(api)),
    )
    return replace(
        facts,
        clocks={**facts.clocks, "the API server": ahead},
        cluster=name,
        dns=dns,
        nodes=nodes,
        access=access,
        cell_type=cell_type,
    )


async def _version(api: ApiClient) -> ClusterVersion:
    version = str((await api.get("/version"))["gitVersion"])
    return ClusterVersion(version, cluster.minor_of(version))


async def _ahead(api: ApiClient, clock: Clock) -> float:
    """Seconds that our clock is ahead, by the Date of an answer: it was written between our two looks at the clock."""
    before = clock.now()
    reply = await api.request("GET", "/version")
    between = before + (clock.now() - before) / 2
    try:
        # Cut to the second, so it is half a second ago on average.
        theirs = parse(reply.headers.get("Date", "")) + timedelta(seconds=0.5)
    except ValueError:
        raise Unavailable("its answers have no date") from None
    return (between - theirs).total_seconds()


async def _nodes(api: ApiClient, names: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in names:
        try:
            node = await api.get(f"/api/v1/nodes/{name}")
        except NotFound:
            continue
        found[name] = (node.get("spec") or {}).get("providerID", "")
    return found


async def _cell_type(api: ApiClient) -> CellType:
    """By what is published for everybody: reading the definition itself would be one more permission."""
    # Which versions are served is known at once; a schema is published a moment later, and stays a while longer.
    served = await api.get(f"/apis/{GROUP}/{VERSION}")
    if not any(resource["name"] == "cells" for resource in served.get("resources") or ()):
        raise NotFound(404, "", f"{GROUP}/{VERSION} has no resource cells")
    try:
        published = await api.get(f"/openapi/v3/apis/{GROUP}/{VERSION}")
    except NotFound:
        raise Unavailable("it is served, and its schema not published yet; ask again in a moment") from None
    schemas: Mapping[str, Any] = (published.get("components") or {}).get("schemas") or {}
    group = ".".join(reversed(GROUP.split(".")))
    schema = schemas.get(f"{group}.{VERSION}.Cell")
    if schema is None:
        raise NotFound(404, "", f"{GROUP}/{VERSION} has no type Cell")
    return CellType(schema)


async def _access(api: ApiClient, facts: Facts) -> Access:
    """What the operator's service account may not do, whoever asks; where that is not told, what the caller may not."""
    subject = service_account(facts.settings)
    caller = await _caller(api)
    wanted = needed(facts.settings)
    if not facts.in_cluster and caller != subject:
        try:
            return Access(subject, len(wanted), await _missing(api, wanted, subject))
        except Forbidden:
            pass
    return Access(caller, len(wanted), await _missing(api, wanted, None))


async def _caller(api: ApiClient) -> str:
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    try:
        return str((await api.create(path, _object(path, {})))["status"]["userInfo"]["username"])
    except ApiError:
        return "whoever asks"


async def _missing(
    api: ApiClient, wanted: tuple[Permission, ...], subject: str | None
) -> tuple[Permission, ...]:
    """Those that the subject, None for the caller, lacks; raises Forbidden if it may not be asked about."""
    limit = asyncio.Semaphore(_REVIEWS_AT_ONCE)

    async def allowed(permission: Permission) -> bool:
        async with limit:
            return await _allowed(api, permission, subject)

    answers = await asyncio.gather(*map(allowed, wanted))
    return tuple(permission for permission, yes in zip(wanted, answers, strict=True) if not yes)


async def _allowed(api: ApiClient, permission: Permission, subject: str | None) -> bool:
    spec: dict[str, Any] = {"resourceAttributes": permission.attributes}
    path = f"{_AUTHORIZATION}/selfsubjectaccessreviews"
    if subject is not None:
        path = f"{_AUTHORIZATION}/subjectaccessreviews"
        namespace = subject.split(":")[2]
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
        spec |= {"user": subject, "groups": groups}
    answer = await api.create(path, _object(path, spec))
    return bool(answer["status"]["allowed"])


def _object(path: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    _, _, group, version, plural = path.split("/")
    kinds = {
        "selfsubjectreviews": "SelfSubjectReview",
        "selfsubjectaccessreviews": "SelfSubjectAccessReview",
        "subjectaccessreviews": "SubjectAccessReview",
    }
    return {"apiVersion": f"{group}/{version}", "kind": kinds[plural], "spec": dict(spec)}
