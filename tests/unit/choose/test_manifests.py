"""What is found in manifests, and what is said about those that are none."""

from __future__ import annotations

from textwrap import dedent

import pytest

from kip.choose.manifests import ManifestError, Skipped, Workload, read

SPEC = "{containers: [{name: c, image: i}]}"


def one(text: str) -> Workload:
    (found,) = read(dedent(text))
    assert isinstance(found, Workload)
    return found


def test_a_pod() -> None:
    found = one(f"{{kind: Pod, metadata: {{name: web, namespace: shop, labels: {{a: b}}}}, spec: {SPEC}}}")
    assert (str(found), found.count) == ("Pod shop/web", 1)
    assert found.pod["metadata"] == {"name": "web", "namespace": "shop", "labels": {"a": "b"}}
    assert found.pod["spec"]["containers"] == [{"name": "c", "image": "i"}]


@pytest.mark.parametrize(
    ("kind", "spec", "count"),
    [
        ("Deployment", f"{{replicas: 3, template: {{spec: {SPEC}}}}}", 3),
        ("StatefulSet", f"{{template: {{spec: {SPEC}}}}}", 1),
        ("ReplicaSet", f"{{replicas: 0, template: {{spec: {SPEC}}}}}", 0),
        ("ReplicationController", f"{{replicas: 2, template: {{spec: {SPEC}}}}}", 2),
        ("DaemonSet", f"{{template: {{spec: {SPEC}}}}}", 1),
        ("Job", f"{{parallelism: 4, template: {{spec: {SPEC}}}}}", 4),
        ("CronJob", f"{{jobTemplate: {{spec: {{template: {{spec: {SPEC}}}}}}}}}", 1),
    ],
)
def test_everything_that_makes_pods(kind: str, spec: str, count: int) -> None:
    found = one(f"{{kind: {kind}, metadata: {{name: x}}, spec: {spec}}}")
    assert (found.kind, found.name, found.count) == (kind, "x", count)
    assert found.pod["spec"]["containers"][0]["name"] == "c"


def test_a_template_of_its_own() -> None:
    template = f"{{metadata: {{annotations: {{a: b}}}}, spec: {SPEC}}}"
    found = one(f"{{kind: PodTemplate, metadata: {{name: x}}, template: {template}}}")
    assert found.pod["metadata"]["annotations"] == {"a": "b"}


def test_pods_of_a_daemon_set_know_their_owner() -> None:
    found = one(f"{{kind: DaemonSet, metadata: {{name: x}}, spec: {{template: {{spec: {SPEC}}}}}}}")
    assert found.pod["metadata"]["ownerReferences"] == [
        {"controller": True, "kind": "DaemonSet", "name": "x"}
    ]


def test_documents_lists_and_what_has_no_pods() -> None:
    found = read(
        dedent(
            f"""\
            ---
            kind: Service
            metadata: {{name: web}}
            ---
            kind: List
            items:
              - {{kind: Pod, metadata: {{generateName: a-}}, spec: {SPEC}}}
              - {{kind: ConfigMap, metadata: {{name: c}}}}
            ---
            kind: PodList
            items: [{{metadata: {{name: b}}, spec: {SPEC}}}]
            ---
            """
        )
    )
    assert [str(entry) for entry in found] == [
        "Service web has no pods",
        "Pod a-",
        "ConfigMap c has no pods",
        "Pod b",
    ]
    assert [type(entry) for entry in found] == [Skipped, Workload, Skipped, Workload]


def test_what_looks_like_a_time_is_text() -> None:
    text = f"{{kind: Pod, metadata: {{name: a, annotations: {{since: 2026-01-01, never: 2026-99-99}}}}, spec: {SPEC}}}"
    assert one(text).pod["metadata"]["annotations"] == {"since": "2026-01-01", "never": "2026-99-99"}


def test_json() -> None:
    assert one('{"kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": []}}').name == "a"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "kind: Pod\nspec: [",
            "line 2: is not YAML: while parsing a flow node, expected the node content, but found",
        ),
        ("kind: Pod\n a: b", "line 2: is not YAML: mapping values are not allowed here"),
        ("a: \x07", "is not YAML: special characters are not allowed"),
        ("- a", "line 1: expected an object with a kind"),
        ("kind: A\n---\nspec: {}", "line 3: expected an object with a kind"),
        ("kind: List\nitems: [5]", "line 1: items[0]: expected an object with a kind"),
        ("kind: Pod\nmetadata: x", "line 1: metadata: expected an object"),
        ("{kind: Pod, metadata: {name: a}}", "line 1: Pod a: spec: missing"),
        ("{kind: Pod, metadata: {name: a}, spec: {}}", "line 1: Pod a: spec.containers: missing"),
        (
            "{kind: Pod, metadata: {name: a}, spec: {containers: 5}}",
            "line 1: Pod a: spec.containers: expected a list",
        ),
        (
            "{kind: Pod, metadata: {name: a}, spec: {containers: [x]}}",
            "line 1: Pod a: spec.containers[0]: expected an object",
        ),
        (
            f"{{kind: Pod, metadata: {{name: a, annotations: {{x: true}}}}, spec: {SPEC}}}",
            "line 1: Pod a: metadata.annotations.x: expected text (in quotes, if it looks like something else)",
        ),
        (
            f"{{kind: Deployment, metadata: {{name: a}}, spec: {{template: {{metadata: 5, spec: {SPEC}}}}}}}",
            "line 1: Deployment a: spec.template.metadata: expected an object",
        ),
        (
            "{kind: Deployment, metadata: {name: a}}",
            "line 1: Deployment a: spec.template: expected an object",
        ),
        (
            "{kind: Deployment, metadata: {name: a}, spec: 5}",
            "line 1: Deployment a: spec: expected an object",
        ),
    ],
)
def test_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read(text)
    assert str(caught.value).startswith(said)
