"""What the operator must be allowed to do follows from the shipped permissions and the configuration."""

from __future__ import annotations

from patient import settings

from kip.doctor.access import Permission, needed, service_account


def test_names_and_namespaces_are_those_of_the_configuration() -> None:
    found = needed(
        settings({"kubelet": {"nodeNamePrefix": "edge", "nodes": 2}, "cluster": {"namespace": "ours"}})
    )
    named = {p.name for p in found if p.resource == "nodes/status"}
    assert named == {"edge-0", "edge-1"}
    assert {p.name for p in found if p.resource == "users"} == {"system:node:edge-0", "system:node:edge-1"}
    assert {p.namespace for p in found if p.resource == "secrets"} == {"ours"}
    assert {p.namespace for p in found if p.resource == "leases"} == {"ours", "kube-node-lease"}
    assert not [p for p in found if "kip-provider" in p.name]


def test_more_nodes_than_the_shipped_permissions_name_are_asked_about() -> None:
    found = needed(settings({"kubelet": {"nodes": 6}}))
    assert Permission("", "nodes", "patch", "", "kip-provider-5") in found


def test_the_configured_signer_is_the_one_that_counts() -> None:
    found = needed(settings({"kubelet": {"servingCertificate": {"signerName": "example.com/ours"}}}))
    assert [p.name for p in found if p.resource == "signers"] == ["example.com/ours"]


def test_without_impersonation_its_own_rights_have_to_do() -> None:
    found = needed(settings({"cluster": {"impersonateNode": False}}))
    assert not [p for p in found if p.verb == "impersonate"]
    assert Permission("", "serviceaccounts/token", "create") in found
    assert not [p for p in needed(settings()) if p.resource == "serviceaccounts/token"]


def test_a_subresource_is_asked_about_as_such() -> None:
    assert Permission("", "pods/status", "patch").attributes == {
        "group": "",
        "resource": "pods",
        "subresource": "status",
        "verb": "patch",
        "namespace": "",
        "name": "",
    }
    assert service_account(settings()) == "system:serviceaccount:kip:kip-provider"
