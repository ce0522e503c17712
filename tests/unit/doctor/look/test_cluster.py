"""How the cluster is asked, where that is not as usual."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy
from patient import settings

from kip.doctor.access import Access
from kip.doctor.asking import Asking
from kip.doctor.facts import Facts, Unanswered
from kip.doctor.look.cluster import look_at_cluster
from kip.kube.client import ApiClient, Reply
from kip.model.clock import ManualClock
from kip.model.names import GROUP, VERSION

NOW = datetime(2026, 11, 5, 12, tzinfo=UTC)
_AUTHORIZATION = "/apis/authorization.k8s.io/v1"
OWN, THEIRS = f"{_AUTHORIZATION}/selfsubjectaccessreviews", f"{_AUTHORIZATION}/subjectaccessreviews"
WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


class Scripted(ApiClient):
    """An API server that answers as told: path to status and body."""

    def __init__(
        self, answers: dict[str, tuple[int, Any]], date: str = "Thu, 05 Nov 2026 12:00:00 GMT"
    ) -> None:
        self._answers = {
            "/version": (200, {"gitVersion": "v1.36.3"}),
            "/api/v1/namespaces/kube-system/services/kube-dns": (
                200,
                {"spec": {"clusterIPs": ["10.96.0.10", "fd::a"]}},
            ),
            f"/apis/{GROUP}/{VERSION}": (200, {"resources": [{"name": "cells"}]}),
            WHO: (201, {"status": {"userInfo": {"username": "somebody"}}}),
            OWN: (201, {"status": {"allowed": True}}),
            THEIRS: (201, {"status": {"allowed": False}}),
            **answers,
        }
        self._date = CIMultiDictProxy(CIMultiDict({"Date": date} if date else {}))
        self.asked: list[str] = []

    @property
    def server(self) -> str:
        return "https://scripted"

    async def request(self, method: str, path: str, **options: Any) -> Reply:
        self.asked.append(path)
        status, body = self._answers.get(path, (404, {"message": "not here"}))
        return Reply(status, self._date, msgspec.json.encode(body))


async def look(api: Scripted, *, in_cluster: bool = False) -> Facts:
    facts = Facts(settings=settings(), in_cluster=in_cluster)
    return await look_at_cluster(facts, Asking(5), api, ManualClock(NOW))


async def test_a_server_that_does_not_answer_is_asked_nothing_more() -> None:
    api = Scripted({"/version": (503, {"message": "starting"})})
    facts = await look(api)
    assert isinstance(facts.version, Unanswered)
    assert "starting" in facts.version.why
    assert api.asked == ["/version"]


async def test_outside_of_the_cluster_the_operators_access_is_asked_for() -> None:
    facts = await look(Scripted({}))
    assert isinstance(facts.access, Access)
    assert facts.access.subject == "system:serviceaccount:kip:kip-provider"
    assert len(facts.access.missing) == facts.access.asked > 50


async def test_in_the_cluster_ones_own() -> None:
    api = Scripted({})
    facts = await look(api, in_cluster=True)
    assert isinstance(facts.access, Access)
    assert (facts.access.subject, facts.access.missing) == ("somebody", ())
    assert THEIRS not in api.asked


async def test_whoever_may_not_ask_about_others_is_told_their_own() -> None:
    facts = await look(Scripted({THEIRS: (403, {"reason": "Forbidden"}), WHO: (404, {})}))
    assert isinstance(facts.access, Access)
    assert (facts.access.subject, facts.access.missing) == ("whoever asks", ())


async def test_a_schema_that_is_not_published_yet_is_not_known() -> None:
    facts = await look(Scripted({}))
    assert isinstance(facts.cell_type, Unanswered)
    assert (facts.cell_type.reason, "not published yet" in facts.cell_type.why) == ("no answer", True)


async def test_a_type_that_is_not_served_is_missing() -> None:
    for answer in ((404, {}), (200, {"resources": []})):
        facts = await look(Scripted({f"/apis/{GROUP}/{VERSION}": answer}))
        assert isinstance(facts.cell_type, Unanswered)
        assert facts.cell_type.reason == "missing"


async def test_the_clock_is_compared_with_the_date_of_an_answer() -> None:
    facts = await look(Scripted({}, date="Thu, 05 Nov 2026 11:55:00 GMT"))
    assert facts.clocks["the API server"] == 299.5
    facts = await look(Scripted({}, date=""))
    assert isinstance(facts.clocks["the API server"], Unanswered)
    assert facts.dns == ("10.96.0.10",)
