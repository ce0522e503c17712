"""The HTTP side: pulling and pushing as the OCI distribution specification says."""

from __future__ import annotations

import hashlib
import json

import pytest
from aiohttp.test_utils import TestClient
from yarl import URL

from kip.local.registry import manifests

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


async def put_blob(client: TestClient, content: bytes, name: str = "web") -> str:
    answer = await client.post(
        f"/v2/{name}/blobs/uploads/", params={"digest": digest_of(content)}, data=content
    )
    assert answer.status == 201
    return digest_of(content)


async def put_image(
    client: TestClient, *, name: str = "web", tag: str = "1", ns: str = "demo.kip.local"
) -> bytes:
    config = await put_blob(client, b"{}", name)
    layer = await put_blob(client, b"layer", name)
    content = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"digest": config},
            "layers": [{"digest": layer}],
        }
    ).encode()
    answer = await client.put(
        f"/v2/{name}/manifests/{tag}", params={"ns": ns}, data=content, headers={"Content-Type": MANIFEST}
    )
    assert answer.status == 201, await answer.text()
    return content


async def code_of(answer: object) -> str:
    return (await answer.json())["errors"][0]["code"]


async def test_says_which_api_it_speaks(client: TestClient) -> None:
    answer = await client.get("/v2/")
    assert answer.status == 200
    assert answer.headers["Docker-Distribution-API-Version"] == "registry/2.0"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_manifest_by_tag_and_by_digest(client: TestClient, method: str) -> None:
    content = await put_image(client)
    for reference in ("1", digest_of(content)):
        answer = await client.request(method, f"/v2/web/manifests/{reference}?ns=demo.kip.local")
        assert answer.status == 200
        assert answer.headers["Docker-Content-Digest"] == digest_of(content)
        assert answer.headers["Content-Type"] == MANIFEST
        assert int(answer.headers["Content-Length"]) == len(content)
        assert await answer.read() == (content if method == "GET" else b"")


async def test_registries_are_kept_apart(client: TestClient) -> None:
    await put_image(client, ns="demo.kip.local")
    answer = await client.get("/v2/web/manifests/1?ns=docker.io")
    assert (answer.status, await code_of(answer)) == (404, "MANIFEST_UNKNOWN")


async def test_a_push_without_ns_may_name_the_registry_in_the_path(client: TestClient) -> None:
    await put_image(client, name="quay.io/team/app", ns="")
    assert (await client.get("/v2/team/app/manifests/1?ns=quay.io")).status == 200
    await put_image(client, name="plain/app", ns="")
    assert (await client.get("/v2/plain/app/manifests/1")).status == 200


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v2/web/manifests/none", 404, "MANIFEST_UNKNOWN"),
        (f"/v2/web/manifests/sha256:{'0' * 64}", 404, "MANIFEST_UNKNOWN"),
        (f"/v2/web/blobs/sha256:{'0' * 64}", 404, "BLOB_UNKNOWN"),
        ("/v2/web/blobs/sha256:1", 400, "DIGEST_INVALID"),
        ("/v2/none/tags/list", 404, "NAME_UNKNOWN"),
        ("/v2/Web/manifests/1", 400, "NAME_INVALID"),
        ("/v2/a%2f..%2f..%2fetc/manifests/1", 400, "NAME_INVALID"),
        ("/v2/web/manifests/1?ns=../..", 400, "NAME_INVALID"),
        ("/v2/web/blobs/uploads/..%2f..%2fblobs", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("/v2/web/blobs/uploads/nosuch", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("/v1/search", 404, "UNSUPPORTED"),
    ],
)
async def test_what_is_not_here_is_said_in_the_specifications_words(
    client: TestClient, path: str, status: int, code: str
) -> None:
    answer = await client.get(URL(path, encoded=True))
    assert (answer.status, await code_of(answer)) == (status, code)


async def test_part_of_a_blob(client: TestClient) -> None:
    digest = await put_blob(client, b"0123456789")
    answer = await client.get(f"/v2/web/blobs/{digest}", headers={"Range": "bytes=3-5"})
    assert (answer.status, await answer.read()) == (206, b"345")
    assert answer.headers["Content-Range"] == "bytes 3-5/10"
    answer = await client.head(f"/v2/web/blobs/{digest}")
    assert (answer.status, answer.headers["Content-Length"]) == (200, "10")
    answer = await client.get(f"/v2/web/blobs/{digest}", headers={"Range": "bytes=99-"})
    assert answer.status == 416


