"""Loading saved images: each under its own name, or a clear reason."""

from __future__ import annotations

import asyncio
import gzip
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from kip.local.registry import ArchiveError, LoadError, load


async def loaded(path: Path, url: str) -> list[str]:
    return await asyncio.to_thread(load, path, url)


async def pulled(client: TestClient, name: str, tag: str, ns: str) -> dict[str, Any]:
    """The manifest, after every blob of it was fetched too."""
    answer = await client.get(f"/v2/{name}/manifests/{tag}?ns={ns}")
    assert answer.status == 200, await answer.text()
    manifest = json.loads(await answer.read())
    for descriptor in (manifest["config"], *manifest["layers"]):
        blob = await client.get(f"/v2/{name}/blobs/{descriptor['digest']}?ns={ns}")
        assert len(await blob.read()) == descriptor["size"]
    return manifest


async def test_an_oci_archive(client: TestClient, url: str, named_image: Callable[[str], Path]) -> None:
    path = named_image("demo.kip.local/web:1")
    assert await loaded(path, url) == ["demo.kip.local/web:1"]
    await pulled(client, "web", "1", "demo.kip.local")
    assert await loaded(path, url) == ["demo.kip.local/web:1"], "it can be loaded again"


async def test_a_short_name_is_docker_hubs(client: TestClient, url: str, named_image: Any) -> None:
    assert await loaded(named_image("nginx"), url) == ["docker.io/library/nginx:latest"]
    await pulled(client, "library/nginx", "latest", "docker.io")


async def test_a_compressed_archive(client: TestClient, url: str, named_image: Any, tmp_path: Path) -> None:
    packed = tmp_path / "image.tar.gz"
    packed.write_bytes(gzip.compress(named_image("a.local/b:1").read_bytes()))
    assert await loaded(packed, url) == ["a.local/b:1"]


async def test_an_index_with_one_platform_of_two(client: TestClient, url: str, saved: Any) -> None:
    absent = {"digest": f"sha256:{'0' * 64}", "size": 1, "mediaType": saved.image()["mediaType"]}
    media_type = "application/vnd.oci.image.index.v1+json"
    inner = {"schemaVersion": 2, "mediaType": media_type, "manifests": [saved.image(), absent]}
    entry = saved.blob(json.dumps(inner).encode(), media_type)
    entry["annotations"] = {"org.opencontainers.image.ref.name": "quay.io/team/app:2"}
    saved.files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    assert await loaded(saved.write(), url) == ["quay.io/team/app:2"]
    answer = await client.get("/v2/team/app/manifests/2?ns=quay.io")
    assert answer.headers["Content-Type"] == media_type
    await pulled(client, "team/app", saved.image()["digest"], "quay.io")


async def test_a_docker_archive(client: TestClient, url: str, saved: Any, tmp_path: Path) -> None:
    saved.files |= {
        "cfg.json": b'{"os": "linux"}',
        "one/layer.tar": b"plain",
        "two/layer.tar": gzip.compress(b"packed"),
        "manifest.json": json.dumps(
            [
                {
                    "Config": "cfg.json",
                    "RepoTags": ["app:1", "app:stable"],
                    "Layers": ["one/layer.tar", "two/layer.tar", "three/layer.tar"],
                }
            ]
        ).encode(),
    }
    path = saved.write()
    with tarfile.open(path, "a") as tar:  # as `docker save` does with a layer that two images share
        link = tarfile.TarInfo("three/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../one/layer.tar"
        tar.addfile(link)
    assert await loaded(path, url) == ["docker.io/library/app:1", "docker.io/library/app:stable"]
    manifest = await pulled(client, "library/app", "stable", "docker.io")
    kinds = [layer["mediaType"].rpartition(".")[2] for layer in manifest["layers"]]
    assert kinds == ["tar", "tar+gzip", "tar"]
    assert manifest["layers"][0]["digest"] == manifest["layers"][2]["digest"]


def _without_layer(files: dict[str, bytes]) -> None:
    del files[next(name for name, content in files.items() if content == b"a layer")]


def _damaged_layer(files: dict[str, bytes]) -> None:
    files[next(name for name, content in files.items() if content == b"a layer")] = b"A LAYER"


def _damaged_manifest(files: dict[str, bytes]) -> None:
    name = next(name for name, content in files.items() if b'"layers"' in content)
    files[name] += b" "


def _no_index(files: dict[str, bytes]) -> None:
    del files["index.json"]


def _no_json(files: dict[str, bytes]) -> None:
    files["index.json"] = b"{"


def _no_list(files: dict[str, bytes]) -> None:
    files["index.json"] = b"[]"


def _no_name(files: dict[str, bytes]) -> None:
    files["index.json"] = files["index.json"].replace(b"io.containerd.image.name", b"other")


def _bare_tag(files: dict[str, bytes]) -> None:
    index = files["index.json"].replace(b"io.containerd.image.name", b"org.opencontainers.image.ref.name")
    files["index.json"] = index.replace(b"a.local/b:1", b"1")


def _bad_name(files: dict[str, bytes]) -> None:
    files["index.json"] = files["index.json"].replace(b"a.local/b:1", b"a.local/../b:1")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_without_layer, "blob sha256:.* is missing; the file is cut off"),
        (_damaged_manifest, "is damaged: its content has digest"),
        (_no_index, "neither index.json .* nor manifest.json"),
        (_no_json, "index.json is not JSON"),
        (_no_list, "index.json: expected a list of images"),
        (_no_name, "images have no name; give them one"),
        (_bare_tag, "images have no name; give them one"),
        (_bad_name, "repository '../b'"),
    ],
)
def test_a_bad_archive_says_what_is_wrong(
    url: str, saved: Any, named_image: Any, damage: Callable[[dict[str, bytes]], None], reason: str
) -> None:
    named_image("a.local/b:1")
    damage(saved.files)
    with pytest.raises(ArchiveError, match=reason) as error:
        load(saved.write(), "http://127.0.0.1:9")
    assert str(saved.path) in str(error.value)


async def test_a_damaged_layer_is_found_by_the_registry(url: str, saved: Any, named_image: Any) -> None:
    named_image("a.local/b:1")
    _damaged_layer(saved.files)
    with pytest.raises(LoadError, match="was answered 400: the content has digest"):
        await loaded(saved.write(), url)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file"), (b"hello", "expected a tar of saved images"), (b"", "expected a tar")],
)
def test_what_is_no_tar(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "image.tar"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArchiveError, match=reason):
        load(path, "http://127.0.0.1:9")


def test_a_tar_that_is_cut_off(named_image: Any) -> None:
    path = named_image("a.local/b:1")
    path.write_bytes(path.read_bytes()[:1300])
    with pytest.raises(ArchiveError):
        load(path, "http://127.0.0.1:9")


def test_no_registry(named_image: Any) -> None:
    # Port 9 (discard) is not served by anything that tests may run beside.
    with pytest.raises(LoadError, match=r"no answer from the registry at http://127\.0\.0\.1:9"):
        load(named_image("a.local/b:1"), "http://127.0.0.1:9")
    with pytest.raises(LoadError, match="expected http://HOST:PORT"):
        load(named_image("a.local/b:1"), "127.0.0.1:5001")
