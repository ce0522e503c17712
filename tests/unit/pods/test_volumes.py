"""In which zones a pod's volumes are."""

from __future__ import annotations

from typing import Any

import pytest

from kip.pods.volumes import claims, in_all, zones_of

ZONE, EBS = "topology.kubernetes.io/zone", "topology.ebs.csi.aws.com/zone"


def test_the_claims_of_a_pod() -> None:
    volumes = [
        {"name": "data", "persistentVolumeClaim": {"claimName": "db-0"}},
        {"name": "again", "persistentVolumeClaim": {"claimName": "db-0"}},
        {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {}}},
        {"name": "tmp", "emptyDir": {}},
    ]
    assert claims({"metadata": {"name": "db"}, "spec": {"volumes": volumes}}) == ("db-0", "db-scratch")
    assert claims({"metadata": {"name": "db"}, "spec": {}}) == ()


def term(*expressions: tuple[str, str, list[str]]) -> dict[str, Any]:
    return {"matchExpressions": [{"key": k, "operator": o, "values": v} for k, o, v in expressions]}


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ([term((ZONE, "In", ["a"]))], {"a"}),
        ([term((EBS, "In", ["a"]))], {"a"}),
        ([term((ZONE, "In", ["a"])), term((ZONE, "In", ["b"]))], {"a", "b"}),
        ([term((ZONE, "In", ["a", "b"]), (EBS, "In", ["b", "c"]))], {"b"}),
        ([term((ZONE, "In", ["a"])), term(("kubernetes.io/hostname", "In", ["n"]))], None),
        ([term(("kubernetes.io/hostname", "In", ["n"]))], None),
        ([term((ZONE, "NotIn", ["a"]))], None),
        ([], None),
    ],
)
def test_the_zones_of_a_volume(terms: list[dict[str, Any]], expected: set[str] | None) -> None:
    volume = {"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}}}
    assert zones_of(volume) == expected


def test_volumes_of_old_have_a_label_instead() -> None:
    assert zones_of({"metadata": {"labels": {ZONE: "a__b"}}, "spec": {}}) == {"a", "b"}
    assert zones_of({"metadata": {"labels": {"app": "db"}}, "spec": {"nfs": {}}}) is None


def test_zones_that_several_volumes_have_in_common() -> None:
    assert in_all([]) is None
    assert in_all([None, frozenset("ab"), frozenset("bc")]) == {"b"}
    assert in_all([frozenset("a"), frozenset("b")]) == frozenset()
