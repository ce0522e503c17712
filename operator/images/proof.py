"""Whether a source has a layer whose file is on the volume already.

An image is nothing but a list of digests, and whoever may push one may write any digests into it: with the diffID of
somebody else's layer he would get that layer from the volume. So a layer is used for images of those repositories alone
that have shown to have it, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator

from kip.images.decompress import decompressed
from kip.images.errors import WrongContent
from kip.images.format import Layer
from kip.images.hashed import Hashed, check
from kip.images.pipe import Broken, Pipe


class Proof:
    """Reads a layer as a conversion does, and makes nothing of it; runs in a thread of its own (`stream`)."""

    def __init__(self, layer: Layer, tar_bytes: int) -> None:
        """`tar_bytes`: what the file on the volume was made of; more is not read."""
        self.layer = layer
        self._tar_bytes = tar_bytes
        self._killed = False

    def stream(self, pipe: Pipe) -> None:
        """Takes the blob in. Raises WrongContent if it or its tar is another one."""
        try:
            blob = Hashed(pipe)
            content = Hashed(decompressed(blob))
            for _ in self._within(content):
                pass
            blob.drain()
            check("the blob", blob.digest, self.layer.digest)
            check("the layer's tar", content.digest, self.layer.diff_id)
        finally:
            pipe.close()

    def kill(self) -> None:
        """Ends `stream` soon; from any thread."""
        self._killed = True

    def _within(self, content: Hashed) -> Iterator[bytes]:
        for piece in content:
            if self._killed:
                raise Broken
            if content.bytes > self._tar_bytes:
                raise WrongContent(
                    f"the layer's tar has more than the {self._tar_bytes} bytes of {self.layer.diff_id}"
                )
            yield piece
