"""The table itself, and every line of it from a cell's side."""

from __future__ import annotations

from typing import Any

import pytest

from kip.cellapi.paths import parse
from kip.cellapi.rules import RULES, Rulebook

NODE = "kip-provider-0"
SHOP = "/api/v1/namespaces/shop"
STORAGE = "/apis/storage.k8s.io/v1"
CERTIFICATE_REQUESTS = "/apis/certificates.k8s.io/v1/podcertificaterequests"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"

# Method, path, query, and the code for a cell whose pod runs, whose upstream has every object asked for.
EXPECTED = [
    ("GET", "/readyz", "", 200),
    ("GET", "/api/v1/nodes", f"fieldSelector=metadata.name%3D{NODE}", 200),
    ("GET", "/api/v1/nodes", "", 200),
    ("GET", "/api/v1/nodes", "fieldSelector=metadata.name%3Dother", 403),
    ("GET", "/api/v1/nodes", "labelSelector=a%3Db", 400),
    ("GET", "/api/v1/nodes", "whatever=1", 400),
    ("GET", f"/api/v1/nodes/{NODE}", "", 200),
    ("GET", "/api/v1/nodes/other", "", 403),
    ("POST", "/api/v1/nodes", "", 409),
    ("PATCH", f"/api/v1/nodes/{NODE}", "", 200),
    ("PATCH", f"/api/v1/nodes/{NODE}/status", "", 200),
    ("PATCH", "/api/v1/nodes/other/status", "", 403),
    ("DELETE", f"/api/v1/nodes/{NODE}", "", 403),
    ("GET", f"{LEASES}/{NODE}", "", 404),
    ("GET", f"{LEASES}/other", "", 403),
    ("GET", f"/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{NODE}", "", 403),
    ("PUT", f"{LEASES}/{NODE}", "", 400),
    ("POST", LEASES, "", 400),
    ("GET", f"{STORAGE}/csinodes/{NODE}", "", 404),
    ("GET", f"{STORAGE}/csinodes/other", "", 403),
    ("GET", f"{STORAGE}/csinodes", "", 403),
    ("POST", f"{STORAGE}/csinodes", "", 400),
    ("PUT", f"{STORAGE}/csinodes/{NODE}", "", 400),
    ("DELETE", f"{STORAGE}/csinodes/{NODE}", "", 404),
    ("GET", "/api/v1/pods", f"fieldSelector=spec.nodeName%3D{NODE}", 200),
    ("GET", "/api/v1/pods", "", 403),
    ("GET", "/api/v1/pods", "fieldSelector=spec.nodeName%3Dother", 403),
    ("GET", f"{SHOP}/pods", "", 403),
    ("GET", f"{SHOP}/pods/web", "", 200),
    ("GET", f"{SHOP}/pods/db", "", 403),
    ("GET", "/api/v1/namespaces/bank/pods/web", "", 403),
    ("GET", f"{SHOP}/pods/web/status", "", 403),
    ("GET", f"{SHOP}/pods/web/log", "", 403),
    ("POST", f"{SHOP}/pods", "", 403),
    ("POST", f"{SHOP}/pods/web/eviction", "", 403),
    ("POST", f"{SHOP}/pods/web/exec", "", 403),
    ("POST", f"{SHOP}/pods/web/binding", "", 403),
    ("PATCH", f"{SHOP}/pods/web", "", 403),
    ("PUT", f"{SHOP}/pods/web/status", "", 403),
    ("PATCH", f"{SHOP}/pods/web/resize", "", 403),
    ("PATCH", f"{SHOP}/pods/db/status", "", 403),
    ("DELETE", f"{SHOP}/pods/db", "", 403),
    ("DELETE", f"{SHOP}/pods", "", 403),
    ("GET", f"{SHOP}/secrets/kip:registry-login", "", 404),
    ("GET", "/api/v1/namespaces/bank/secrets/kip:registry-login", "", 403),
    ("PATCH", f"{SHOP}/secrets/kip:registry-login", "", 403),
    ("GET", f"{SHOP}/secrets/prices", "", 200),
    ("GET", f"{SHOP}/secrets/prices", "resourceVersion=0", 200),
    ("GET", f"{SHOP}/secrets/prices", "watch=true", 400),
    ("GET", f"{SHOP}/secrets/other", "", 403),
    ("GET", "/api/v1/namespaces/bank/secrets/prices", "", 403),
    ("GET", f"{SHOP}/secrets", "", 403),
    ("GET", f"{SHOP}/secrets", "fieldSelector=metadata.name%3Dprices", 403),
    ("GET", "/api/v1/secrets", "", 403),
    ("PUT", f"{SHOP}/secrets/prices", "", 403),
    ("DELETE", f"{SHOP}/secrets/prices", "", 403),
    ("GET", f"{SHOP}/configmaps/shelf", "", 200),
    ("GET", f"{SHOP}/configmaps/prices", "", 403),
    ("GET", "/api/v1/namespaces/kube-system/configmaps/shelf", "", 403),
    ("GET", f"{SHOP}/configmaps", "", 403),
    ("GET", f"{SHOP}/serviceaccounts/seller", "", 200),
    ("GET", f"{SHOP}/serviceaccounts/admin", "", 403),
    ("POST", f"{SHOP}/serviceaccounts/admin/token", "", 403),
    ("POST", "/api/v1/namespaces/kube-system/serviceaccounts/seller/token", "", 403),
    ("GET", "/apis/resource.k8s.io/v1/namespaces/shop/resourceclaims/gpu", "", 403),
    ("GET", f"{SHOP}/persistentvolumeclaims/disk", "", 200),
    ("GET", f"{SHOP}/persistentvolumeclaims/other", "", 403),
    ("PATCH", f"{SHOP}/persistentvolumeclaims/other/status", "", 403),
    ("GET", "/api/v1/persistentvolumes/pv-1", "", 403),
    ("GET", "/api/v1/persistentvolumes", "", 403),
    ("GET", f"{STORAGE}/volumeattachments/csi-abc", "", 404),
    ("GET", "/api/v1/services", "fieldSelector=spec.clusterIP%21%3DNone", 200),
    ("GET", "/api/v1/services", "fieldSelector=metadata.name%3Dx", 403),
    ("GET", f"{SHOP}/services/web", "", 403),
    ("GET", f"{STORAGE}/csidrivers", "", 200),
    ("GET", "/apis/node.k8s.io/v1/runtimeclasses", "", 200),
    ("POST", f"{SHOP}/events", "", 400),
    ("PATCH", f"{SHOP}/events/web.1a", "", 404),
    ("DELETE", f"{SHOP}/events/web.1a", "", 403),
    ("GET", f"{SHOP}/events", "", 403),
    ("DELETE", "/apis/resource.k8s.io/v1/resourceslices", f"fieldSelector=spec.nodeName%3D{NODE}", 200),
    ("DELETE", "/apis/resource.k8s.io/v1beta1/resourceslices", f"fieldSelector=spec.nodeName%3D{NODE}", 200),
    ("DELETE", "/apis/resource.k8s.io/v1/resourceslices", "", 403),
    ("POST", "/apis/resource.k8s.io/v1/resourceslices", "", 403),
    ("POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests", "", 403),
    ("GET", "/apis/certificates.k8s.io/v1beta1/clustertrustbundles", "", 403),
    ("POST", "/apis/certificates.k8s.io/v1beta1/namespaces/shop/podcertificaterequests", "", 403),
    ("POST", "/apis/certificates.k8s.io/v1/namespaces/shop/podcertificaterequests", "", 403),
    ("GET", CERTIFICATE_REQUESTS, f"fieldSelector=spec.nodeName%3D{NODE}", 200),
    ("GET", CERTIFICATE_REQUESTS, "fieldSelector=spec.nodeName%3Dother", 403),
    ("GET", CERTIFICATE_REQUESTS, "", 403),
    ("DELETE", CERTIFICATE_REQUESTS, f"fieldSelector=spec.nodeName%3D{NODE}", 403),
    ("GET", "/apis/certificates.k8s.io/v1", "", 404),
    ("GET", "/apis/certificates.k8s.io/v1alpha1", "", 404),
    ("POST", "/apis/authentication.k8s.io/v1/tokenreviews", "", 403),
    ("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", "", 403),
    ("GET", "/api/v1", "", 403),
    ("GET", "/version", "", 403),
    ("GET", "/metrics", "", 403),
    ("GET", "/", "", 400),
    ("OPTIONS", "/api/v1/nodes", "", 403),
    ("HEAD", f"{SHOP}/secrets/prices", "", 403),
]


