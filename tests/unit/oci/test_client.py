"""Real HTTP against the local registry, and against servers that behave as registries do on bad days."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import aclosing, suppress
from dataclasses import replace

import pytest
from aiohttp import web
from tests.doubles.registry import CONFIG, PATIENCE, LocalRegistry, as_json

from kip.model.backoff import Backoff
from kip.model.clock import SystemClock
from kip.oci import manifest as manifests
from kip.oci.client import Registries, open_registries
from kip.oci.credentials import Credential, Keyring
from kip.oci.errors import Damaged, Denied, NotAnImage, NotFound, RegistryError, TooMany, TooSlow, Unreachable
from kip.oci.manifest import Descriptor, digest_of
from kip.oci.reference import Reference, parse

from .conftest import Client, Serve

ANN = Keyring([("quay.io", Credential("ann", "secret"))])
EVE = Keyring([("quay.io", Credential("eve", "guess"))])


async def content(client: Registries, reference: Reference, blob: Descriptor, **as_whom: Keyring) -> bytes:
    async with aclosing(client.blob(reference.repository, blob, **as_whom)) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def layer(client: Registries, reference: Reference, *, as_whom: Keyring | None = None) -> bytes:
    """The lowest layer of an image."""
    whom = as_whom or Keyring()
    described = (await client.manifest(reference, whom)).fields()["layers"][0]
    blob = Descriptor(described["mediaType"], described["digest"], described["size"])
    return await content(client, reference, blob, credentials=whom)


async def test_an_image_with_its_layers(
    registry: LocalRegistry, registries: Registries, reference: Reference
) -> None:
    digest = registry.image(str(reference), b"base" * 100_000)
    assert (await registries.manifest(reference)).digest == digest
    assert await layer(registries, reference) == b"base" * 100_000
    assert await registries.resolve(reference) == digest
    assert all("ns=quay.io" in asked for asked in registry.asked), (
        "the mirror must hear which registry is meant"
    )
    assert registry.asked[-1].startswith("HEAD ")


async def test_the_platforms_of_an_index(
    registry: LocalRegistry, registries: Registries, reference: Reference
) -> None:
    entries = []
    for architecture, variant in (("amd64", ""), ("arm64", "v8")):
        digest = registry.image(
            f"quay.io/team/app:{architecture}", architecture.encode(), architecture=architecture
        )
        size = registry.store.blob(digest).stat().st_size
        platform = {"os": "linux", "architecture": architecture, "variant": variant}
        entries.append(as_json(Descriptor(manifests.OCI_MANIFEST, digest, size), platform=platform))
    attestation = {**entries[0], "platform": {"os": "unknown", "architecture": "unknown"}}
    index = {
        "schemaVersion": 2,
        "mediaType": manifests.OCI_INDEX,
        "manifests": [attestation, *entries, entries[0]],
    }
    digest = registry.manifest(str(reference), index)
    assert await registries.platforms(reference) == ("linux/amd64", "linux/arm64")
    found = await registries.manifest(reference)
    assert (found.digest, found.is_index) == (digest, True)


async def test_the_platforms_of_an_image_without_an_index(
    registry: LocalRegistry, registries: Registries, reference: Reference
) -> None:
    registry.image(str(reference), b"x", architecture="arm", variant="v7")
    assert await registries.platforms(reference) == ("linux/arm/v7",)


async def test_what_is_not_there(
    registry: LocalRegistry, registries: Registries, reference: Reference
) -> None:
    with pytest.raises(NotFound, match="app"):
        await registries.resolve(reference)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"mediaType": manifests.OCI_MANIFEST, "config": "helm", "layers": []}, "no container image"),
        ({"mediaType": manifests.OCI_MANIFEST, "config": {}, "layers": []}, "malformed descriptor"),
    ],
)
async def test_artifacts_are_no_images(
    serve: Serve, client_of: Client, reference: Reference, fields: dict[str, object], why: str
) -> None:
    helm = as_json(Descriptor("application/vnd.cncf.helm.config.v1+json", digest_of(b"{}"), 2))
    fields = {
        **fields,
        "schemaVersion": 2,
        "config": helm if fields["config"] == "helm" else fields["config"],
    }

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response(fields, content_type=manifests.OCI_MANIFEST)

    with pytest.raises(NotAnImage, match=why):
        await (await client_of(await serve(answer))).platforms(reference)


async def test_a_format_before_the_second_is_no_image(
    serve: Serve, client_of: Client, reference: Reference
) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.json_response(
            {"schemaVersion": 1}, content_type="application/vnd.docker.distribution.manifest.v1+json"
        )

    with pytest.raises(NotAnImage, match=r"manifest\.v1"):
        await (await client_of(await serve(answer))).manifest(reference)


async def test_another_manifest_than_the_digest_says_is_refused(
    serve: Serve, client_of: Client, reference: Reference
) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.json_response({"schemaVersion": 2}, content_type=manifests.OCI_MANIFEST)

    client = await client_of(await serve(answer))
    with pytest.raises(Damaged, match="expected sha256:0000"):
        await client.manifest(reference.at("sha256:" + "0" * 64))


async def test_a_registry_that_names_no_digest_is_asked_for_the_manifest(
    serve: Serve, client_of: Client, reference: Reference
) -> None:
    methods = []

    async def answer(request: web.Request) -> web.Response:
        methods.append(request.method)
        return web.Response(body=b"{}", content_type=manifests.OCI_MANIFEST)

    assert await (await client_of(await serve(answer))).resolve(reference) == digest_of(b"{}")
    assert methods == ["HEAD", "GET"]


@pytest.mark.parametrize("scheme", ["bearer", "basic"])
async def test_a_login(
    registry: LocalRegistry, registries: Registries, reference: Reference, scheme: str
) -> None:
    digest = registry.image(str(reference), b"private")
    registry.accounts(**{"quay.io/team": {"username": "ann", "password": "secret", "scheme": scheme}})
    for nobody in (Keyring(), EVE):
        with pytest.raises(Denied):
            await registries.resolve(reference, nobody)
    assert await registries.resolve(reference, ANN) == digest
    assert await layer(registries, reference, as_whom=ANN) == b"private"
    assert sum(asked.startswith("GET /token") for asked in registry.asked) == (
        3 if scheme == "bearer" else 0
    ), "one for each who asks: a token that was given is used again"
    with pytest.raises(Denied):
        await registries.resolve(reference, EVE)


async def test_every_credential_that_fits_is_tried(
    registry: LocalRegistry, registries: Registries, reference: Reference
) -> None:
    digest = registry.image(str(reference), b"private")
    registry.accounts(**{"quay.io/team": {"username": "ann", "password": "secret"}})
    both = Keyring([("quay.io/team", Credential("eve", "guess")), ("quay.io", Credential("ann", "secret"))])
    assert await registries.resolve(reference, both) == digest


async def test_a_token_that_is_not_accepted_any_more_is_replaced(
    registry: LocalRegistry, serve: Serve, client_of: Client, reference: Reference
) -> None:
    accepted: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/token":
            accepted[:] = [f"Bearer {len(accepted) + len(asked)}"]
            return web.json_response({"access_token": accepted[0].removeprefix("Bearer ")})
        asked.append(request.headers.get("Authorization", ""))
        if asked[-1] not in accepted:
            realm = request.url.origin() / "token"
            return web.Response(
                status=401, headers={"WWW-Authenticate": f'Bearer realm="{realm}",service="s"'}
            )
        return web.Response(
            headers={"Docker-Content-Digest": digest_of(b"")}, content_type=manifests.OCI_MANIFEST
        )

    asked: list[str] = []
    client = await client_of(await serve(answer))
    await client.resolve(reference)
    await client.resolve(reference)
    assert len(asked) == 3
    accepted.clear()
    await client.resolve(reference)
    assert len(asked) == 5


async def test_credentials_do_not_follow_a_redirect_to_another_host(
    serve: Serve, client_of: Client, reference: Reference
) -> None:
    seen: list[tuple[str, str | None]] = []

    async def storage(request: web.Request) -> web.Response:
        seen.append((request.raw_path, request.headers.get("Authorization")))
        return web.Response(body=b"blob")

    elsewhere = await serve(storage)

    async def front(request: web.Request) -> web.Response:
        if "Authorization" not in request.headers:
            return web.Response(status=401, headers={"WWW-Authenticate": "Basic realm=x"})
        return web.Response(status=307, headers={"Location": f"{elsewhere}/signed?sig=a%2Fb%3D"})

    client = await client_of(await serve(front))
    blob = Descriptor(CONFIG, digest_of(b"blob"), 4)
    assert await content(client, reference, blob, credentials=ANN) == b"blob"
    assert seen == [("/signed?sig=a%2Fb%3D", None)]


@pytest.mark.parametrize("kind", ["Basic realm=x", 'Bearer realm="{}/token"'])
async def test_where_a_registry_leads_us_nobody_may_ask_for_its_password(
    serve: Serve, client_of: Client, reference: Reference, kind: str
) -> None:
    seen: list[str | None] = []

    async def thief(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.Response(status=401, headers={"WWW-Authenticate": kind.format(elsewhere)})

    async def front(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": f"{elsewhere}/blob"})

    elsewhere = await serve(thief)
    client = await client_of(await serve(front))
    with pytest.raises(Denied, match="401"):
        await content(client, reference, Descriptor(CONFIG, digest_of(b"blob"), 4), credentials=ANN)
    assert seen == [None]


@pytest.mark.parametrize("place", ["http://169.254.169.254/latest/", "http://[fe80::1]/", "ftp://host/"])
async def test_no_registry_leads_us_to_the_machine_s_credentials(
    serve: Serve, client_of: Client, reference: Reference, place: str
) -> None:
    async def redirects(_request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": place})

    async def gives_tokens_there(_request: web.Request) -> web.Response:
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="{place}"'})

    for answer in (redirects, gives_tokens_there):
        with pytest.raises(Denied, match="not asked"):
            await (await client_of(await serve(answer))).resolve(reference)


async def test_a_blob_goes_on_where_the_connection_broke(
    serve: Serve, client_of: Client, reference: Reference
) -> None:
    whole = bytes(range(256)) * 4000
    ranges: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        ranges.append(request.headers.get("Range", ""))
        begin = int(ranges[-1].removeprefix("bytes=").rstrip("-") or 0)
        response = web.StreamResponse(status=206 if begin else 200)
        response.content_length = len(whole) - begin
        if begin:
            response.headers["Content-Range"] = f"bytes {begin}-{len(whole) - 1}/{len(whole)}"
        await response.prepare(request)
        part = whole[begin : begin + 400_000]
        await response.write(part)
        if begin + len(part) < len(whole):
            assert request.transport is not None
            request.transport.close()
        return response

    client = await client_of(await serve(answer))
    blob = Descriptor(CONFIG, digest_of(whole), len(whole))
    assert await content(client, reference, blob) == whole
    assert ranges[0] == ""
    assert len(ranges) == 3


class Hurried(SystemClock):
    """Time that passes when a test says so, and waits that end at once."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.passed_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


