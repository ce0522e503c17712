"""Writes the one kind of tar that every mksquashfs reads in the same way: ustar, GNU's long names, PAX's attributes.

No names of users (mksquashfs would look them up on this host), no sparse files (holes are zeros, and become holes again).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kip.images.tarheader import BLOCK
from kip.images.tree import Attributes

END = bytes(2 * BLOCK)
_NAME, _LINK = 100, 100  # bytes in the header


def header(
    path: bytes,
    kind: bytes,
    attributes: Attributes,
    *,
    size: int = 0,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
) -> bytes:
    """What comes before the content, which the caller fills up to a block."""
    before = b""
    if attributes.xattrs:
        records = {b"SCHILY.xattr." + key: value for key, value in sorted(attributes.xattrs.items())}
        before += _special(b"x", b"".join(_records(records)))
    if len(path) > _NAME:
        before += _special(b"L", path)
    if len(link) > _LINK:
        # Not PAX's linkpath: of that mksquashfs 4.5 takes away `../`, from symbolic links too.
        before += _special(b"K", link)
    return before + _block(path[:_NAME], kind, attributes, size=size, link=link[:_LINK], device=device)


def padding(size: int) -> bytes:
    """What comes after a content of that size."""
    return bytes(-size % BLOCK)


def _special(kind: bytes, content: bytes) -> bytes:
    return _block(b"special", kind, Attributes(), size=len(content)) + content + padding(len(content))


def _records(records: Mapping[bytes, bytes]) -> Iterator[bytes]:
    """A record begins with its own length in decimal digits, which count too."""
    for key, value in records.items():
        rest = len(key) + len(value) + 3
        length = rest + len(str(rest))
        length = rest + len(str(length))
        yield b"%d %s=%s\n" % (length, key, value)


def _block(
    path: bytes,
    kind: bytes,
    attributes: Attributes,
    *,
    size: int,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
) -> bytes:
    mode, uid, gid = attributes.mode, attributes.uid, attributes.gid
    block = bytearray(BLOCK)
    block[0 : len(path)] = path
    block[100:107] = b"%07o" % mode
    block[108:116] = _number(uid, 8)
    block[116:124] = _number(gid, 8)
    block[124:136] = _number(size, 12)
    block[136:148] = _number(attributes.mtime, 12)
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[157 : 157 + len(link)] = link
    block[257:265] = b"ustar\x0000"
    block[329:337] = _number(device[0], 8)
    block[337:345] = _number(device[1], 8)
    block[148:155] = b"%06o\0" % sum(block)
    return bytes(block)


def _number(value: int, width: int) -> bytes:
    """Octal digits and a zero; base 256 for what they cannot say."""
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    return (0x80 << 8 * (width - 1) | value).to_bytes(width, "big")