@pytest.mark.parametrize(("method", "path", "query", "code"), EXPECTED)
async def test_every_rule(running: Any, world: Any, method: str, path: str, query: str, code: int) -> None:
    _, kubelet = running
    world.upstream.objects[path] = {"metadata": {"uid": "uid-web"}}
    body = "" if method in ("GET", "HEAD", "OPTIONS") else "{}"
    head = f"{method} {path}{'?' + query if query else ''} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
    head += f"root-only-token-of-cell-a\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    content_type = "application/strategic-merge-patch+json" if method == "PATCH" else "application/json"
    answer = await kubelet.raw(f"{head}Content-Type: {content_type}\r\n\r\n{body}".encode())
    assert int(answer.split(b" ")[1]) == code, answer.decode()
    assert not world.hooks.failures
    if code != 200:
        assert world.upstream.writes == []
        assert method == "HEAD" or b'"kind":"Status"' in answer


def test_every_rule_is_tried_above() -> None:
    rulebook = Rulebook()
    tried = {match.rule.name for m, p, _, _ in EXPECTED if p != "/" and (match := rulebook.find(m, parse(p)))}
    # Rules whose requests need a body of their own have tests of their own.
    assert {rule.name for rule in RULES} - tried == set()


def test_every_rule_gives_its_reason() -> None:
    assert all(rule.reason for rule in RULES)


def test_no_rule_hides_another() -> None:
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)


def test_only_readyz_needs_no_token() -> None:
    assert [rule.path for rule in RULES if rule.anonymous] == ["/readyz"]


def test_what_is_forwarded_is_checked() -> None:
    unchecked = {rule.path for rule in RULES if rule.verdict == "pass" and rule.check.__name__ == "nothing"}
    # Whose a volume is can be seen only in the volume: its handler checks it.
    assert unchecked == {"/api/v1/persistentvolumes/{name}"}