async def test_an_upload_in_chunks(client: TestClient) -> None:
    begun = await client.post("/v2/web/blobs/uploads/?ns=demo.kip.local")
    assert begun.status == 202
    where = begun.headers["Location"]
    first = await client.patch(where, data=b"01234", headers={"Content-Range": "0-4"})
    assert (first.status, first.headers["Range"]) == (202, "0-4")
    gap = await client.patch(where, data=b"x", headers={"Content-Range": "9-9"})
    assert (gap.status, await code_of(gap)) == (416, "BLOB_UPLOAD_INVALID")
    status = await client.get(where)
    assert (status.status, status.headers["Range"]) == (204, "0-4")
    digest = digest_of(b"0123456789")
    done = await client.put(f"{where}&digest={digest}", data=b"56789")
    assert (done.status, done.headers["Docker-Content-Digest"]) == (201, digest)
    assert await (await client.get(f"/v2/web/blobs/{digest}")).read() == b"0123456789"
    assert (await client.get(where)).status == 404


async def test_content_that_has_another_digest_is_refused_and_dropped(client: TestClient) -> None:
    digest = digest_of(b"good")
    answer = await client.post(f"/v2/web/blobs/uploads/?digest={digest}", data=b"evil")
    assert (answer.status, await code_of(answer)) == (400, "DIGEST_INVALID")
    assert (await client.get(f"/v2/web/blobs/{digest}")).status == 404


async def test_an_upload_can_be_given_up(client: TestClient) -> None:
    where = (await client.post("/v2/web/blobs/uploads/")).headers["Location"]
    assert (await client.delete(where)).status == 204
    assert (await client.delete(where)).status == 404


async def test_a_known_blob_is_mounted_and_an_unknown_one_is_asked_for(client: TestClient) -> None:
    digest = await put_blob(client, b"shared")
    mounted = await client.post(f"/v2/other/blobs/uploads/?mount={digest}&from=web")
    assert mounted.status == 201
    unknown = await client.post(f"/v2/other/blobs/uploads/?mount=sha256:{'1' * 64}&from=web")
    assert unknown.status == 202


async def test_tags_page_by_page(client: TestClient) -> None:
    for tag in ("b", "a", "c"):
        await put_image(client, tag=tag)
    answer = await client.get("/v2/web/tags/list?ns=demo.kip.local")
    assert (await answer.json()) == {"name": "web", "tags": ["a", "b", "c"]}
    answer = await client.get("/v2/web/tags/list?ns=demo.kip.local&n=2")
    assert (await answer.json())["tags"] == ["a", "b"]
    answer = await client.get(answer.links["next"]["url"].relative())
    assert (await answer.json())["tags"] == ["c"]


@pytest.mark.parametrize(
    ("content", "media_type", "code"),
    [
        (b"{", MANIFEST, "MANIFEST_INVALID"),
        (b"[]", MANIFEST, "MANIFEST_INVALID"),
        (b'{"schemaVersion": 1}', MANIFEST, "MANIFEST_INVALID"),
        (b'{"schemaVersion": 2}', MANIFEST, "MANIFEST_INVALID"),
        (b'{"schemaVersion": 2}', "text/plain", "MANIFEST_INVALID"),
        (b'{"schemaVersion": 2, "mediaType": "%s"}' % INDEX.encode(), MANIFEST, "MANIFEST_INVALID"),
        (
            b'{"schemaVersion": 2, "config": {"digest": "sha256:%s"}, "layers": []}' % (b"0" * 64),
            MANIFEST,
            "MANIFEST_BLOB_UNKNOWN",
        ),
        (b'{"schemaVersion": 2, "config": {"digest": "../x"}, "layers": []}', MANIFEST, "DIGEST_INVALID"),
    ],
)
async def test_a_manifest_that_is_none_is_refused(
    client: TestClient, content: bytes, media_type: str, code: str
) -> None:
    answer = await client.put("/v2/web/manifests/1", data=content, headers={"Content-Type": media_type})
    assert (answer.status, await code_of(answer)) == (400, code)
    assert (await client.get("/v2/web/manifests/1")).status == 404


async def test_a_manifest_has_the_digest_under_which_it_is_put(client: TestClient) -> None:
    content = await put_image(client)
    answer = await client.put(
        f"/v2/web/manifests/sha256:{'2' * 64}", data=content, headers={"Content-Type": MANIFEST}
    )
    assert (answer.status, await code_of(answer)) == (400, "DIGEST_INVALID")


async def test_a_huge_manifest_is_refused(client: TestClient) -> None:
    answer = await client.put(
        "/v2/web/manifests/1", data=b" " * (manifests.LARGEST + 1), headers={"Content-Type": MANIFEST}
    )
    assert answer.status == 413


async def test_an_index_may_leave_platforms_out(client: TestClient) -> None:
    content = json.dumps(
        {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{"digest": f"sha256:{'3' * 64}"}]}
    ).encode()
    answer = await client.put("/v2/web/manifests/all", data=content, headers={"Content-Type": INDEX})
    assert answer.status == 201
