"""Tells a pod when the image cache's volume, from which it reads its image, does not answer, and when it does again."""

from __future__ import annotations

import asyncio

import structlog

from kip.cells.link import Link, Tunnel
from kip.cells.report import Reporter
from kip.cells.stages import Pod
from kip.tunnel.errors import TunnelError

log = structlog.get_logger(__name__)


class VolumeWatch:
    """One sleeping channel of the connection for each cell that has layers mounted: 11 kB, and no work while all is well."""

    def __init__(self, report: Reporter) -> None:
        self._report = report

    def follow(self, pod: Pod, link: Link) -> None:
        """From now on until the connection ends; once for each connection."""
        if link.tunnel is not None and link.volume_task is None:
            link.volume_task = asyncio.create_task(
                self._watch(pod, link, link.tunnel), name=f"volume of {link.cell_name}"
            )

    async def _watch(self, pod: Pod, link: Link, tunnel: Tunnel) -> None:
        try:
            async for answers in tunnel.watch_volume():
                log.info("volume of the image cache", cell=link.cell_name, answers=answers)
                if answers:
                    await self._report.progress(
                        pod, "ImageCacheBack", "the volume of the image cache answers again"
                    )
                else:
                    await self._report.warning(
                        pod,
                        "ImageCacheAway",
                        "the volume of the image cache does not answer: the pod's reads of its image wait until it does",
                    )
        except TunnelError as error:
            log.info("volume not watched any more", cell=link.cell_name, error=str(error))
