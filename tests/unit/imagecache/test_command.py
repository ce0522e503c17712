"""The commands on a volume, as somebody types them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.doubles.registry import LocalRegistry, layer

from kip.imagecache import byhand
from kip.imagecache.command import image_cache
from kip.images.volume import Volume

APP = "quay.io/team/app:1"
Kip = Callable[..., Any]


@pytest.fixture
def kip(tmp_path: Path, registry: LocalRegistry, volume: Volume) -> Kip:
    """Runs a command beside the registry, which lives in this event loop."""
    settings = tmp_path / "provider.yaml"
    settings.write_text(
        "apiVersion: v1\nkind: serverConfig\nregistries:\n  mirrors: {'*': ['" + registry.url + "']}\n"
    )

    async def run(command: str, *arguments: str, config: bool = False) -> Result:
        line = [
            command,
            *arguments,
            "--volume",
            str(volume.root),
            *(["--config", str(settings)] if config else []),
        ]
        return await asyncio.to_thread(CliRunner().invoke, image_cache, line)

    return run


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the Cells of the cluster say they have."""
    has: dict[str, str] = {}

    async def held_now(_kubeconfig: Path | None) -> dict[str, str]:
        return has

    monkeypatch.setattr(byhand, "held_now", held_now)
    monkeypatch.setattr("kip.imagecache.checking.held_now", held_now)
    return has


async def test_add_and_list(kip: Kip, registry: LocalRegistry) -> None:
    digest = registry.image(APP, layer(a=b"1"), layer(b=b"2"))
    added = await kip("add", APP, config=True)
    assert added.exit_code == 0, added.output
    assert digest in added.stderr
    listed = await kip("list")
    head, row, last = listed.stdout.splitlines()
    assert head.split() == ["REFERENCE", "PLATFORM", "DIGEST", "SIZE", "LAYERS", "CACHED", "USED"]
    assert row.split()[:3] == [APP, "linux/amd64", digest[7:19]]
    assert row.split()[4] == "2/2"
    assert last.startswith("1 image, 2 layers of ")
    (found,) = json.loads((await kip("list", "-o", "json")).stdout)
    assert (found["reference"], found["digest"], found["missingLayers"]) == (APP, digest, 0)


async def test_what_cannot_be_had_is_said_and_the_rest_is_done(kip: Kip, registry: LocalRegistry) -> None:
    registry.image(APP, layer(a=b"1"))
    added = await kip("add", "quay.io/none:1", APP, config=True)
    assert added.exit_code == 1
    assert "not cached: " in added.stderr
    assert len(json.loads((await kip("list", "-o", "json")).stdout)) == 1


async def test_a_login_from_a_file(kip: Kip, registry: LocalRegistry, tmp_path: Path) -> None:
    registry.image(APP, layer(a=b"1"))
    registry.accounts(**{"quay.io": {"username": "ann", "password": "secret"}})
    assert (await kip("add", APP, config=True)).exit_code == 1
    auth = tmp_path / "config.json"
    auth.write_text(json.dumps({"auths": {"quay.io": {"username": "ann", "password": "secret"}}}))
    assert (await kip("add", APP, "--auth", str(auth), config=True)).exit_code == 0


async def test_an_image_that_a_cell_has_is_not_removed(
    kip: Kip, registry: LocalRegistry, cells: dict[str, str]
) -> None:
    cells[registry.image(APP, layer(a=b"1"))] = "kip-1"
    await kip("add", APP, config=True)
    refused = await kip("remove", APP)
    assert refused.exit_code == 3
    assert "kip-1" in refused.stderr
    cells.clear()
    assert (await kip("remove", APP)).exit_code == 0
    assert json.loads((await kip("list", "-o", "json")).stdout) == []
    missing = await kip("remove", APP)
    assert (missing.exit_code, f"not cached: {APP}" in missing.output) == (1, True)


async def test_an_image_with_another_name_stays_for_that(
    kip: Kip, registry: LocalRegistry, cells: dict[str, str]
) -> None:
    for name in (APP, "quay.io/team/app:2"):
        registry.image(name, layer(a=b"1"))
        await kip("add", name, config=True)
    await kip("remove", APP)
    (left,) = json.loads((await kip("list", "-o", "json")).stdout)
    assert left["reference"] == "quay.io/team/app:2"


async def test_prune(kip: Kip, registry: LocalRegistry, cells: dict[str, str]) -> None:
    registry.image(APP, layer(a=b"1"))
    await kip("add", APP, config=True)
    await kip("remove", APP)
    assert (await kip("prune")).stdout == "there is nothing to remove\n", "somebody may be about to mount it"
    assert "would remove layer" in (await kip("prune", "--grace", "0s", "--dry-run")).stdout
    assert "removed layer" in (await kip("prune", "--grace", "0s")).stdout
    assert (await kip("list")).stdout.startswith("0 images, 0 layers")


async def test_prune_by_size(kip: Kip, registry: LocalRegistry, cells: dict[str, str]) -> None:
    registry.image(APP, layer(a=b"1"))
    await kip("add", APP, config=True)
    assert f"removed image {APP}" in (await kip("prune", "--max-size", "1")).stdout


async def test_verify_finds_a_flipped_bit_and_repairs_it(
    kip: Kip, registry: LocalRegistry, volume: Volume, cells: dict[str, str]
) -> None:
    digest = registry.image(APP, layer(a=b"1" * 100_000))
    await kip("add", APP, config=True)
    assert "all is well" in (await kip("verify")).stdout
    (file,) = volume.root.glob("layers/sha256/*/*")
    with file.open("r+b") as opened:
        opened.seek(200)
        byte = opened.read(1)
        opened.seek(200)
        opened.write(bytes([byte[0] ^ 1]))
    broken = await kip("verify")
    assert broken.exit_code == 1
    assert "damaged" in broken.stdout
    cells[digest] = "kip-1"
    refused = await kip("verify", "--repair")
    assert (refused.exit_code, file.exists()) == (3, True)
    cells.clear()
    repaired = await kip("verify", "--repair", "-o", "json")
    assert (repaired.exit_code, json.loads(repaired.stdout)["well"]) == (0, True)
    assert not file.exists()
    assert (await kip("add", APP, config=True)).exit_code == 0
    assert (await kip("verify")).exit_code == 0


async def test_without_a_cluster_to_ask_it_takes_force(
    kip: Kip, registry: LocalRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    registry.image(APP, layer(a=b"1"))
    await kip("add", APP, config=True)
    refused = await kip("remove", APP)
    assert (refused.exit_code, "--force" in refused.stderr) == (3, True)
    assert (await kip("remove", APP, "--force")).exit_code == 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (("add", "NOT A NAME"), "repository"),
        (("prune", "--max-size", "much"), "expected a size"),
        (("prune", "--unused-for", "30 days"), "expected a duration"),
    ],
)
async def test_wrong_usage(kip: Kip, line: tuple[str, ...], said: str) -> None:
    result = await kip(*line)
    assert (result.exit_code, said in result.stderr) == (2, True), result.output
