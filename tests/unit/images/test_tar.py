"""Headers are read as Go's archive/tar reads them, whoever has written the tar."""

from __future__ import annotations

import io
import tarfile
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.images.layers import TIME, directory, file, in_pieces, info, link, symlink, tar_of

from kip.images import tarheader
from kip.images.tar import Reader, Stream
from kip.images.tarheader import Entry, NoTar


def read(content: bytes, piece: int = 1000) -> list[tuple[Entry, bytes]]:
    reader, found = Reader(Stream(in_pieces(content, piece))), []
    for entry in reader:
        out = io.BytesIO()
        reader.copy(entry, out.write)
        found.append((entry, out.getvalue()))
    return found


def block(name: bytes = b"a", kind: bytes = b"0", size: bytes = b"0", **fields: bytes) -> bytes:
    """A header, written field by field; `at_N` puts something at that offset."""
    header = bytearray(512)
    for at, value in ((0, name), (100, b"0000644"), (124, size), (136, b"0"), (156, kind)):
        header[at : at + len(value)] = value
    for key, value in fields.items():
        at = int(key.removeprefix("at_"))
        header[at : at + len(value)] = value
    header[148:156] = b" " * 8
    header[148:155] = b"%06o\0" % sum(header)
    return bytes(header)


def pax(*records: tuple[bytes, bytes]) -> bytes:
    """An extended header with these records."""
    content = b""
    for key, value in records:
        rest = len(key) + len(value) + 3
        length = rest + len(str(rest + len(str(rest))))
        content += b"%d %s=%s\n" % (length, key, value)
    return block(kind=b"x", size=b"%o" % len(content)) + content + bytes(-len(content) % 512)


MAGIC = {"at_257": b"ustar\x0000"}
GNU = {"at_257": b"ustar  \0"}


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@given(
    name=st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1, max_size=300),
    content=st.binary(max_size=2000),
    piece=st.integers(1, 3000),
    uid=st.sampled_from([0, 2_097_151, 2_097_152, 4_294_967_294]),
    mtime=st.integers(0, 2**33),
)
def test_what_python_writes_is_read(
    kind: int, name: str, content: bytes, piece: int, uid: int, mtime: int
) -> None:
    entries = (file(name, content, uid=uid, mtime=mtime), link("l", name), symlink("s", name), directory("d"))
    (first, found), *others = read(tar_of(*entries, kind=kind), piece)
    assert found == content
    assert (first.name, first.uid, first.mtime, first.size) == (name.encode(), uid, mtime, len(content))
    assert [each.kind for each, _ in others] == [tarheader.LINK, tarheader.SYMLINK, tarheader.DIRECTORY]
    assert [each.link for each, _ in others] == [name.encode(), name.encode(), b""]


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (block(b"n" * 100), b"n" * 100),
        (block(b"n", at_345=b"ignored by V7"), b"n"),
        (block(b"n", at_345=b"p", **MAGIC), b"p/n"),
        (block(b"n", at_345=b"p", at_508=b"tar\0", at_476=b"0", **MAGIC), b"p/n"),
        (block(b"n", at_345=b"00000000000\0" * 2, **GNU), b"n"),
        (block(b"n", at_345=b"written by Go 1.7", **GNU), b"written by Go 1.7/n"),
    ],
    ids=["old", "old with a prefix", "ustar", "star", "GNU with times", "old Go"],
)
def test_names_of_each_format(header: bytes, name: bytes) -> None:
    ((entry, _),) = read(header)
    assert entry.name == name


def test_an_old_header_with_a_slash_is_a_directory() -> None:
    assert read(block(b"d/", b"\0"))[0][0].kind == tarheader.DIRECTORY
    assert read(block(b"f/", b"0"))[0][0].kind == tarheader.FILE


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"0000777\0", 511),
        (b" 777 \0\0\0", 511),
        (b"", 0),
        (b"\x80" + bytes(9) + b"\1\0", 256),
        (b"\xff" * 8, -1),
    ],
)
def test_numbers(field: bytes, value: int) -> None:
    assert read(block(at_136=field.ljust(12, field[-1:] if value < 0 else b"\0")))[0][0].mtime == value


def test_only_devices_have_numbers_of_devices() -> None:
    odd = {"at_329": b"\xff" * 8, "at_337": b"\xff" * 8}
    ((found, _),) = read(block(**odd, **MAGIC))
    assert (found.major, found.minor) == (0, 0)
    ((found, _),) = read(block(kind=b"3", at_329=b"0000010\0", at_337=b"0000011\0", **MAGIC))
    assert (found.major, found.minor) == (8, 9)


def test_a_size_beyond_octal_digits() -> None:
    header = block(size=b"\x80" + (9 << 30).to_bytes(11, "big"))
    reader = Reader(Stream([header]))
    assert next(iter(reader)).size == 9 << 30


def test_signed_checksums_of_old_programs() -> None:
    header = bytearray(block("ä".encode()))
    header[148:156] = b" " * 8
    header[148:155] = b"%06o\0" % sum(memoryview(bytes(header)).cast("b"))
    assert read(bytes(header))[0][0].name == "ä".encode()


def test_global_headers_mean_nothing() -> None:
    with_global = io.BytesIO()
    with tarfile.open(
        fileobj=with_global, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"uid": "7", "comment": "git"}
    ) as archive:
        archive.addfile(tarfile.TarInfo("a"))
    ((entry, _),) = read(with_global.getvalue())
    assert (entry.name, entry.uid) == (b"a", 0)


