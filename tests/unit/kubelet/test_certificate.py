from __future__ import annotations

import asyncio
import base64
import random
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from kip.kube.errors import Unavailable
from kip.kubelet import pki
from kip.kubelet.certificate import EKS_APP_SERVING, KUBELET_SERVING, NotIssued, ServingCertificate, Wanted

PATH = "/apis/certificates.k8s.io/v1/certificatesigningrequests"


class Signer:
    """The cluster's side: takes requests, signs what is approved (when it feels like it), forgets what is deleted."""

    def __init__(self, api: Any, clock: Any) -> None:
        self.api, self.clock = api, clock
        self.requests: dict[str, Any] = {}
        self.seen: list[Any] = []
        self.signs = True
        self.condition: dict[str, str] | None = None
        self.life = timedelta(days=7)
        api.on("POST", PATH, self.create)

    def create(self, call: Any) -> Any:
        name = call.body["metadata"]["name"]
        self.seen.append(call)
        self.requests[name] = call.body
        self.api.on(
            "PUT",
            f"{PATH}/{name}/approval",
            lambda call: self.requests.update({name: call.body}) or call.body,
        )
        self.api.on("GET", f"{PATH}/{name}", lambda _call: self.show(name))
        self.api.on("DELETE", f"{PATH}/{name}", lambda _call: self.requests.pop(name))
        return call.body

    def show(self, name: str) -> Any:
        request = self.requests[name]
        status = request.get("status", {})
        approved = [one["type"] for one in status.get("conditions", [])] == ["Approved"]
        if self.condition:
            status["conditions"].append(self.condition)
        if approved and self.signs:
            status["certificate"] = self.sign(request["spec"]["request"])
        return request

    def sign(self, encoded: str) -> str:
        request = x509.load_pem_x509_csr(base64.b64decode(encoded))
        key = pki.new_key()
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(request.subject)
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "cluster")]))
            .public_key(request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.clock.now())
            .not_valid_after(self.clock.now() + self.life)
            .add_extension(names.value, critical=False)
        )
        pem = certificate.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        return base64.b64encode(pem).decode()


@pytest.fixture
def signer(api: Any, clock: Any) -> Signer:
    return Signer(api, clock)


def serving(api: Any, clock: Any, signer_name: str = KUBELET_SERVING) -> ServingCertificate:
    return ServingCertificate(api, Wanted("kip-0", ["10.0.0.1"], signer_name), clock, rng=random.Random(1))


async def test_the_request_is_made_as_the_node_and_nothing_stays_behind(
    api: Any, clock: Any, signer: Signer
) -> None:
    certificate = serving(api, clock)
    await certificate.start()
    assert certificate.problem is None
    made = signer.seen[0]
    assert (made.impersonate.user, made.impersonate.groups) == ("system:node:kip-0", ("system:nodes",))
    spec = made.body["spec"]
    assert (spec["signerName"], spec["usages"]) == (KUBELET_SERVING, ["digital signature", "server auth"])
    request = x509.load_pem_x509_csr(base64.b64decode(spec["request"]))
    assert request.subject.rfc4514_string() == "CN=system:node:kip-0,O=system:nodes"
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1"]
    assert signer.requests == {}
    approval = next(call for call in api.calls if call.path.endswith("/approval"))
    assert approval.impersonate is None
    assert "BEGIN CERTIFICATE" in certificate.pair.certificate.decode()
    assert certificate.context(None) is certificate.context(None)


async def test_on_eks_the_operator_asks_itself(api: Any, clock: Any, signer: Signer) -> None:
    await serving(api, clock, EKS_APP_SERVING).start()
    assert signer.seen[0].impersonate is None
    assert signer.seen[0].body["spec"]["signerName"] == EKS_APP_SERVING


async def test_approved_and_not_issued_is_told_with_the_way_out(api: Any, clock: Any, signer: Signer) -> None:
    signer.signs = False
    certificate = serving(api, clock)
    stopgap = certificate.pair
    await certificate.start()
    assert isinstance(certificate.problem, NotIssued)
    assert certificate.problem.reason == "CertificateNotIssued"
    for part in (KUBELET_SERVING, "10.0.0.1", EKS_APP_SERVING):
        assert part in str(certificate.problem)
    assert certificate.pair is stopgap
    assert signer.requests == {}
    assert 30 <= clock.seconds < 35


@pytest.mark.parametrize("kind", ["Failed", "Denied"])
async def test_a_refusal_is_told_as_it_came(api: Any, clock: Any, signer: Signer, kind: str) -> None:
    signer.condition = {"type": kind, "message": "IP not allowed"}
    signer.signs = False
    certificate = serving(api, clock)
    await certificate.start()
    assert certificate.problem is not None
    assert certificate.problem.reason == f"Certificate{kind}"
    assert "IP not allowed" in str(certificate.problem)
    assert signer.requests == {}


async def test_missing_rights_are_named(api: Any, clock: Any) -> None:
    api.on("POST", PATH, {"message": "users is forbidden: cannot impersonate"}, 403)
    certificate = serving(api, clock)
    await certificate.start()
    assert certificate.problem is not None
    assert certificate.problem.reason == "CertificateRequestFailed"
    assert "as system:node:kip-0" in str(certificate.problem)
    assert "cannot impersonate" in str(certificate.problem)


async def run_until(certificate: ServingCertificate, done: Any) -> None:
    task = asyncio.create_task(certificate.keep_renewed())
    async with asyncio.timeout(10):
        while not done():
            await asyncio.sleep(0)
    task.cancel()


async def test_renewed_when_most_of_its_life_is_over(api: Any, clock: Any, signer: Signer) -> None:
    certificate = serving(api, clock)
    await certificate.start()
    first, context = certificate.pair, certificate.context(None)
    await run_until(certificate, lambda: certificate.pair is not first)
    share = clock.slept[1] / signer.life.total_seconds()
    assert 0.7 <= share <= 0.8
    assert certificate.context(None) is not context


async def test_a_problem_is_tried_again_soon_then_every_minute_and_the_old_one_serves_on(
    api: Any, clock: Any, signer: Signer
) -> None:
    certificate = serving(api, clock)
    await certificate.start()
    first = certificate.pair
    api.down = Unavailable("away")
    await run_until(certificate, lambda: certificate.problem is not None)
    assert certificate.problem is not None
    assert "away" in str(certificate.problem)
    assert certificate.pair is first
    clock.slept.clear()
    await run_until(certificate, lambda: len(clock.slept) == 9)
    assert clock.slept == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    api.down = None
    await run_until(certificate, lambda: certificate.problem is None)
    assert certificate.pair is not first


async def test_after_a_success_the_next_problem_is_tried_again_soon(
    api: Any, clock: Any, signer: Signer
) -> None:
    certificate = serving(api, clock)
    api.down = Unavailable("away")
    await run_until(certificate, lambda: len(clock.slept) == 5)
    api.down = None
    await run_until(certificate, lambda: certificate.problem is None)
    api.down = Unavailable("away")
    await run_until(certificate, lambda: certificate.problem is not None)
    clock.slept.clear()
    await run_until(certificate, lambda: clock.slept)
    assert clock.slept == [1]


async def test_without_a_cluster_that_signs_the_stopgap_does_not_run_out(
    api: Any, clock: Any, signer: Signer
) -> None:
    signer.signs = False
    certificate = serving(api, clock)
    await certificate.start()
    clock.advance(8 * 24 * 3600)
    await run_until(certificate, lambda: certificate.pair.valid_until > clock.now())
