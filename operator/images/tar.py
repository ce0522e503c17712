"""Reads a layer's tar as Go's archive/tar does, since that is what containerd reads it with.

Every format that it knows, with the sparse files of GNU and of PAX. Python's tarfile has other rules (it applies global
headers, for one) and is slower.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from kip.images.tarheader import (
    BLOCK,
    FILE,
    GNU_SPARSE,
    LONG_LINK,
    LONG_NAME,
    PAX,
    PAX_GLOBAL,
    Entry,
    NoTar,
    Special,
    check_parts,
    check_sum,
    decimal,
    entry_of,
    number,
)

# Bytes of a PAX header, a long name or the map of a sparse file; Go has the same limit (maxSpecialFileSize).
_LONGEST_SPECIAL = 1 << 20
# Bytes of all files with their holes, which cost next to nothing in a blob but time here: no disk of a cell has as much.
_LARGEST = 1 << 40
_ZERO_BLOCK = bytes(BLOCK)
_ZEROS = memoryview(bytes(1 << 20))

Write = Callable[[memoryview], object]


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
        special, total = Special(), 0
        while header := self._header():
            kind = header[156:157]
            if kind in (PAX, PAX_GLOBAL, LONG_NAME, LONG_LINK):
                # Go reads global headers and does nothing with them.
                special.take(kind, self._special(header))
                continue
            entry, stored = entry_of(header, special)
            self._left, self._padding = stored, -stored % BLOCK
            if special.sparse_map_is_first():
                entry.parts = self._sparse_map()
            elif kind == GNU_SPARSE:
                entry.kind, entry.size, entry.parts = FILE, number(header[483:495]), self._gnu_sparse(header)
            if entry.parts is not None:
                check_parts(entry, self._left)
            total += entry.size if entry.kind == FILE else 0
            if total > _LARGEST:
                raise NoTar(f"files of more than {_LARGEST} bytes in all, holes included")
            yield entry
            special = Special()
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
        check_sum(header)
        size = number(header[124:136])
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
                parts.append((number(offset), number(length)))
            if not more:
                return tuple(parts)
            if len(parts) * 24 > _LONGEST_SPECIAL:
                raise NoTar(f"the map of a sparse file has more than {_LONGEST_SPECIAL} bytes")
            block = self._block() or b""
            fields, more = block[:504], block[504]

    def _sparse_map(self) -> tuple[tuple[int, int], ...]:
        """The map of PAX 1.0: decimal numbers, a line each, before the content, filled up to blocks."""
        text, end = b"", self._left - _LONGEST_SPECIAL

        def line() -> int:
            nonlocal text
            while b"\n" not in text:
                if self._left < end:
                    raise NoTar(f"the map of a sparse file has more than {_LONGEST_SPECIAL} bytes")
                if self._left < BLOCK or len(text) > BLOCK:
                    raise NoTar("the map of a sparse file is not right")
                text += self._block() or b""
                self._left -= BLOCK
            digits, _, text = text.partition(b"\n")
            return decimal(digits)

        return tuple((line(), line()) for _ in range(line()))


def _copy_zeros(count: int, write: Write) -> None:
    while count > 0:
        part = _ZEROS[:count]
        write(part)
        count -= len(part)