async def test_a_registry_that_sends_a_byte_now_and_then_is_given_up(
    serve: Serve, reference: Reference
) -> None:
    clock, asked = Hurried(), list[str]()

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers.get("Range", ""))
        begin = int(asked[-1].removeprefix("bytes=").rstrip("-") or 0)
        response = web.StreamResponse(status=206 if begin else 200)
        response.content_length = 10_000 - begin
        response.headers["Content-Range"] = f"bytes {begin}-9999/10000"
        await response.prepare(request)
        for _ in range(10_000 - begin):
            await asyncio.sleep(0.001)  # until the byte before has been taken, and this one is waited for
            clock.passed_s += 29
            await response.write(b"x")
        return response

    patience = replace(PATIENCE, backoff=Backoff(first_s=1, limit_s=8))
    mirrors = {"*": [await serve(answer)]}
    async with open_registries(clock, mirrors=mirrors, patience=patience) as client:
        with pytest.raises(
            TooSlow, match=r"app: sha256:\w+: too slow: \d+ bytes came in \d+ s; expected at least"
        ):
            await content(client, reference, Descriptor(CONFIG, digest_of(b"x" * 10_000), 10_000))
    assert len(asked) == patience.attempts, "each time from another connection, which may be faster"
    assert all(each.startswith("bytes=") for each in asked[1:]), "from where it was"
    assert clock.slept == [1, 2]


