"""Scripts about the volume, over a real sshd. What they do on a cell: tests/integration/images."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kip.bootstrap import layout
from kip.tunnel import volume
from kip.tunnel.connection import Tunnel
from kip.tunnel.errors import CommandFailed
from kip.tunnel.volume import VolumeSilent


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What is run in place of them."""
    told: dict[str, str] = {}
    monkeypatch.setattr(volume, "script", told.__getitem__)
    return told


def test_paths_are_those_of_the_user_data() -> None:
    assert f"volume={layout.VOLUME}\n" in volume.script("look")
    assert f"record={layout.LAYERS}\n" in volume.script("seed")
    assert f"stat --file-system {layout.VOLUME}\n" in volume.script("watch")


async def test_paths_are_handed_over_and_the_answer_may_be_long(
    tunnel: Tunnel, scripts: dict[str, str]
) -> None:
    scripts["look"] = "echo $1; cat; head -c 1000000 /dev/zero"
    answer = await volume.look(tunnel, ["images/a", "images/b"], timeout_s=1.5)
    assert answer == b"1.50\nimages/a\nimages/b\n" + b"\0" * 1_000_000


async def test_a_volume_that_is_silent_is_told_from_a_script_that_fails(
    tunnel: Tunnel, scripts: dict[str, str]
) -> None:
    scripts["look"] = "exit 75"
    with pytest.raises(VolumeSilent, match="reading from the image cache: not done after 1 s"):
        await volume.look(tunnel, [], timeout_s=1)
    scripts["look"] = "echo no such program >&2; exit 1"
    with pytest.raises(CommandFailed, match="no such program"):
        await volume.look(tunnel, [], timeout_s=1)


async def test_a_cell_that_prints_without_end_costs_no_more_than_the_limit(
    tunnel: Tunnel, scripts: dict[str, str]
) -> None:
    scripts["look"] = "cat /dev/zero"
    with pytest.raises(CommandFailed, match="bytes of output"):
        await volume.look(tunnel, [], timeout_s=5)


async def test_a_watch_ends_with_who_reads_it(tunnel: Tunnel, scripts: dict[str, str], tmp_path: Any) -> None:
    ended = tmp_path / "ended"
    scripts["watch"] = f"echo away; echo back; cat; touch {ended}"
    seen = []
    async for answers in volume.watch(tunnel, every_s=30):
        seen.append(answers)
        if answers:
            break
    assert seen == [False, True]
    await tunnel.close()
    async with asyncio.timeout(10):
        while not ended.exists():
            await asyncio.sleep(0.02)
