"""What is on the volume can be read back, and whatever is wrong with it is refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from kip.images import format as layout
from kip.images.format import BLOCK, FormatError, Image, Layer, Reference, Trailer

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


A, B = digest("a"), digest("b")
TRAILER = Trailer(A, 10_240, 3 * BLOCK, BLOCK, "1" * 64, A.removeprefix("sha256:"), "2" * 64)


def image() -> Image:
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": [A, B]}, "os": "linux"})
    layers = (Layer(A, digest("blob a"), 100), Layer(B, digest("blob b"), 200))
    manifest = json.dumps(
        {
            "config": {"digest": digest(config), "size": len(config)},
            "layers": [{"digest": layer.digest, "size": layer.blob_bytes} for layer in layers],
        }
    )
    media_type = "application/vnd.oci.image.manifest.v1+json"
    return Image(
        digest(manifest), manifest, media_type, config, layers, "linux/amd64", NOW, "kip 1 on builder"
    )


def test_paths_follow_from_digests_alone() -> None:
    assert str(layout.layer_path(A)) == f"layers/sha256/{A[7:9]}/{A[7:]}.squashfs"
    assert str(layout.image_path(A)) == f"images/{A}.json"
    assert str(layout.reference_path("a")) == f"index/{A[7:9]}/{A[7:]}.json"


@pytest.mark.parametrize("wrong", ["", "sha256:../../etc", "sha512:" + "0" * 64, A.upper(), A + "\n", A[:-1]])
def test_only_digests_name_files(wrong: str) -> None:
    with pytest.raises(FormatError, match="expected sha256: and 64"):
        layout.layer_path(wrong)


def test_chain_ids_are_those_of_the_specification() -> None:
    first, second, third = layout.chain_ids([A, B, A])
    assert first == A
    assert second == digest(f"{A} {B}")
    assert third == digest(f"{second} {A}")


def test_a_trailer_is_a_block_and_is_read_back() -> None:
    block = TRAILER.to_bytes()
    assert len(block) == BLOCK
    assert Trailer.parse(block, file_bytes=5 * BLOCK, file_id=A) == TRAILER


@pytest.mark.parametrize(
    ("block", "size", "told"),
    [
        (b"\0" * BLOCK, 5 * BLOCK, "no kip-layer/1"),
        (b"[]", 5 * BLOCK, "no kip-layer/1"),
        (TRAILER.to_bytes()[:100], 5 * BLOCK, "no kip-layer/1"),
        (TRAILER.to_bytes(), 5 * BLOCK - 1, "its trailer says 20480"),
        (replace(TRAILER, diff_id=B).to_bytes(), 5 * BLOCK, "has the layer"),
        (replace(TRAILER, root_hash="x").to_bytes(), 5 * BLOCK, "64 hexadecimal digits"),
        (replace(TRAILER, data_bytes=BLOCK + 1).to_bytes(), 3 * BLOCK + 1, "expected multiples of 4096"),
        (replace(TRAILER, listing_bytes=-BLOCK).to_bytes(), 4 * BLOCK, "expected multiples of 4096"),
        (replace(TRAILER, chain_id=B).to_bytes(), 5 * BLOCK, f"has the layer {B}"),
    ],
)
def test_a_file_that_is_not_complete_is_not_taken(block: bytes, size: int, told: str) -> None:
    with pytest.raises(FormatError, match=told):
        Trailer.parse(block, file_bytes=size, file_id=A)


def test_a_layer_that_depends_on_those_below_is_named_by_its_chain() -> None:
    chain_id = layout.chain_ids([A, B])[1]
    found = replace(TRAILER, diff_id=B, listing_bytes=BLOCK, chain_id=chain_id)
    assert Trailer.parse(found.to_bytes(), file_bytes=6 * BLOCK, file_id=chain_id) == found
    assert found.serves(B, chain_id)
    assert not found.serves(B, B)
    assert not found.serves(A, chain_id)
    assert TRAILER.serves(A, A)
    assert TRAILER.serves(A, chain_id)
    assert not replace(TRAILER, chain_id=A).serves(A, chain_id)
    below, above = image().layers
    layered = replace(image(), layers=(below, replace(above, chain_id=chain_id)))
    assert Image.parse(layered.to_bytes(), digest=image().digest).layers[1].file_id == chain_id
    misplaced = replace(image(), layers=(below, replace(above, chain_id=A)))
    with pytest.raises(FormatError, match="ChainID"):
        Image.parse(misplaced.to_bytes(), digest=image().digest)


def test_an_image_is_read_back() -> None:
    assert Image.parse(image().to_bytes(), digest=image().digest) == image()
    assert image().chain == layout.chain_ids([A, B])
    assert image().blob_bytes == 300


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"config": '{"rootfs": {"diff_ids": []}}'}, "config"),
        ({"layers": image().layers[:1]}, "layers"),
        ({"layers": (replace(image().layers[0], diff_id=B), image().layers[1])}, "diffIDs"),
        ({"manifest": "{}"}, "layers"),
        ({"digest": A}, "digest"),
    ],
)
def test_an_image_whose_digests_do_not_agree_is_refused(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(FormatError, match=told):
        Image.parse(replace(image(), **wrong).to_bytes(), digest=image().digest)  # type: ignore[arg-type]


def test_a_reference_is_read_back_and_only_as_itself() -> None:
    found = Reference("docker.io/library/nginx:1", A, {"linux/amd64": B}, NOW, ("linux/amd64", "linux/arm64"))
    assert Reference.parse(found.to_bytes(), reference=found.reference) == found
    with pytest.raises(FormatError, match="is about docker"):
        Reference.parse(found.to_bytes(), reference="docker.io/library/other:1")
