"""What a cell answers about the volume, as its script prints it."""

from __future__ import annotations

import gzip

import pytest

from kip.images import look
from kip.images.format import FormatError, Trailer

ONE, TWO = "1" * 64, "2" * 64
WHOLE = Trailer(f"sha256:{ONE}", 1, 4096, 4096, "a" * 64, "b" * 64, "c" * 64)


def layer(digits: str, size: int) -> str:
    return f"{size} layers/sha256/{digits[:2]}/{digits}.squashfs\n"


def test_files_and_layers_are_told_apart_by_their_sizes() -> None:
    text = b"x86_64\nregistry.test/a:1\n\n3 a.json\n4 b.json\n\n{}\n{1}\n"
    text += (
        layer(ONE, WHOLE.file_bytes).encode()
        + layer(TWO, 9000).encode()
        + b"\n"
        + WHOLE.to_bytes()
        + b"\0" * 4096
    )
    found = look.parse(gzip.compress(text))
    assert (found.platform, found.present) == ("linux/amd64", {"registry.test/a:1"})
    assert found.files == {"a.json": b"{}\n", "b.json": b"{1}\n"}
    assert found.trailers == {f"sha256:{ONE}": WHOLE}
    assert list(found.broken) == [f"sha256:{TWO}"]


def test_a_layer_that_is_shorter_than_its_trailer_says_is_broken() -> None:
    text = b"aarch64\n\n\n" + layer(ONE, WHOLE.file_bytes - 4096).encode() + b"\n" + WHOLE.to_bytes()
    found = look.parse(gzip.compress(text))
    assert found.platform == "linux/arm64"
    assert f"the file has {WHOLE.file_bytes - 4096} bytes" in found.broken[f"sha256:{ONE}"]


def test_an_empty_volume_has_nothing() -> None:
    found = look.parse(gzip.compress(b"x86_64\n\n\n\n"))
    assert (found.files, found.trailers, found.broken) == ({}, {}, {})


@pytest.mark.parametrize(
    "output",
    [b"", b"no gzip", gzip.compress(b""), gzip.compress(b"x86_64\n\n5 a"), gzip.compress(b"\n\n\n\n")],
)
def test_anything_else_is_an_error(output: bytes) -> None:
    with pytest.raises(FormatError, match="the cell's answer cannot be read"):
        look.parse(output)
