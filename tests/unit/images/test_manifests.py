"""What is an image for a cell and what is not, as far as manifests tell."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.images.test_format import A, B, digest

from kip.images import manifests
from kip.images.format import Layer
from kip.oci import manifest as oci
from kip.oci.errors import NotAnImage
from kip.oci.manifest import Descriptor, Manifest

OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def manifest(*layers: str) -> Manifest:
    entries = [{"digest": digest(f"l{n}"), "size": 2, "mediaType": kind} for n, kind in enumerate(layers)]
    content = json.dumps({"schemaVersion": 2, "layers": entries}).encode()
    return Manifest(oci.digest_of(content), oci.OCI_MANIFEST, content)


def config(*diff_ids: str, **more: Any) -> bytes:
    return json.dumps(
        {"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": diff_ids}} | more
    ).encode()


@pytest.mark.parametrize("kind", [OCI_LAYER, OCI_LAYER.replace("gzip", "zstd"), DOCKER_LAYER])
def test_images_of_both_kinds(kind: str) -> None:
    found = manifests.describe(manifest(kind, kind), config(A, B, architecture="arm64", variant="v8"))
    assert found == ("linux/arm64", (Layer(A, digest("l0"), 2), Layer(B, digest("l1"), 2)))


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        ("application/vnd.wasm.content.layer.v1+wasm", "no file system but application/vnd.wasm"),
        ("application/vnd.in-toto+json", "no file system but application/vnd.in-toto"),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "may not hand out"),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar", "may not hand out"),
    ],
)
def test_layers_that_no_container_has(layer: str, told: str) -> None:
    with pytest.raises(NotAnImage, match=told):
        manifests.describe(manifest(layer), config(A))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (config(A), "2 layers in the manifest, 1 in the configuration"),
        (config(A, B, os="windows"), "an image for windows/amd64; cells run Linux"),
        (config("sha512:00", B), "names no layers"),
        (b"{}", "names no layers"),
        (b"<html>", "no JSON object"),
        (b"[]", "no JSON object"),
        (b"[" * 100_000, "no JSON object"),
    ],
)
def test_configurations_that_fit_no_cell(content: bytes, told: str) -> None:
    with pytest.raises(NotAnImage, match=told):
        manifests.describe(manifest(OCI_LAYER, OCI_LAYER), content)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"layers": 7}, "expected a list of descriptors"),
        ({"layers": [{"mediaType": OCI_LAYER, "digest": A, "size": float("inf")}]}, "a malformed descriptor"),
        ({"layers": [{"mediaType": OCI_LAYER, "digest": A, "size": -1}]}, "of -1 bytes"),
        (
            {"layers": [{"mediaType": OCI_LAYER, "digest": A, "size": 1}] * 501},
            "501 layers; overlayfs takes 500",
        ),
        ({"layers": [], "manifests": [{}]}, "its content is of another kind"),
        ({"layers": [], "mediaType": oci.OCI_INDEX}, "its content is of another kind"),
    ],
)
def test_manifests_that_are_none(fields: dict[str, Any], told: str) -> None:
    content = json.dumps({"schemaVersion": 2} | fields).encode()
    with pytest.raises(NotAnImage, match=told):
        manifests.describe(Manifest(A, oci.OCI_MANIFEST, content), config(A))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[" * 100_000, "no JSON object"),
        (
            b'{"schemaVersion": 2, "manifests": [{"platform": ["linux"]}]}',
            "a platform that is no JSON object",
        ),
        (
            b'{"schemaVersion": 2, "manifests": [{"mediaType": ["x"], "platform": {"os": "linux"}}], "layers": [1]}',
            "kind",
        ),
    ],
)
def test_indexes_that_are_none(content: bytes, told: str) -> None:
    with pytest.raises(NotAnImage, match=told):
        oci.platforms(Manifest(A, oci.OCI_INDEX, content))


def test_an_image_without_layers_is_none() -> None:
    with pytest.raises(NotAnImage, match="0 layers in the manifest"):
        manifests.describe(manifest(), config())


def test_platforms_come_in_the_wanted_order() -> None:
    arm, amd = Descriptor(oci.OCI_MANIFEST, A, 1), Descriptor(oci.OCI_MANIFEST, B, 1)
    found = {"linux/arm64": arm, "linux/amd64": amd}
    assert manifests.wanted(found, ["linux/amd64", "linux/s390x", "linux/arm64", "linux/amd64"]) == (amd, arm)
    with pytest.raises(
        NotAnImage, match="no image for linux/riscv64; the index has linux/amd64, linux/arm64"
    ):
        manifests.wanted(found, ["linux/riscv64"])