async def test_a_registry_that_breaks_off_after_every_byte_is_given_up(
    serve: Serve, client_of: Client, reference: Reference
) -> None:
    asked: list[int] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        begin = int(request.headers.get("Range", "").removeprefix("bytes=").rstrip("-") or 0)
        asked.append(begin)
        response = web.StreamResponse(status=206 if begin else 200)
        response.content_length = 10_000 - begin
        response.headers["Content-Range"] = f"bytes {begin}-9999/10000"
        await response.prepare(request)
        await response.write(b"x")
        assert request.transport is not None
        request.transport.close()
        return response

    client = await client_of(await serve(answer))
    with pytest.raises(Unreachable, match="broke off"):
        await content(client, reference, Descriptor(CONFIG, digest_of(b"x" * 10_000), 10_000))
    assert asked == [0, 1, 2]


async def test_an_answer_whose_headers_never_end_is_given_up(client_of: Client, reference: Reference) -> None:
    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        with suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b"X-More: 1\r\n")
                await writer.drain()
                await asyncio.sleep(0.01)

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        patience = replace(PATIENCE, answer_s=0.1, attempts=1)
        client = await client_of(f"http://127.0.0.1:{port}", patience=patience)
        with pytest.raises(Unreachable, match="TimeoutError"):
            await client.resolve(reference)


