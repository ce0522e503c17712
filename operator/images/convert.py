"""A layer's blob → its file on the volume, in one pass and without keeping it anywhere else.

    blob → digest → decompression → diffID → tar, as containerd would unpack it → mksquashfs → hash tree, trailer → its name

The event loop only downloads; the rest is in a thread (conversion.py) and in mksquashfs. Memory: some megabytes under way,
the names in the layer (tree.py), and what mksquashfs may use. The rare layer that takes back what it said before, like the
same file twice, is downloaded twice: the first time shows what is left in the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from kip.images.conversion import Conversion
from kip.images.errors import WrongContent
from kip.images.format import Layer, Trailer
from kip.images.mksquashfs import Limits
from kip.images.pipe import Closed, Pipe
from kip.images.proof import Proof
from kip.images.tree import Attributes
from kip.images.volume import Volume

_Result = TypeVar("_Result")
OpenBlob = Callable[[], AsyncIterator[bytes]]
Below = Callable[[tuple[bytes, ...]], Awaitable[Mapping[bytes, Attributes]]]


async def convert_layer(
    volume: Volume,
    layer: Layer,
    blob: OpenBlob,
    *,
    chain_id: str,
    below: Below | None = None,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    progress: Callable[[int], None] = lambda _: None,
) -> Trailer:
    """Converts a layer and puts it on the volume; gives the trailer of the file that is there then.

    `blob` begins to download it; it may be called twice. `chain_id` is that of the layer where it is. `below` gives the
    attributes of directories that the layer does not describe, from the layers below; None for the lowest. `progress` is
    told how many bytes of the blob have come.

    Raises LayerRefused, WrongContent, ToolMissing, ToolFailed, VolumeFull, VolumeUnavailable, and what the source raises.
    Whatever happens, also when cancelled, no process and no temporary file is left.
    """
    worker = ThreadPoolExecutor(1, thread_name_prefix="convert")
    job = Conversion(volume, layer, limits)
    try:
        await _stream(job, worker, blob, progress)
        if job.stale:
            await _stream(job, worker, blob, progress)
        implied = await _in(worker, job.implied)
        attributes = await below(implied) if below and implied else {}
        return await _in(worker, lambda: job.finish(attributes, chain_id if implied else ""))
    finally:
        job.kill()
        await asyncio.shield(_in(worker, job.close))
        worker.shutdown(wait=False)


async def prove_layer(
    layer: Layer, tar_bytes: int, blob: OpenBlob, *, progress: Callable[[int], None] = lambda _: None
) -> None:
    """Downloads a layer whose file is there already, from a source that has not shown yet that it has that layer.

    Arguments as of `convert_layer` and `Proof`. Raises WrongContent if it has not, and what the source raises.
    """
    worker = ThreadPoolExecutor(1, thread_name_prefix="prove")
    try:
        await _stream(Proof(layer, tar_bytes), worker, blob, progress)
    finally:
        worker.shutdown(wait=False)


class _Job(Protocol):
    """What is done with a blob while it is downloaded."""

    layer: Layer

    def stream(self, pipe: Pipe) -> None: ...
    def kill(self) -> None: ...


async def _stream(
    job: _Job, worker: ThreadPoolExecutor, blob: OpenBlob, progress: Callable[[int], None]
) -> None:
    """Downloads, while the thread takes in what comes. Whichever fails ends the other."""
    pipe = Pipe()
    working = asyncio.ensure_future(_in(worker, lambda: job.stream(pipe)))
    downloading = asyncio.ensure_future(_download(pipe, blob, job.layer, progress))
    both = (downloading, working)
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        if not all(each.done() and not each.cancelled() and each.exception() is None for each in both):
            downloading.cancel()
            pipe.end(broken=True)
            job.kill()
        results = await asyncio.gather(*both, return_exceptions=True)
    # A download that broke off is why the thread failed; one that was given up is not.
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError | Closed):
            raise result


async def _download(pipe: Pipe, blob: OpenBlob, layer: Layer, progress: Callable[[int], None]) -> None:
    come = 0
    pieces = blob()
    try:
        async for piece in pieces:
            come += len(piece)
            if come > layer.blob_bytes:
                raise WrongContent(f"{layer.digest}: more than the {layer.blob_bytes} bytes of the manifest")
            progress(come)
            await pipe.put(piece)
        pipe.end()
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()


async def _in(worker: ThreadPoolExecutor, work: Callable[[], _Result]) -> _Result:
    return await asyncio.get_running_loop().run_in_executor(worker, work)
