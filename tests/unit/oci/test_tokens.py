"""What a registry may lead us to when it wants a login."""

from __future__ import annotations

import pytest
from yarl import URL

from kip.model.clock import ManualClock
from kip.oci.credentials import Credential
from kip.oci.errors import Denied, Unreachable
from kip.oci.tokens import Place, Tokens

PLACE = Place("https://quay.io/v2", "team/app")
ANN, EVE = Credential("ann", "secret"), Credential("eve", "guess")
BEARER = 'Bearer realm="https://auth.example.com/token",service="quay.io"'


class Server:
    """Gives numbered tokens, and remembers what for."""

    def __init__(self, body: bytes | None = None) -> None:
        self.asked: list[tuple[URL, str]] = []
        self.body = body

    async def fetch(self, url: URL, authorization: str) -> bytes:
        self.asked.append((url, authorization))
        return self.body or b'{"token": "%d", "expires_in": 300}' % len(self.asked)


async def test_a_token_is_asked_for_with_the_repository_s_scope_and_kept_for_its_time() -> None:
    server, clock = Server(), ManualClock()
    tokens = Tokens(server.fetch, clock)
    assert await tokens.log_in(PLACE, ANN, [BEARER], secure=True) == "Bearer 1"
    ((url, authorization),) = server.asked
    assert dict(url.query) == {"scope": "repository:team/app:pull", "service": "quay.io"}
    assert authorization == ANN.basic
    assert tokens.known(PLACE, ANN) == "Bearer 1"
    for others in ((PLACE, EVE), (PLACE, None), (Place(PLACE.root, "team/other"), ANN)):
        assert tokens.known(*others) == ""
    await clock.advance(291)
    assert tokens.known(PLACE, ANN) == ""


async def test_no_password_is_sent_in_the_clear_on_the_word_of_a_registry() -> None:
    server = Server()
    tokens = Tokens(server.fetch, ManualClock())
    plain = BEARER.replace("https", "http")
    with pytest.raises(Denied, match="without TLS"):
        await tokens.log_in(PLACE, ANN, [plain], secure=True)
    assert not server.asked
    assert await tokens.log_in(PLACE, None, [plain], secure=True), "nothing is given away"


@pytest.mark.parametrize("header", ["Negotiate", "", 'Bearer realm="not a url"', 'Bearer service="x"'])
async def test_a_login_that_cannot_be_done(header: str) -> None:
    with pytest.raises(Denied):
        await Tokens(Server().fetch, ManualClock()).log_in(PLACE, ANN, [header], secure=True)


async def test_basic_without_a_password() -> None:
    tokens = Tokens(Server().fetch, ManualClock())
    with pytest.raises(Denied, match="there is none"):
        await tokens.log_in(PLACE, None, ["Basic realm=x"], secure=True)
    assert await tokens.log_in(PLACE, ANN, ["Basic realm=x"], secure=True) == ANN.basic


@pytest.mark.parametrize(
    "body",
    [
        b"hunter2",
        b'{"no": "hunter2"}',
        b'{"token": "x", "expires_in": "hunter2"}',
        b'{"token": "hunter2\\r\\nHost: x"}',
        b'{"token": ["hunter2"]}',
    ],
)
async def test_what_is_no_token_is_not_told(body: bytes) -> None:
    with pytest.raises(Unreachable) as caught:
        await Tokens(Server(body).fetch, ManualClock()).log_in(PLACE, ANN, [BEARER], secure=True)
    assert "hunter2" not in str(caught.value)
