"""What is an image and what is not, as far as manifests tell."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.images.test_format import A, B, digest

from kip.images import manifests
from kip.images.errors import NotAnImage
from kip.images.format import Layer
from kip.images.manifests import Offer

OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"


def blob(what: str, media_type: str) -> dict[str, Any]:
    return {"digest": digest(what), "size": len(what), "mediaType": media_type}


def manifest(config: str = OCI_CONFIG, *layers: str, **more: Any) -> bytes:
    fields = {
        "config": blob("config", config),
        "layers": [blob(f"l{n}", kind) for n, kind in enumerate(layers)],
    }
    return json.dumps(fields | more).encode()


def config(*diff_ids: str, **more: Any) -> bytes:
    return json.dumps(
        {"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": diff_ids}} | more
    ).encode()


def offer(what: str, **platform: str) -> dict[str, Any]:
    return blob(what, manifests.OCI_MANIFEST) | {"platform": platform}


@pytest.mark.parametrize(
    ("of_config", "of_layer"),
    [
        (OCI_CONFIG, OCI_LAYER),
        (OCI_CONFIG, "application/vnd.oci.image.layer.v1.tar+zstd"),
        (
            "application/vnd.docker.container.image.v1+json",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ),
        ("application/octet-stream", "application/vnd.docker.image.rootfs.diff.tar"),
    ],
)
def test_images_of_both_kinds(of_config: str, of_layer: str) -> None:
    found = manifests.parse_manifest(manifest(of_config, of_layer, of_layer))
    platform, layers = manifests.describe(found, config(A, B, architecture="arm64", variant="v8"))
    assert platform == "linux/arm64"
    assert layers == (Layer(A, digest("l0"), 2), Layer(B, digest("l1"), 2))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            manifest("application/vnd.cncf.helm.config.v1+json"),
            "not a container image but application/vnd.cncf.helm",
        ),
        (
            manifest("application/vnd.oci.empty.v1+json", artifactType="application/x-sbom"),
            "but application/x-sbom",
        ),
        (manifest(OCI_CONFIG, "application/vnd.wasm.content.layer.v1+wasm"), "no file system but .*wasm"),
        (manifest(OCI_CONFIG, "application/vnd.in-toto+json"), "no file system but .*in-toto"),
        (manifest(OCI_CONFIG, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), "to hand out"),
        (b"{}", "the manifest is not right: KeyError"),
        (b"<html>", "the manifest is no JSON"),
        (b"[]", "no JSON object"),
    ],
)
def test_what_is_no_image(content: bytes, told: str) -> None:
    with pytest.raises(NotAnImage, match=told):
        manifests.parse_manifest(content)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (config(A), "2 layers in the manifest, 1 in the configuration"),
        (config(A, B, os="windows"), "an image for windows/amd64; cells run Linux"),
        (config("sha512:00", B), "names no layers"),
        (b"{}", "names no layers"),
    ],
)
def test_configurations_that_fit_no_cell(content: bytes, told: str) -> None:
    with pytest.raises(NotAnImage, match=told):
        manifests.describe(manifests.parse_manifest(manifest(OCI_CONFIG, OCI_LAYER, OCI_LAYER)), content)


def test_an_index_offers_images_and_not_what_is_beside_them() -> None:
    index = {
        "manifests": [
            offer("amd64", os="linux", architecture="amd64"),
            offer("arm", os="linux", architecture="arm", variant="v7"),
            offer("attestation", os="unknown", architecture="unknown"),
            blob("signature", manifests.OCI_MANIFEST),
        ]
    }
    found = manifests.offers(json.dumps(index).encode())
    assert found == (Offer("linux/amd64", digest("amd64")), Offer("linux/arm/v7", digest("arm")))
    assert manifests.offers(manifest()) is None


def test_an_old_manifest_is_named() -> None:
    with pytest.raises(NotAnImage, match="schema 1"):
        manifests.offers(b'{"schemaVersion": 1, "fsLayers": []}')


def test_platforms_are_chosen_in_the_wanted_order_and_the_first_offer_counts() -> None:
    found = (Offer("linux/arm64", A), Offer("linux/amd64", A), Offer("linux/amd64", B))
    assert manifests.wanted_offers(found, ["linux/amd64", "linux/s390x", "linux/arm64"]) == (
        found[1],
        found[0],
    )
    with pytest.raises(
        NotAnImage, match="no image for linux/riscv64; the index has linux/amd64, linux/arm64"
    ):
        manifests.wanted_offers(found, ["linux/riscv64"])