async def test_a_registry_without_ranges_sends_it_all_again(
    serve: Serve, client_of: Client, reference: Reference
) -> None:
    whole = bytes(range(256)) * 2000
    tries: list[int] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        tries.append(1)
        response = web.StreamResponse()
        response.content_length = len(whole)
        await response.prepare(request)
        await response.write(whole if len(tries) > 1 else whole[:200_000])
        if len(tries) == 1:
            assert request.transport is not None
            request.transport.close()
        return response

    client = await client_of(await serve(answer))
    assert await content(client, reference, Descriptor(CONFIG, digest_of(whole), len(whole))) == whole


@pytest.mark.parametrize(
    ("sent", "expected"), [(b"evil", b"good"), (b"too much", b"too"), (b"short", b"short of")]
)
async def test_a_blob_of_other_bytes_is_refused(
    serve: Serve, client_of: Client, reference: Reference, sent: bytes, expected: bytes
) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=sent)

    client = await client_of(await serve(answer))
    with pytest.raises(Damaged):
        await content(client, reference, Descriptor(CONFIG, digest_of(expected), len(expected)))


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (429, {"Retry-After": "0"}, TooMany),
        (503, {"Retry-After": "0"}, TooMany),
        (500, {}, Unreachable),
        (408, {}, Unreachable),
    ],
)
async def test_what_may_pass_is_tried_again(
    serve: Serve,
    client_of: Client,
    reference: Reference,
    status: int,
    headers: dict[str, str],
    error: type[RegistryError],
) -> None:
    answers = [status, status, 200]

    async def answer(_request: web.Request) -> web.Response:
        now = answers.pop(0)
        good = {"Docker-Content-Digest": digest_of(b"")}
        return web.Response(status=now, headers=good if now == 200 else headers)

    client = await client_of(await serve(answer))
    assert await client.resolve(reference) == digest_of(b"")
    answers[:] = [status] * 3
    with pytest.raises(error):
        await client.resolve(reference)
    assert not answers


async def test_too_long_a_pause_is_not_waited_for(
    serve: Serve, client_of: Client, reference: Reference
) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "3600"})

    with pytest.raises(TooMany) as caught:
        await (await client_of(await serve(answer))).resolve(reference)
    assert caught.value.retry_after_s == 3600


async def test_nobody_there(client_of: Client, reference: Reference, unused_tcp_port: int) -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1"):
        await (await client_of(f"http://127.0.0.1:{unused_tcp_port}")).resolve(reference)


async def test_the_next_mirror_is_asked_when_one_fails(
    registry: LocalRegistry, client_of: Client, reference: Reference, unused_tcp_port: int
) -> None:
    digest = registry.image(str(reference), b"x")
    client = await client_of(f"http://127.0.0.1:{unused_tcp_port}", registry.url)
    assert await client.resolve(reference) == digest


async def test_only_a_registry_s_own_words_are_passed_on(
    serve: Serve, client_of: Client, reference: Reference
) -> None:
    async def page(_request: web.Request) -> web.Response:
        return web.Response(status=403, text="<html>internal page of somebody else</html>")

    async def own(_request: web.Request) -> web.Response:
        return web.json_response({"errors": [{"code": "DENIED", "message": "pay first"}]}, status=403)

    with pytest.raises(Denied) as caught:
        await (await client_of(await serve(page))).manifest(reference)
    assert "internal" not in str(caught.value)
    with pytest.raises(Denied, match="DENIED: pay first"):
        await (await client_of(await serve(own))).manifest(reference)


def test_digests_are_of_the_bytes() -> None:
    assert digest_of(b"x") == "sha256:" + hashlib.sha256(b"x").hexdigest()
    assert parse("x").at(digest_of(b"x")).target == digest_of(b"x")