def test_records_count_more_than_the_header_and_empty_ones_say_nothing() -> None:
    assert read(_with_records(b"path=from pax", b"linkpath=x"))[0][0].name == b"from pax"
    assert read(_with_records(b"path=", b"linkpath="))[0][0].name == b"own"


def _with_records(*records: bytes) -> bytes:
    content = b"".join(b"%02d %s\n" % (len(each) + 4, each) for each in records)
    return block(kind=b"x", size=b"%o" % len(content)) + content.ljust(512, b"\0") + block(b"own")


def test_fractions_of_seconds_are_cut_off() -> None:
    assert read(tar_of(info("a", mtime=TIME + 0.9)))[0][0].mtime == TIME


def test_links_have_no_content_whatever_their_size_says() -> None:
    found = read(block(b"l", b"1", b"1000", at_157=b"target") + block(b"next"))
    assert [(each.name, content) for each, content in found] == [(b"l", b""), (b"next", b"")]


def test_content_that_nobody_asks_for_is_skipped() -> None:
    content = tar_of(file("a", b"x" * 5000), file("b", b"y"))
    assert [entry.name for entry in Reader(Stream(in_pieces(content, 700)))] == [b"a", b"b"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (block()[:-1], "in the middle of a header"),
        (block(size=b"1000") + b"x" * 100, "in the middle of a file"),
        (bytes(512) + block(), "after a block of zeros"),
        (block(kind=b"x", size=b"70000000"), "expected at most"),
        (block(kind=b"x", size=b"5") + b"nopax".ljust(512, b"\0"), "is no number of a PAX header"),
        (block(kind=b"x", size=b"5") + b"5 a b".ljust(512, b"\0"), "a PAX header is not right"),
        (block(kind=b"7"), "of type b'7'"),
        (block(kind=b"V"), "of type b'V'"),
        (block(at_108=b"9999999\0"), "no number of a tar"),
        (b"x" + block()[1:], "checksum is wrong"),
        (block(at_108=b"-000001\0"), "no number of a tar"),
        (block(at_108=b"1_7\0"), "no number of a tar"),
        (block(at_108=b"\xff" * 8), "user -1; expected 0 to 4294967295"),
        (pax((b"gid", b"1" + b"0" * 20)) + block(), "group 100000000000000000000; expected"),
        (pax((b"size", b"1" + b"0" * 30)) + block(), "bytes 1000000000000000000000000000000; expected"),
        (pax((b"mtime", b"1" * 5000)) + block(), "is no number of a PAX header"),
        (block(kind=b"x", size=b"10000") + b"1" * 4096, "a PAX header is not right"),
        (block(kind=b"3", at_329=b"7777777\0", **MAGIC), "major number 2097151; expected 0 to 4095"),
        (pax((b"path", b"etc/passwd\0x")) + block(), "a name with a zero byte in it"),
        (pax((b"linkpath", b"a\0b")) + block(kind=b"2"), "a name with a zero byte in it"),
        (pax((b"SCHILY.xattr.user.a\0b", b"1")) + block(), "a PAX header is not right"),
        (block(kind=b"S", size=b"1000", at_386=b"0\0", at_483=b"20"), "does not fit its size"),
    ],
)
def test_what_is_no_tar(content: bytes, told: str) -> None:
    with pytest.raises(NoTar, match=told):
        read(content)


def test_a_map_of_holes_that_has_no_end_is_not_read_to_it() -> None:
    """Such a map costs a blob next to nothing, and here a hundred bytes of memory for each four of its own."""
    size = 4 << 20
    version = ((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.size", b"9"))
    endless = (
        pax(*version, (b"size", b"%d" % size))
        + block()
        + (b"%d\n" % size).ljust(10, b"0")
        + b"0\n" * (size // 2)
    )
    more = b"0".ljust(12, b"\0") * 42 + b"\1" + bytes(7)
    old = block(kind=b"S", at_386=b"0".ljust(12, b"\0") * 8, at_482=b"\1", **GNU) + more * (size // 512)
    for content in (endless, old):
        stream = Stream(in_pieces(content, 512))
        with pytest.raises(NoTar, match="more than 1048576 bytes"):
            list(Reader(stream))
        assert stream.copy(len(content), lambda _: None) > size // 2


def test_files_that_no_disk_could_hold_are_not_written_out() -> None:
    sparse = pax((b"GNU.sparse.map", b"0,0"), (b"GNU.sparse.size", b"%d" % (1 << 39))) + block(size=b"0")
    assert len(list(Reader(Stream([sparse])))) == 1
    with pytest.raises(NoTar, match="in all, holes included"):
        list(Reader(Stream([sparse * 3])))


def test_many_short_records_are_read_in_no_time() -> None:
    content = b"5 a=\n" * 200_000
    header = block(kind=b"x", size=b"%o" % len(content)) + content + bytes(-len(content) % 512)
    began = time.process_time()
    assert len(read(header + block(), piece=1 << 20)) == 1
    assert time.process_time() - began < 5


@pytest.mark.parametrize("content", [b"", bytes(512), bytes(1024), bytes(1024) + b"whatever"])
def test_tars_with_nothing_in_them(content: bytes) -> None:
    assert read(content) == []
