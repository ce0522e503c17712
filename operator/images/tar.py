"""Reads a layer's tar as Go's archive/tar does, since that is what containerd reads it with.

Every format that it knows: V7, ustar, PAX, GNU and star, with the sparse files of GNU and of PAX. Python's tarfile has other
rules (it applies global headers, for one) and is slower.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from kip.images.errors import LayerRefused

BLOCK = 512
FILE, LINK, SYMLINK, CHARACTER, DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_OLD_FILE, _GNU_SPARSE = b"\0", b"S"
_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK = b"x", b"g", b"L", b"K"
_WITHOUT_CONTENT = (LINK, SYMLINK, CHARACTER, DEVICE, DIRECTORY, FIFO)
_XATTR = b"SCHILY.xattr."
# Bytes of a PAX header, a long name or the map of a sparse file; Go has the same limit (maxSpecialFileSize).
_LONGEST_SPECIAL = 1 << 20
# Bytes of all files with their holes, which cost next to nothing in a blob but time here: no disk of a cell has as much.
_LARGEST = 1 << 40
_OWNERS, _MAJORS, _MINORS = 1 << 32, 1 << 12, 1 << 20  # as many as Linux has
_DIGITS = 40  # of a number; Go takes 64 bits
_ZERO_BLOCK = bytes(BLOCK)
_ZEROS = memoryview(bytes(1 << 20))

Write = Callable[[memoryview], object]


class NoTar(LayerRefused):
    """The layer is no tar that containerd could read, or it ends too early."""


@dataclass(slots=True)
class Entry:
    """One entry of a tar; its content is read with `Reader.copy` before the next entry is asked for."""

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


class Stream:
    """Takes pieces of any size apart into what is asked for."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._piece = memoryview(b"")

    def take(self, count: int) -> bytes:
        """That many bytes, or fewer at the end."""
        piece = self._piece
        if len(piece) >= count:
            self._piece = piece[count:]
            return bytes(piece[:count])
        taken = bytearray()
        self.copy(count, taken.extend)
        return bytes(taken)

    def copy(self, count: int, write: Write) -> int:
        """Hands on that many bytes, or fewer at the end; how many it was."""
        left = count
        while left:
            if not self._piece:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._piece = memoryview(piece)
            part = self._piece[:left]
            self._piece = self._piece[len(part) :]
            write(part)
            left -= len(part)
        return count - left

    def drain(self) -> None:
        """Reads to the end: the digest is of all that comes, also of what follows the tar's end."""
        self._piece = memoryview(b"")
        for _ in self._pieces:
            pass


class Reader:
    """Iterates over a tar's entries. Raises NoTar for what containerd would refuse to read."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._left = 0  # bytes of the entry's content as stored, without padding
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        special, total = _Special(), 0
        while header := self._header():
            kind = header[156:157]
            if kind in (_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK):
                # Go reads global headers and does nothing with them.
                special.take(kind, self._special(header))
                continue
            entry, stored = _entry(header, special)
            self._left, self._padding = stored, -stored % BLOCK
            if special.sparse_map_is_first():
                entry.parts = self._sparse_map()
            elif kind == _GNU_SPARSE:
                entry.kind, entry.size, entry.parts = FILE, _number(header[483:495]), self._gnu_sparse(header)
            if entry.parts is not None:
                _check_parts(entry, self._left)
            total += entry.size if entry.kind == FILE else 0
            if total > _LARGEST:
                raise NoTar(f"files of more than {_LARGEST} bytes in all, holes included")
            yield entry
            special = _Special()
            self._copy(self._left, lambda _: None)
            self._skip_padding()

    def copy(self, entry: Entry, write: Write) -> None:
        """Hands on the content, holes as zeros. What was handed on before does not come again."""
        if entry.parts is None:
            self._copy(self._left, write)
            return
        at, parts, entry.parts = 0, entry.parts, None
        for offset, length in parts:
            _copy_zeros(offset - at, write)
            self._copy(length, write)
            at = offset + length
        _copy_zeros(entry.size - at, write)

    def _copy(self, count: int, write: Write) -> None:
        if self._stream.copy(count, write) < count:
            raise NoTar("the layer ends in the middle of a file")
        self._left -= count

    def _skip_padding(self) -> None:
        if len(self._stream.take(self._padding)) < self._padding:
            raise NoTar("the layer ends in the middle of a file")

    def _header(self) -> bytes | None:
        """The next header; None at the end, which are two blocks of zeros, one, or nothing."""
        header = self._block(may_end=True)
        if header is None or header != _ZERO_BLOCK:
            return header
        if self._block(may_end=True) in (None, _ZERO_BLOCK):
            return None
        raise NoTar("the layer goes on after a block of zeros")

    def _block(self, *, may_end: bool = False) -> bytes | None:
        block = self._stream.take(BLOCK)
        if len(block) == BLOCK:
            return block
        if may_end and not block:
            return None
        raise NoTar("the layer ends in the middle of a header")

    def _special(self, header: bytes) -> bytes:
        _check_sum(header)
        size = _number(header[124:136])
        if not 0 <= size <= _LONGEST_SPECIAL:
            raise NoTar(f"a header of {size} bytes; expected at most {_LONGEST_SPECIAL}")
        content = self._stream.take(size + -size % BLOCK)
        if len(content) < size:
            raise NoTar("the layer ends in the middle of a header")
        return content[:size]

    def _gnu_sparse(self, header: bytes) -> tuple[tuple[int, int], ...]:
        """The map of GNU's old format: four parts in the header, 21 in each block that follows."""
        parts, fields, more = [], header[386:482], header[482]
        while True:
            for at in range(0, len(fields), 24):
                offset, length = fields[at : at + 12], fields[at + 12 : at + 24]
                if not offset[0] or not length[0]:
                    break
                parts.append((_number(offset), _number(length)))
            if not more:
                return tuple(parts)
            if len(parts) * 24 > _LONGEST_SPECIAL:
                raise NoTar(f"the map of a sparse file has more than {_LONGEST_SPECIAL} bytes")
            block = self._block() or b""
            fields, more = block[:504], block[504]

    def _sparse_map(self) -> tuple[tuple[int, int], ...]:
        """The map of PAX 1.0: decimal numbers, a line each, before the content, filled up to blocks."""
        text, end = b"", self._left - _LONGEST_SPECIAL

        def number() -> int:
            nonlocal text
            while b"\n" not in text:
                if self._left < end:
                    raise NoTar(f"the map of a sparse file has more than {_LONGEST_SPECIAL} bytes")
                if self._left < BLOCK or len(text) > BLOCK:
                    raise NoTar("the map of a sparse file is not right")
                text += self._block() or b""
                self._left -= BLOCK
            line, _, text = text.partition(b"\n")
            return _decimal(line)

        return tuple((number(), number()) for _ in range(number()))


