"""The headers of a tar: what they say about an entry, in every format that Go's archive/tar knows.

V7, ustar, PAX, GNU and star. The rules are Go's, since containerd reads layers with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kip.images.errors import LayerRefused

BLOCK = 512
FILE, LINK, SYMLINK, CHARACTER, DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_OLD_FILE, GNU_SPARSE = b"\0", b"S"
PAX, PAX_GLOBAL, LONG_NAME, LONG_LINK = b"x", b"g", b"L", b"K"
_WITHOUT_CONTENT = (LINK, SYMLINK, CHARACTER, DEVICE, DIRECTORY, FIFO)
_XATTR = b"SCHILY.xattr."
_OWNERS, _MAJORS, _MINORS = 1 << 32, 1 << 12, 1 << 20  # as many as Linux has
_DIGITS = 40  # of a number; Go takes 64 bits


class NoTar(LayerRefused):
    """The layer is no tar that containerd could read, or it ends too early."""


@dataclass(slots=True)
class Entry:
    """One entry of a tar; its content is read with `tar.Reader.copy` before the next entry is asked for."""

    name: bytes
    kind: bytes
    mode: int
    """Permissions with setuid, setgid and sticky bit, nothing else."""
    uid: int
    gid: int
    mtime: int
    """Seconds since 1970; fractions are cut off, since squashfs has none."""
    size: int = 0
    """Bytes of the content, holes included."""
    link: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)
    parts: tuple[tuple[int, int], ...] | None = None
    """Of a sparse file: offset and length of what is not a hole."""


class Special:
    """What headers before an entry's own say about it."""

    def __init__(self) -> None:
        self.name = b""
        self.link = b""
        self.records: dict[bytes, bytes] = {}

    def take(self, kind: bytes, content: bytes) -> None:
        if kind == LONG_NAME:
            self.name = content.partition(b"\0")[0]
        elif kind == LONG_LINK:
            self.link = content.partition(b"\0")[0]
        elif kind == PAX:
            self.records = _records(content)

    def sparse_version(self) -> tuple[bytes, bytes] | None:
        """Of PAX's sparse formats, which GNU tar has three of; None if the file has no holes."""
        get = self.records.get
        version = (get(b"GNU.sparse.major", b""), get(b"GNU.sparse.minor", b""))
        if version == (b"", b""):
            return (b"0", b"1") if b"GNU.sparse.map" in self.records else None
        return version if version in ((b"0", b"0"), (b"0", b"1"), (b"1", b"0")) else None

    def sparse_map_is_first(self) -> bool:
        """Whether the map is at the beginning of the content."""
        return self.sparse_version() == (b"1", b"0")


def entry_of(header: bytes, special: Special) -> tuple[Entry, int]:
    """The entry, and how many bytes of content there are for it in the tar."""
    check_sum(header)
    kind, link = header[156:157], _text(header[157:257])
    name, has_devices = _name(header)
    major, minor = map(number, (header[329:337], header[337:345])) if has_devices else (0, 0)
    is_device = kind in (CHARACTER, DEVICE)  # others may have anything there
    entry = Entry(
        name=name,
        kind=FILE if kind == _OLD_FILE else kind,
        mode=number(header[100:108]) & 0o7777,
        uid=number(header[108:116]),
        gid=number(header[116:124]),
        mtime=number(header[136:148]),
        size=number(header[124:136]),
        link=link,
        major=major if is_device else 0,
        minor=minor if is_device else 0,
    )
    if special.records:
        _merge(entry, special.records)
    entry.name, entry.link = special.name or entry.name, special.link or entry.link
    if kind == _OLD_FILE and entry.name.endswith(b"/"):
        entry.kind = DIRECTORY
    if kind not in (_OLD_FILE, FILE, GNU_SPARSE, *_WITHOUT_CONTENT):
        raise NoTar(f"{shown(entry.name)} is of type {kind!r}, which containerd refuses")
    _check_values(entry)
    stored = 0 if entry.kind in _WITHOUT_CONTENT else entry.size
    if (version := special.sparse_version()) and entry.kind == FILE:
        _make_sparse(entry, special.records, version)
    return entry, stored


def _check_values(entry: Entry) -> None:
    """What no file can have."""
    for what, value, end in (
        ("bytes", entry.size, 1 << 63),
        ("user", entry.uid, _OWNERS),
        ("group", entry.gid, _OWNERS),
        ("major number", entry.major, _MAJORS),
        ("minor number", entry.minor, _MINORS),
    ):
        if not 0 <= value < end:
            raise NoTar(f"{shown(entry.name)}: {what} {value}; expected 0 to {end - 1}")
    if b"\0" in entry.name or b"\0" in entry.link:
        raise NoTar(f"{shown(entry.name)}: a name with a zero byte in it")


