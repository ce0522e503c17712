"""What a pod's kubelet may read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes_asyncio.client import models

from kip.pods.references import MIRROR_ANNOTATION, Reference, referenced


def pod(spec: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web", "namespace": "shop"}, "spec": spec or {}, **more}


def names(found: frozenset[Reference]) -> set[str]:
    return {f"{reference.resource}/{reference.name}" for reference in found}


# Each place of a pod that may name an object -> a pod that names `X` there, and the plural of what is named.
PLACES: dict[str, tuple[str, Any]] = {
    "service account": ("serviceaccounts", lambda x: {"serviceAccountName": x}),
    "pull secret": ("secrets", lambda x: {"imagePullSecrets": [{"name": x}]}),
    **{
        f"{kind} {place}": (plural, lambda x, kind=kind, make=make: {kind: [{"name": "c", **make(x)}]})
        for kind in ("initContainers", "containers", "ephemeralContainers")
        for place, plural, make in (
            ("env secret", "secrets", lambda x: {"env": [{"valueFrom": {"secretKeyRef": {"name": x}}}]}),
            (
                "env config",
                "configmaps",
                lambda x: {"env": [{"valueFrom": {"configMapKeyRef": {"name": x}}}]},
            ),
            ("envFrom secret", "secrets", lambda x: {"envFrom": [{"secretRef": {"name": x}}]}),
            ("envFrom map", "configmaps", lambda x: {"envFrom": [{"configMapRef": {"name": x}}]}),
        )
    },
    **{
        f"volume {source}": (plural, lambda x, source=source, make=make: {"volumes": [{source: make(x)}]})
        for source, plural, make in (
            ("secret", "secrets", lambda x: {"secretName": x}),
            ("configMap", "configmaps", lambda x: {"name": x}),
            ("azureFile", "secrets", lambda x: {"secretName": x}),
            ("cephfs", "secrets", lambda x: {"secretRef": {"name": x}}),
            ("cinder", "secrets", lambda x: {"secretRef": {"name": x}}),
            ("csi", "secrets", lambda x: {"driver": "d", "nodePublishSecretRef": {"name": x}}),
            ("flexVolume", "secrets", lambda x: {"secretRef": {"name": x}}),
            ("iscsi", "secrets", lambda x: {"secretRef": {"name": x}}),
            ("rbd", "secrets", lambda x: {"secretRef": {"name": x}}),
            ("scaleIO", "secrets", lambda x: {"secretRef": {"name": x}}),
            ("storageos", "secrets", lambda x: {"secretRef": {"name": x}}),
            ("projected", "secrets", lambda x: {"sources": [{"secret": {"name": x}}]}),
            ("persistentVolumeClaim", "persistentvolumeclaims", lambda x: {"claimName": x}),
        )
    },
    "volume projected config": (
        "configmaps",
        lambda x: {"volumes": [{"projected": {"sources": [{"configMap": {"name": x}}]}}]},
    ),
    "resource claim": (
        "resourceclaims",
        lambda x: {"resourceClaims": [{"resourceClaimName": x}]},
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_every_place_is_found(place: str) -> None:
    plural, make = PLACES[place]
    assert referenced(pod(make("X"))) == {Reference(plural, "shop", "X")}


def test_every_secret_of_the_volume_api_has_a_place() -> None:
    """Kubernetes' own model of a volume says where secrets can be named: a new place must not be missed."""
    found = set()
    for field, kind in models.V1Volume.openapi_types.items():
        source = getattr(models, kind, None)
        if source and {"secret_ref", "secret_name", "node_publish_secret_ref"} & set(source.openapi_types):
            found.add(models.V1Volume.attribute_map[field])
    assert found == {
        place.removeprefix("volume ")
        for place, (plural, _) in PLACES.items()
        if place.startswith("volume ") and plural == "secrets" and place != "volume projected"
    }


def test_a_generic_ephemeral_volume_has_a_claim_named_after_pod_and_volume() -> None:
    spec = {"volumes": [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}]}
    assert names(referenced(pod(spec))) == {"persistentvolumeclaims/web-scratch"}


def test_a_claim_from_a_template_is_known_once_the_status_names_it() -> None:
    spec = {"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "t"}]}
    assert referenced(pod(spec)) == frozenset()
    status = {"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "web-gpu-x7"}]}
    assert names(referenced(pod(spec, status=status))) == {"resourceclaims/web-gpu-x7"}


def test_a_claim_that_will_never_exist_is_no_reference() -> None:
    spec = {"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "t"}]}
    assert referenced(pod(spec, status={"resourceClaimStatuses": [{"name": "gpu"}]})) == frozenset()


def test_the_claim_for_extended_resources_is_found() -> None:
    status = {"extendedResourceClaimStatus": {"resourceClaimName": "web-ext"}}
    assert names(referenced(pod(status=status))) == {"resourceclaims/web-ext"}


def test_what_admission_adds_to_every_pod() -> None:
    spec = {
        "serviceAccountName": "default",
        "volumes": [
            {
                "name": "kube-api-access-2x",
                "projected": {
                    "sources": [
                        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                        {
                            "configMap": {
                                "name": "kube-root-ca.crt",
                                "items": [{"key": "ca.crt", "path": "ca.crt"}],
                            }
                        },
                        {"downwardAPI": {"items": []}},
                    ]
                },
            }
        ],
    }
    assert names(referenced(pod(spec))) == {"serviceaccounts/default", "configmaps/kube-root-ca.crt"}


def test_a_mirror_pod_grants_nothing() -> None:
    mirror = pod(PLACES["pull secret"][1]("X"))
    mirror["metadata"]["annotations"] = {MIRROR_ANNOTATION: "0123"}
    assert referenced(mirror) == frozenset()


def test_what_is_null_or_empty_names_nothing() -> None:
    spec = {
        "imagePullSecrets": [{}, {"name": ""}],
        "volumes": [{"name": "v", "secret": None, "csi": {"driver": "d"}, "projected": {"sources": None}}],
        "containers": [{"env": None, "envFrom": [{"prefix": "A_"}]}, {"env": [{"name": "A", "value": "b"}]}],
        "initContainers": None,
        "resourceClaims": None,
    }
    assert referenced(pod(spec)) == frozenset()


def merged(specs: list[dict[str, Any]]) -> dict[str, Any]:
    """One spec that says all that `specs` say; lists are joined, the last of single values counts."""
    result: dict[str, Any] = {}
    for spec in specs:
        for key, value in spec.items():
            result[key] = [*result.get(key, []), *value] if isinstance(value, list) else value
    return result


NAMES = st.from_regex(r"[a-z][a-z0-9.-]{0,20}[a-z0-9]", fullmatch=True)


@given(st.lists(st.tuples(st.sampled_from(sorted(set(PLACES) - {"service account"})), NAMES), max_size=20))
def test_all_that_a_pod_names_is_found_and_nothing_more(chosen: list[tuple[str, str]]) -> None:
    spec = merged([PLACES[place][1](name) for place, name in chosen])
    assert referenced(pod(spec)) == {Reference(PLACES[place][0], "shop", name) for place, name in chosen}


@given(st.lists(st.tuples(st.sampled_from(sorted(PLACES)), NAMES), max_size=10), NAMES)
def test_nothing_outside_the_pods_namespace(chosen: list[tuple[str, str]], namespace: str) -> None:
    spec = merged([PLACES[place][1](name) for place, name in chosen])
    subject = pod(spec)
    subject["metadata"]["namespace"] = namespace
    assert {reference.namespace for reference in referenced(subject)} <= {namespace}