class _Special:
    """What headers before an entry's own say about it."""

    def __init__(self) -> None:
        self.name = b""
        self.link = b""
        self.records: dict[bytes, bytes] = {}

    def take(self, kind: bytes, content: bytes) -> None:
        if kind == _LONG_NAME:
            self.name = content.partition(b"\0")[0]
        elif kind == _LONG_LINK:
            self.link = content.partition(b"\0")[0]
        elif kind == _PAX:
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


def _entry(header: bytes, special: _Special) -> tuple[Entry, int]:
    """The entry, and how many bytes of content there are for it in the tar."""
    _check_sum(header)
    kind, link = header[156:157], _text(header[157:257])
    name, has_devices = _name(header)
    major, minor = map(_number, (header[329:337], header[337:345])) if has_devices else (0, 0)
    is_device = kind in (CHARACTER, DEVICE)  # others may have anything there
    entry = Entry(
        name=name,
        kind=FILE if kind == _OLD_FILE else kind,
        mode=_number(header[100:108]) & 0o7777,
        uid=_number(header[108:116]),
        gid=_number(header[116:124]),
        mtime=_number(header[136:148]),
        size=_number(header[124:136]),
        link=link,
        major=major if is_device else 0,
        minor=minor if is_device else 0,
    )
    if special.records:
        _merge(entry, special.records)
    entry.name, entry.link = special.name or entry.name, special.link or entry.link
    if kind == _OLD_FILE and entry.name.endswith(b"/"):
        entry.kind = DIRECTORY
    if kind not in (_OLD_FILE, FILE, _GNU_SPARSE, *_WITHOUT_CONTENT):
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
            setattr(entry, key.decode(), _decimal(value))
    if value := records.get(b"mtime"):
        entry.mtime = _seconds(value)
    entry.xattrs = {
        key.removeprefix(_XATTR): value for key, value in records.items() if key.startswith(_XATTR)
    }


def _make_sparse(entry: Entry, records: Mapping[bytes, bytes], version: tuple[bytes, bytes]) -> None:
    entry.name = records.get(b"GNU.sparse.name") or entry.name
    size = records.get(b"GNU.sparse.size") or records.get(b"GNU.sparse.realsize")
    if size:
        entry.size = _decimal(size)
    if version[0] == b"0":
        numbers = [_decimal(each) for each in records.get(b"GNU.sparse.map", b"").split(b",") if each]
        if len(numbers) % 2:
            raise NoTar(f"{shown(entry.name)}: the map of a sparse file is not right")
        entry.parts = tuple(zip(numbers[::2], numbers[1::2], strict=True))


def _check_parts(entry: Entry, stored: int) -> None:
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
        end = at + _decimal(length)
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


def _check_sum(header: bytes) -> None:
    expected = _number(header[148:156])
    # Adding up bytes is the one slow thing here; in steps of the whole header it is one call.
    total = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    if total == expected:
        return
    signed = sum(memoryview(header).cast("b")) - sum(memoryview(header[148:156]).cast("b")) + 8 * ord(" ")
    if signed != expected:
        raise NoTar("no tar: a header's checksum is wrong")


def _number(field: bytes) -> int:
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
        return all(_number(field) is not None for field in fields if field[0])
    except NoTar:
        return False


def _decimal(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > _DIGITS:
        raise NoTar(f"{digits[:40]!r} is no number of a PAX header")
    return int(digits)


def _seconds(value: bytes) -> int:
    """Whole seconds, rounded down."""
    whole, _, fraction = value.partition(b".")
    digits = whole.removeprefix(b"-")
    seconds = _decimal(digits) if digits or not fraction else 0
    if whole.startswith(b"-"):
        return -seconds - bool(fraction.strip(b"0"))
    return seconds


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def shown(name: bytes) -> str:
    """A name for people, whatever bytes are in it."""
    return name.decode(errors="backslashreplace")


def _copy_zeros(count: int, write: Write) -> None:
    while count > 0:
        part = _ZEROS[:count]
        write(part)
        count -= len(part)