def _name(header: bytes) -> tuple[bytes, bool]:
    """The name, and whether the header is new enough to have devices' numbers."""
    name, magic = _text(header[:100]), header[257:265]
    if magic[:6] == b"ustar\0":
        prefix = _text(header[345:476] if header[508:512] == b"tar\0" else header[345:500])
    elif magic == b"ustar  \0":
        # There GNU has times. Go before 1.8 wrote prefixes of ASCII, and so did the Docker of then.
        prefix = b"" if _are_numbers(header[345:357], header[357:369]) else _text(header[345:500])
        prefix = prefix if prefix.isascii() else b""
    else:
        return name, False
    return (prefix + b"/" + name if prefix else name), True


def _merge(entry: Entry, records: Mapping[bytes, bytes]) -> None:
    """What PAX says counts more than the header; an empty value says nothing."""
    entry.name = records.get(b"path") or entry.name
    entry.link = records.get(b"linkpath") or entry.link
    for key in (b"uid", b"gid", b"size"):
        if value := records.get(key):
            setattr(entry, key.decode(), decimal(value))
    if value := records.get(b"mtime"):
        entry.mtime = _seconds(value)
    entry.xattrs = {
        key.removeprefix(_XATTR): value for key, value in records.items() if key.startswith(_XATTR)
    }


def _make_sparse(entry: Entry, records: Mapping[bytes, bytes], version: tuple[bytes, bytes]) -> None:
    entry.name = records.get(b"GNU.sparse.name") or entry.name
    size = records.get(b"GNU.sparse.size") or records.get(b"GNU.sparse.realsize")
    if size:
        entry.size = decimal(size)
    if version[0] == b"0":
        numbers = [decimal(each) for each in records.get(b"GNU.sparse.map", b"").split(b",") if each]
        if len(numbers) % 2:
            raise NoTar(f"{shown(entry.name)}: the map of a sparse file is not right")
        entry.parts = tuple(zip(numbers[::2], numbers[1::2], strict=True))


def check_parts(entry: Entry, stored: int) -> None:
    at, total = 0, 0
    for offset, length in entry.parts or ():
        if offset < at or length < 0:
            break
        at, total = offset + length, total + length
    else:
        if at <= entry.size and total == stored:
            return
    raise NoTar(f"{shown(entry.name)}: the map of a sparse file does not fit its size")


def _records(content: bytes) -> dict[bytes, bytes]:
    """PAX's records, `<length> <key>=<value>` and a newline each. The map of format 0.0 comes as one of 0.1."""
    records: dict[bytes, bytes] = {}
    sparse: list[bytes] = []
    at = 0  # a header of short records, cut off one by one, would be copied as often as it has records
    while at < len(content):
        length = content[at : at + _DIGITS].partition(b" ")[0]
        end = at + decimal(length)
        record, at = content[at + len(length) + 1 : end], max(end, at + 1)
        key, equals, value = record[:-1].partition(b"=")
        if not (equals and key and record.endswith(b"\n")) or b"\0" in key:
            raise NoTar("a PAX header is not right")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            sparse.append(value)
        else:
            records[key] = value
    if sparse:
        records[b"GNU.sparse.map"] = b",".join(sparse)
    return records


def check_sum(header: bytes) -> None:
    expected = number(header[148:156])
    # Adding up bytes is the one slow thing here; in steps of the whole header it is one call.
    total = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    if total == expected:
        return
    signed = sum(memoryview(header).cast("b")) - sum(memoryview(header[148:156]).cast("b")) + 8 * ord(" ")
    if signed != expected:
        raise NoTar("no tar: a header's checksum is wrong")


def number(field: bytes) -> int:
    """Octal digits, or base 256 with the highest bit set."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ~(0x80 << 8 * (len(field) - 1))
        return value - (1 << (8 * len(field) - 1)) if field[0] & 0x40 else value
    digits = field.strip(b" \0").partition(b"\0")[0]
    if digits.strip(b"01234567"):  # int() would take signs, spaces and underscores too
        raise NoTar(f"{field!r} is no number of a tar")
    return int(digits or b"0", 8)


def _are_numbers(*fields: bytes) -> bool:
    try:
        return all(number(field) is not None for field in fields if field[0])
    except NoTar:
        return False


def decimal(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > _DIGITS:
        raise NoTar(f"{digits[:40]!r} is no number of a PAX header")
    return int(digits)


def _seconds(value: bytes) -> int:
    """Whole seconds, rounded down."""
    whole, _, fraction = value.partition(b".")
    digits = whole.removeprefix(b"-")
    seconds = decimal(digits) if digits or not fraction else 0
    if whole.startswith(b"-"):
        return -seconds - bool(fraction.strip(b"0"))
    return seconds


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def shown(name: bytes) -> str:
    """A name for people, whatever bytes are in it."""
    return name.decode(errors="backslashreplace")
