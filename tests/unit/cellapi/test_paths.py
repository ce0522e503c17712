from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kip.cellapi.paths import Pattern, parse, resource_of
from kip.cellapi.problem import Problem


@pytest.mark.parametrize(
    "raw",
    [
        "/api/v1/namespaces/shop/secrets/../../kube-system/secrets/admin",
        "/api/v1/./nodes",
        "/api/v1//nodes",
        "/api/v1/nodes/",
        "/",
        "",
        "api/v1/nodes",
        "http://cell/api/v1/nodes",
        "*",
        "/api/v1/namespaces/shop/secrets/prices%2f..%2fadmin",
        "/api/v1/namespaces/shop/secrets/prices%2F",
        "/api/v1/namespaces/shop/secrets/%2e%2e",
        "/api/v1/namespaces/shop/secrets/prices%00",
        "/api/v1/namespaces/shop/secrets/%70rices",
        "/api/v1/namespaces/shop/secrets/prices;x=y",
        "/api/v1/namespaces/shop/secrets/prices\\..",
        "/api/v1/namespaces/shop/secrets/pri ces",
        "/api/v1/namespaces/shop/secrets/prices#x",
        "/api/v1/namespaces/shop/secrets/prıces",
        "/api/v1/" + "a" * 254,
        "/" + "a/" * 300 + "a",
        "/api/v1/nodes?" + "a" * 3000,
        "/api/v1/nodes?watch=true&watch=false",
        "/api/v1/nodes?watch",
        "/api/v1/nodes?fieldSelector=a%0ab",
        "/api/v1/nodes?fieldSelector=%ff",
        "/api/v1/nodes?" + "&".join(f"p{n}=1" for n in range(20)),
    ],
)
def test_refuses_what_is_not_canonical(raw: str) -> None:
    with pytest.raises(Problem) as problem:
        parse(raw)
    assert problem.value.code == 400


def test_reads_what_a_kubelet_asks() -> None:
    target = parse("/api/v1/pods?fieldSelector=spec.nodeName%3Dkip-0&limit=500&resourceVersion=")
    assert target.path == "/api/v1/pods"
    assert target.segments == ("api", "v1", "pods")
    assert target.query == {"fieldSelector": "spec.nodeName=kip-0", "limit": "500", "resourceVersion": ""}


@given(st.text(max_size=60))
def test_accepts_only_what_it_gives_back_unchanged(text: str) -> None:
    try:
        target = parse("/" + text)
    except Problem:
        return
    assert "/" + "/".join(target.segments) == target.path == ("/" + text).partition("?")[0]
    assert ".." not in target.segments
    assert "%" not in target.path


def test_a_placeholder_is_one_segment() -> None:
    pattern = Pattern("/api/v1/namespaces/{namespace}/secrets/{name}")
    assert pattern.match(parse("/api/v1/namespaces/shop/secrets/prices").segments) == {
        "namespace": "shop",
        "name": "prices",
    }
    assert pattern.match(parse("/api/v1/namespaces/shop/secrets").segments) is None
    assert pattern.match(parse("/api/v1/namespaces/shop/secrets/prices/status").segments) is None
    assert pattern.match(parse("/api/v1/namespaces/shop/configmaps/prices").segments) is None


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/api/v1/nodes", "nodes"),
        ("/api/v1/nodes/kip-0/status", "nodes/status"),
        ("/api/v1/namespaces/shop/secrets/prices", "secrets"),
        ("/api/v1/namespaces/shop/pods/web/exec", "pods/exec"),
        ("/apis/storage.k8s.io/v1/csinodes/kip-0", "csinodes"),
        ("/apis/apps/v1/namespaces/shop/deployments/web", "deployments"),
        ("/api/v1/namespaces/shop", "namespaces"),
        ("/version", "/version"),
        ("/apis/apps/v1", "/apis"),
    ],
)
def test_names_the_resource_without_names(path: str, resource: str) -> None:
    assert resource_of(parse(path)) == resource
