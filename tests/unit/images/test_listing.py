"""What is known of a layer's directories, for layers above that do not describe them."""

from __future__ import annotations

import pytest
from tests.unit.images.layers import directory, file, symlink, tar_of

from kip.images import tar
from kip.images.format import FormatError
from kip.images.listing import Listing, inherited
from kip.images.tree import Attributes, Tree

LOW = (
    directory("etc", mode=0o700, uid=1, gid=2, xattrs={"user.\u00e9": "\x00\xff"}),
    directory("usr/lib", mode=0o711),
    symlink("lib", "usr/lib"),
    symlink("outside", "../../etc"),
    directory("opt", mode=0o500),
    file("n\udcff/x"),
)
HIGH = (directory("var", mode=0o1777), file(".wh.opt"), file("etc/.wh.x"))


def listing(*entries: object) -> Listing:
    tree = Tree(most_bytes=1 << 20)
    for index, entry in enumerate(tar.Reader(tar.Stream([tar_of(*entries)]))):  # type: ignore[arg-type]
        tree.apply(index, entry)
    return Listing.of(tree)


def test_it_is_read_back_as_it_was_filled_up() -> None:
    found = listing(*LOW)
    assert Listing.parse(found.to_bytes() + bytes(100)) == found
    assert found.to_bytes() == listing(*LOW).to_bytes()


@pytest.mark.parametrize("wrong", [b"", b"x", bytes(4096), listing(*LOW).to_bytes()[:20]])
def test_what_is_not_right_is_refused(wrong: bytes) -> None:
    with pytest.raises(FormatError):
        Listing.parse(wrong)


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        (b"var", 0o1777),
        (b"usr/lib", 0o711),
        (b"lib", 0o711),
        (b"outside", 0o700),
        (b"nowhere", 0o755),
        (b"opt", 0o755),
        (b"etc", 0o755),
    ],
    ids=[
        "above",
        "below",
        "through a link",
        "out of the root",
        "not there",
        "whited out",
        "implied above too",
    ],
)
def test_the_uppermost_layer_that_has_it_counts(path: bytes, mode: int) -> None:
    assert inherited([path], [listing(*HIGH), listing(*LOW)])[path].mode == mode


def test_all_attributes_are_inherited() -> None:
    found = inherited([b"etc"], [listing(*LOW)])[b"etc"]
    assert (found.uid, found.gid, dict(found.xattrs)) == (
        1,
        2,
        {"user.\u00e9".encode(): b"\x00\xff".decode("latin-1").encode()},
    )
    assert inherited([b"etc"], []) == {b"etc": Attributes()}
