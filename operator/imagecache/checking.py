"""`kip image-cache verify`: the whole volume, read, with what is wrong and what was done about it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rich.console import Console

from kip.imagecache.bars import Bars
from kip.imagecache.byhand import held_now, refuse_held
from kip.imagecache.inventory import Inventory, take
from kip.images import verify
from kip.images.verify import Checked, Finding, Report
from kip.images.volume import Volume, layer_at
from kip.model.clock import SystemClock
from kip.model.quantity import human_bytes


@dataclass(frozen=True)
class Outcome:
    """What was found, and what of it was deleted."""

    report: Report
    repaired: tuple[Finding, ...] = ()

    @property
    def well(self) -> bool:
        """Whether nothing is wrong any more."""
        done = {finding.path for finding in self.repaired}
        left = tuple(finding for finding in self.report.findings if finding.path not in done)
        return Report(0, 0, 0, 0, left).clean

    def lines(self) -> Iterator[str]:
        """For people."""
        done = {finding.path for finding in self.repaired}
        for finding in self.report.findings:
            what = "deleted" if finding.path in done else finding.advice
            yield f"{finding.problem}: {finding.path}: {finding.reason}; {what}"
        report = self.report
        yield (
            f"{report.layers} layers, {report.images} images and {report.references} references checked, "
            f"{human_bytes(report.read_bytes)} read: {'all is well' if self.well else 'not all is well'}"
        )

    def to_dict(self) -> dict[str, object]:
        """For programs."""
        done = {finding.path for finding in self.repaired}
        return {
            "layers": self.report.layers,
            "images": self.report.images,
            "references": self.report.references,
            "readBytes": self.report.read_bytes,
            "well": self.well,
            "findings": [
                {
                    "path": str(finding.path),
                    "problem": str(finding.problem),
                    "reason": finding.reason,
                    "repaired": finding.path in done,
                }
                for finding in self.report.findings
            ],
        }


async def check(
    directory: Path, kubeconfig: Path | None, *, repair: bool, content: bool, force: bool
) -> Outcome:
    """Reads the volume and shows how far it is. Raises Refused, VolumeUnavailable, KubeError."""
    clock = SystemClock()
    volume = Volume(directory, clock)
    inventory = await take(volume)
    with Bars(Console(stderr=True, highlight=False)) as bars:
        read = 0

        def progress(checked: Checked) -> None:
            nonlocal read
            read += checked.file_bytes
            bars.files("reading", read, max(read, inventory.usage.layers_bytes))

        report = await verify.verify(volume, clock, content=content, progress=progress)
    if not repair or report.clean:
        return Outcome(report)
    if not force:
        going = [finding.path for finding in report.findings if finding.repairable]
        refuse_held(inventory, _with_a_layer_at(inventory, going), await held_now(kubeconfig))
    return Outcome(report, await verify.repair(volume, report))


def _with_a_layer_at(inventory: Inventory, paths: Collection[PurePosixPath]) -> set[str]:
    """Images that have a layer in one of these files: a cell that reads from it would lose it."""
    layers = {layer_at(path) for path in paths}
    return {
        image.digest for image in inventory.images if any(each.file_id in layers for each in image.layers)
    }
