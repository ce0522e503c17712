"""Where objects lie, and what refusals say."""

import pytest

from kip.local.api import ApiError, _message, object_path


@pytest.mark.parametrize(
    ("manifest", "path"),
    [
        (
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "dns", "namespace": "kube-system"}},
            "/api/v1/namespaces/kube-system/services/dns",
        ),
        ({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kip"}}, "/api/v1/namespaces/kip"),
        (
            {
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {"name": "c"},
            },
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/c",
        ),
    ],
)
def test_paths(manifest: dict[str, object], path: str) -> None:
    assert object_path(manifest) == path


def test_a_kind_that_is_not_known_is_named() -> None:
    with pytest.raises(ApiError, match="Deployment web"):
        object_path({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}})


def test_a_refusal_is_told_in_kubernetes_words_or_as_it_came() -> None:
    assert _message('{"kind": "Status", "message": "name is taken"}') == "name is taken"
    assert _message("Bad Gateway\n") == "Bad Gateway"
