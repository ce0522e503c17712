from __future__ import annotations

from typing import Any

import pytest

from kip.kube.errors import Unavailable
from kip.kubelet.auth import Authenticator, Authorizer, Identity, bearer_token, identity_of, needed_access
from kip.kubelet.http1 import HttpError

TOKENS = "/apis/authentication.k8s.io/v1/tokenreviews"
ACCESS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
CERTIFICATE = {
    "subject": (
        (("organizationName", "system:masters"),),
        (("organizationName", "ops"),),
        (("commonName", "apiserver-kubelet-client"),),
    )
}


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/containerLogs/ns/pod/c", ["get proxy"]),
        ("POST", "/exec/ns/pod/c", ["create proxy"]),
        ("GET", "/exec/ns/pod/c", ["create proxy"]),
        ("GET", "/attach/ns/pod/c", ["create proxy"]),
        ("GET", "/portForward/ns/pod", ["create proxy"]),
        ("POST", "/run/ns/pod/c", ["create proxy"]),
        ("POST", "/checkpoint/ns/pod/c", ["create checkpoint"]),
        ("GET", "/metrics", ["get metrics"]),
        ("GET", "/metrics/resource", ["get metrics"]),
        ("GET", "/metrics/cadvisor", ["get metrics"]),
        ("GET", "/stats/summary", ["get stats"]),
        ("GET", "/logs/", ["get log"]),
        ("GET", "/pods", ["get pods", "get proxy"]),
        ("GET", "/pods/", ["get pods", "get proxy"]),
        ("GET", "/runningpods/", ["get pods", "get proxy"]),
        ("GET", "/healthz", ["get healthz", "get proxy"]),
        ("GET", "/healthz/ping", ["get healthz", "get proxy"]),
        ("GET", "/configz", ["get configz", "get proxy"]),
        ("GET", "/statusz", ["get statusz"]),
        ("GET", "/flagz", ["get configz"]),
        ("GET", "/metricsx", ["get proxy"]),
        ("GET", "/podsx", ["get proxy"]),
        ("PUT", "/x", ["update proxy"]),
        ("PATCH", "/x", ["patch proxy"]),
        ("DELETE", "/x", ["delete proxy"]),
        ("HEAD", "/metrics", [" metrics"]),
    ],
)
def test_needed_access(method: str, path: str, expected: list[str]) -> None:
    assert [f"{access.verb} {access.subresource}" for access in needed_access(method, path)] == expected


def test_identity_of_a_certificate() -> None:
    assert identity_of(CERTIFICATE) == Identity(
        "apiserver-kubelet-client", groups=("system:masters", "ops", "system:authenticated")
    )
    assert identity_of({"subject": ((("organizationName", "system:masters"),),)}) is None
    assert identity_of({}) is None
    assert identity_of(None) is None


@pytest.mark.parametrize(
    ("field", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Basic abc", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("", None),
        (None, None),
    ],
)
def test_bearer_token(field: str | None, token: str | None) -> None:
    assert bearer_token(field) == token


def user_of(call: Any) -> Any:
    token = call.body["spec"]["token"]
    if token != "good":
        return {"status": {"authenticated": False}}
    user = {"username": "prometheus", "uid": "7", "groups": ["system:authenticated"], "extra": {"k": ["v"]}}
    return {"status": {"authenticated": True, "user": user}}


async def test_a_certificate_needs_no_token(api: Any, clock: Any) -> None:
    identity = await Authenticator(api, clock).authenticate(CERTIFICATE, "Bearer good")
    assert identity.user == "apiserver-kubelet-client"
    assert api.calls == []


async def test_a_token_is_reviewed_once_in_two_minutes(api: Any, clock: Any) -> None:
    api.on("POST", TOKENS, user_of)
    authenticator = Authenticator(api, clock)
    for _ in range(3):
        identity = await authenticator.authenticate(None, "Bearer good")
        assert identity == Identity("prometheus", "7", ("system:authenticated",), (("k", ("v",)),))
    assert len(api.calls) == 1
    clock.advance(121)
    await authenticator.authenticate(None, "Bearer good")
    assert len(api.calls) == 2


async def test_one_caller_never_gets_the_identity_of_another(api: Any, clock: Any) -> None:
    api.on("POST", TOKENS, user_of)
    authenticator = Authenticator(api, clock)
    await authenticator.authenticate(None, "Bearer good")
    with pytest.raises(HttpError) as refused:
        await authenticator.authenticate(None, "Bearer goo")
    assert refused.value.status == 401


