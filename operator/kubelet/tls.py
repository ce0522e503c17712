"""TLS over a plain asyncio stream, with a half-close and without losing the last bytes.

asyncio's and uvloop's own TLS transports are not enough for a byte proxy: they have no half-close
(`can_write_eof()` is false), drop everything still to be written when the peer closes its side first, abort a close
30 seconds after it began although a slow reader still reads, and throw away unsent output when the peer sends
anything during the close. Here TLS runs in memory (`ssl.MemoryBIO`) between plain transports, so that both event
loops behave alike.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

CHUNK_BYTES = 64 * 1024

# A kubelet ends every stream after this time (its server's Read- and WriteTimeout): nobody reads any slower than that.
_DELIVERY_LIMIT_S = 4 * 3600
# How long a peer that has everything may take to close its side.
_LINGER_S = 5.0


class TlsStream:
    """One TLS connection. One task may read while another one writes; call `handshake` before either."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        context: ssl.SSLContext,
        *,
        server_side: bool,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self._ready = bytearray()
        self._read_ended = False
        self._write_ended = False

    async def handshake(self) -> None:
        """Agree with the peer; raises ssl.SSLError (its certificate is refused, it speaks no TLS) or OSError."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._feed():
                    raise ConnectionResetError("the peer hung up during the TLS handshake") from None
            except ssl.SSLError:
                await self._flush()  # the alert that tells the peer why
                raise
            else:
                await self._flush()
                return

    def peer_certificate(self) -> dict[str, Any] | None:
        """The peer's verified certificate as `ssl.SSLSocket.getpeercert` shows it, or None if it sent none."""
        return self._tls.getpeercert() or None

    def unread(self, data: bytes) -> None:
        """Give back bytes that were read too far: the next `read` begins with them."""
        self._ready[:0] = data

    async def read(self) -> bytes:
        """The next bytes, at most about 64 KiB; b"" when the peer has ended its side. Raises OSError."""
        while not self._ready and not self._read_ended:
            self._decrypt()
            if self._ready or self._read_ended:
                break
            self._send_pending()
            if not await self._feed():
                self._decrypt()
                self._read_ended = True
        data = bytes(self._ready)
        self._ready.clear()
        return data

    async def write(self, data: bytes) -> None:
        """Send; returns once the peer keeps up. Raises OSError when it is gone."""
        if self._write_ended:
            raise ConnectionResetError("this side of the TLS connection is closed")
        rest = memoryview(data)
        while rest:
            rest = rest[self._tls.write(rest) :]
        await self._flush()

    async def write_eof(self) -> None:
        """Say that nothing more comes from this side (close_notify); what the peer still sends can be read."""
        if self._write_ended:
            return
        self._write_ended = True
        # Python's unwrap() asks OpenSSL twice: the second time it looks for the peer's close_notify and throws away
        # data it meets instead, so that everything which has arrived must be out of its hands first.
        self._decrypt()
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass  # SSLWantReadError: ours is sent, the peer's is not here yet; that is a half-close
        await self._flush()

    async def close(self) -> None:
        """Deliver what was written, close, and take what the peer still sends, so that no reset destroys it."""
        try:
            async with asyncio.timeout(_DELIVERY_LIMIT_S):
                await self.write_eof()
                self._writer.transport.set_write_buffer_limits(high=0)
                await self._writer.drain()
            if self._writer.can_write_eof():
                self._writer.write_eof()
            async with asyncio.timeout(_LINGER_S):
                while await self._reader.read(CHUNK_BYTES):
                    pass
        except (OSError, TimeoutError):
            pass  # TimeoutError too: the peer had its time
        finally:
            self.abort()

    def abort(self) -> None:
        """Close now; what was not sent is lost and the peer sees a broken connection."""
        self._read_ended = self._write_ended = True
        self._writer.transport.abort()

    def _decrypt(self) -> None:
        """Move what has arrived to `_ready`, notice the end."""
        while not self._read_ended:
            try:
                data = self._tls.read(CHUNK_BYTES)
            except ssl.SSLWantReadError:
                return
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                self._read_ended = True
            except ssl.SSLError as error:
                self._read_ended = True
                raise ConnectionResetError(f"broken TLS stream: {error}") from error
            else:
                self._read_ended = not data
                self._ready += data

    async def _feed(self) -> bool:
        data = await self._reader.read(CHUNK_BYTES)
        if not data:
            self._incoming.write_eof()
            return False
        self._incoming.write(data)
        return True

    def _send_pending(self) -> None:
        if pending := self._outgoing.read():
            self._writer.write(pending)

    async def _flush(self) -> None:
        self._send_pending()
        await self._writer.drain()
