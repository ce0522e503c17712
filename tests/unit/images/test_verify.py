"""Whatever is wrong with a volume is found, named, and gone after a repair."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from tests.unit.images.layers import sha256
from tests.unit.images.test_pull import BASE, MIDDLE, Pulls, Registry

from kip.images import format as layout
from kip.images.errors import VolumeUnavailable
from kip.images.format import BLOCK
from kip.images.verify import Checked, Problem, Report, repair, verify
from kip.images.volume import Volume
from kip.model.clock import SystemClock


@pytest.fixture
async def volume(tmp_path: Path) -> Volume:
    """One with an image of two layers under two names."""
    pulls = Pulls(tmp_path / "volume")
    registry = Registry()
    registry.image(BASE, MIDDLE)
    await pulls.add(registry)
    await pulls.add(registry, name="registry.test/again:1")
    return Volume(pulls.volume.root, SystemClock())


async def check(volume: Volume, *, content: bool = True) -> Report:
    return await verify(volume, SystemClock(), content=content)


def layer_file(volume: Volume, tar: bytes = MIDDLE) -> Path:
    return volume.root / layout.layer_path(sha256(tar))


def found(report: Report) -> list[tuple[str, Problem]]:
    return [(each.path.parts[0], each.problem) for each in report.findings]


async def test_a_whole_volume_is_clean(volume: Volume) -> None:
    seen: list[Checked] = []
    report = await verify(volume, SystemClock(), progress=seen.append)
    assert report.clean
    assert report.findings == ()
    assert (report.layers, report.images, report.references) == (2, 1, 2)
    assert len(seen) == 5
    assert report.read_bytes == sum(
        each.file_bytes - BLOCK for each in seen if each.path.parts[0] == "layers"
    )


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at, os.SEEK_SET if at >= 0 else os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes((byte ^ 1,)))


BROKEN: dict[str, Callable[[Path], object]] = {
    "a bit is flipped in the content": lambda path: flip(path, 100),
    "a bit is flipped in the listing": lambda path: flip(path, -BLOCK - 10),
    "a bit is flipped in the trailer": lambda path: flip(path, -BLOCK + 40),
    "cut short by a byte": lambda path: os.truncate(path, path.stat().st_size - 1),
    "cut short by a block": lambda path: os.truncate(path, path.stat().st_size - BLOCK),
    "empty": lambda path: os.truncate(path, 0),
    "longer than it was": lambda path: path.write_bytes(path.read_bytes() + bytes(BLOCK)),
    "nothing but zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
}


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_damaged_layer_is_found_with_all_that_needs_it_and_repaired(
    volume: Volume, broken: str
) -> None:
    BROKEN[broken](layer_file(volume))
    report = await check(volume)
    assert not report.clean
    assert found(report) == [
        ("images", Problem.INCOMPLETE),
        ("index", Problem.INCOMPLETE),
        ("index", Problem.INCOMPLETE),
        ("layers", Problem.DAMAGED),
    ]
    deleted = await repair(volume, report)
    assert [each.path.parts[0] for each in deleted] == ["index", "index", "images", "layers"]
    assert (await check(volume)).clean
    assert await volume.has_layer(sha256(BASE))


async def test_what_is_inside_is_read_only_if_wanted(volume: Volume) -> None:
    flip(layer_file(volume), 100)
    assert (await check(volume, content=False)).clean
    assert not (await check(volume)).clean


async def test_a_missing_layer_is_missed_by_its_image(volume: Volume) -> None:
    await volume.remove_layer(sha256(MIDDLE))
    report = await check(volume)
    assert found(report)[0] == ("images", Problem.INCOMPLETE)
    assert "of 2 layers 1 are missing" in report.findings[0].reason


async def test_a_missing_image_leaves_layers_that_nothing_needs(volume: Volume) -> None:
    (image,) = await volume.images()
    await volume.remove_image(image.digest)
    for path in volume.root.glob("layers/*/*/*"):
        os.utime(path, (0, 0))
    report = await check(volume)
    assert [problem for _, problem in found(report)] == [Problem.INCOMPLETE] * 2 + [Problem.UNNEEDED] * 2
    await repair(volume, report)
    left = await check(volume)
    assert left.clean
    assert [problem for _, problem in found(left)] == [Problem.UNNEEDED] * 2


async def test_a_young_layer_may_be_about_to_be_needed(volume: Volume) -> None:
    (image,) = await volume.images()
    for reference in await volume.references():
        await volume.remove_reference(reference.reference)
    await volume.remove_image(image.digest)
    for path in volume.root.glob("layers/*/*/*"):
        path.touch()
    assert (await check(volume)).findings == ()


async def test_files_about_images_and_references_are_checked_too(volume: Volume) -> None:
    for path in [*volume.root.glob("images/*"), *volume.root.glob("index/*/*")]:
        path.write_bytes(path.read_bytes().replace(b"linux", b"linus"))
    report = await check(volume)
    problems = {each.problem for each in report.findings}
    assert Problem.DAMAGED in problems
    await repair(volume, report)
    assert (await check(volume)).clean


async def test_leftovers_and_strangers(volume: Volume) -> None:
    old, new = layer_file(volume).parent / ".tmp-old", layer_file(volume).parent / ".tmp-new"
    stranger, alike = volume.root / "notes.txt", layer_file(volume).parent / "copy of a layer"
    for path in (old, new, stranger, alike):
        path.write_text("x")
    os.utime(old, (0, 0))
    (volume.root / "lost+found").mkdir()
    report = await check(volume)
    assert sorted((each.path.name, each.problem.value) for each in report.findings) == [
        (".tmp-old", "abandoned"),
        ("copy of a layer", "stray"),
        ("notes.txt", "stray"),
    ]
    assert [each.path.name for each in await repair(volume, report)] == [".tmp-old"]
    assert stranger.exists()
    assert all(each.advice for each in report.findings)


async def test_a_file_under_anothers_name_is_found(volume: Volume) -> None:
    layer_file(volume, BASE).replace(layer_file(volume))
    assert ("layers", Problem.DAMAGED) in found(await check(volume))


async def test_a_volume_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(VolumeUnavailable):
        await check(Volume(tmp_path / "missing", SystemClock()))


async def test_what_is_evicted_meanwhile_is_no_finding(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = volume.files

    def evicting(top: object) -> object:
        if top == layout.LAYERS:
            for path in [*volume.root.glob("index/*/*"), *volume.root.glob("images/*"), layer_file(volume)]:
                path.unlink()
        return files(top)  # type: ignore[arg-type]

    monkeypatch.setattr(volume, "files", evicting)
    assert (await check(volume)).findings == ()


async def test_what_another_client_evicts_while_it_is_read_is_no_finding(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evicted(*_: object) -> None:
        for path in [*volume.root.glob("index/*/*"), *volume.root.glob("images/*"), layer_file(volume)]:
            path.unlink(missing_ok=True)
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr("kip.images.verify._Check._check_content", evicted)
    assert (await check(volume)).findings == ()


async def test_what_an_nfs_client_keeps_of_a_removed_file_is_no_finding(volume: Volume) -> None:
    for directory in ("images", f"layers/sha256/{sha256(MIDDLE)[7:9]}"):
        (volume.root / directory / ".nfs00000000000004d200000001").write_bytes(b"whatever it was")
    report = await check(volume)
    assert report.findings == ()


async def test_what_another_version_has_written_in_another_way_can_lack_something_too(volume: Volume) -> None:
    for path in [*volume.root.glob("index/*/*"), *volume.root.glob("images/*")]:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"new": 1}))
    assert (await check(volume)).clean
    layer_file(volume).unlink()
    incomplete = [("images", Problem.INCOMPLETE), *[("index", Problem.INCOMPLETE)] * 2]
    assert found(await check(volume)) == incomplete


async def test_ages_are_told_by_the_given_clock(volume: Volume) -> None:
    class Later(SystemClock):
        def now(self):  # type: ignore[no-untyped-def]
            return super().now() + timedelta(days=3)

    (layer_file(volume).parent / ".tmp-x").write_text("x")
    (finding,) = (await verify(volume, Later())).findings
    assert finding.reason == "last written to 3 days ago"
