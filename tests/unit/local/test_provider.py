"""The local world's provider.yaml is one that Kip takes."""

import dataclasses
from pathlib import Path

import pytest

from kip import config
from kip.local import provider
from kip.local.world import World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("KIP_LOCAL_STATE", str(tmp_path))
    return World.open("test")


@pytest.mark.parametrize(("rooted", "dns"), [(True, ()), (False, ("10.96.0.10",))])
def test_only_a_world_without_root_names_its_dns(world: World, rooted: bool, dns: tuple[str, ...]) -> None:
    provider.write(dataclasses.replace(world, rooted=rooted))
    settings, warnings = config.load(world.provider_config)
    assert not warnings
    assert tuple(map(str, settings.cluster.dns)) == dns


def test_a_file_that_its_user_changed_is_kept(world: World) -> None:
    world.provider_config.write_text("# mine\n")
    provider.write(world)
    assert world.provider_config.read_text() == "# mine\n"