async def test_a_refused_token_is_asked_about_again_soon(api: Any, clock: Any) -> None:
    api.on("POST", TOKENS, {"status": {"authenticated": False}}, 201)
    authenticator = Authenticator(api, clock)
    for _ in range(2):
        with pytest.raises(HttpError):
            await authenticator.authenticate(None, "Bearer good")
    assert len(api.calls) == 1
    api.on("POST", TOKENS, user_of)
    clock.advance(11)
    assert (await authenticator.authenticate(None, "Bearer good")).user == "prometheus"


@pytest.mark.parametrize("authorization", [None, "Basic Zm9v", "Bearer bad"])
async def test_nobody_is_anonymous(api: Any, clock: Any, authorization: str | None) -> None:
    api.on("POST", TOKENS, user_of)
    with pytest.raises(HttpError) as refused:
        await Authenticator(api, clock).authenticate(None, authorization)
    assert refused.value.status == 401


async def test_an_api_server_that_is_away_refuses_nobody_and_lets_nobody_in(api: Any, clock: Any) -> None:
    api.down = Unavailable("no route")
    with pytest.raises(HttpError, match="no route") as refused:
        await Authenticator(api, clock).authenticate(None, "Bearer good")
    assert refused.value.status == 503
    with pytest.raises(HttpError, match="no route") as refused:
        await Authorizer(api, "kip-0", clock).authorize(Identity("me"), "GET", "/pods")
    assert refused.value.status == 503


async def test_missing_rights_of_the_operator_are_named(api: Any, clock: Any) -> None:
    api.on("POST", ACCESS, {"message": "forbidden"}, 403)
    with pytest.raises(HttpError, match="system:auth-delegator"):
        await Authorizer(api, "kip-0", clock).authorize(Identity("me"), "GET", "/pods")


def allowing(*allowed: str) -> Any:
    def review(call: Any) -> Any:
        attributes = call.body["spec"]["resourceAttributes"]
        return {"status": {"allowed": f"{attributes['verb']} {attributes['subresource']}" in allowed}}

    return review


async def test_the_review_is_what_a_kubelet_would_ask(api: Any, clock: Any) -> None:
    api.on("POST", ACCESS, allowing("get metrics"))
    identity = Identity("prometheus", "7", ("g",), (("k", ("v",)),))
    await Authorizer(api, "kip-0", clock).authorize(identity, "GET", "/metrics/resource")
    assert api.calls[0].body["spec"] == {
        "user": "prometheus",
        "uid": "7",
        "groups": ["g"],
        "extra": {"k": ["v"]},
        "resourceAttributes": {
            "verb": "get",
            "version": "v1",
            "resource": "nodes",
            "subresource": "metrics",
            "name": "kip-0",
        },
    }


@pytest.mark.parametrize(("granted", "asked"), [("get pods", 1), ("get proxy", 2)])
async def test_either_the_fine_or_the_coarse_right_is_enough(
    api: Any, clock: Any, granted: str, asked: int
) -> None:
    api.on("POST", ACCESS, allowing(granted))
    await Authorizer(api, "kip-0", clock).authorize(Identity("me"), "GET", "/pods")
    assert len(api.calls) == asked


async def test_refusals_say_what_is_missing_and_are_remembered_shortly(api: Any, clock: Any) -> None:
    api.on("POST", ACCESS, allowing("get proxy"))
    authorizer = Authorizer(api, "kip-0", clock)
    for _ in range(2):
        with pytest.raises(HttpError) as refused:
            await authorizer.authorize(Identity("me"), "GET", "/exec/ns/pod/c")
    assert refused.value.status == 403
    for part in ("user=me", "verb=create", "nodes", "proxy", "kip-0"):
        assert part in refused.value.message
    assert len(api.calls) == 1
    clock.advance(31)
    api.on("POST", ACCESS, allowing("create proxy"))
    await authorizer.authorize(Identity("me"), "GET", "/exec/ns/pod/c")
    clock.advance(299)
    await authorizer.authorize(Identity("me"), "GET", "/exec/ns/pod/c")
    assert len(api.calls) == 2


async def test_a_decision_is_for_one_caller_and_one_right(api: Any, clock: Any) -> None:
    api.on("POST", ACCESS, allowing("get metrics"))
    authorizer = Authorizer(api, "kip-0", clock)
    await authorizer.authorize(Identity("a"), "GET", "/metrics")
    with pytest.raises(HttpError):
        await authorizer.authorize(Identity("a"), "GET", "/stats/summary")
    await authorizer.authorize(Identity("a", groups=("g",)), "GET", "/metrics")
    assert len(api.calls) == 3
