"""User data that is too large is told before anything is launched."""

from __future__ import annotations

import random
import string
from pathlib import Path

import pytest
from click.testing import CliRunner

from kip import config
from kip.app import userdata
from kip.bootstrap.render import USER_DATA_LIMIT
from kip.cli import main
from kip.model.clock import SystemClock


@pytest.fixture
def provider(tmp_path: Path) -> Path:
    """A provider.yaml that names a cloud-init file beside it."""
    file = tmp_path / "provider.yaml"
    file.write_text("apiVersion: v1\nkind: serverConfig\ncells:\n  cloudInitFile: extra.yaml\n")
    return file


def cloud_init(provider: Path, size: int) -> None:
    """Writes the cloud-init file: `size` bytes that hardly compress (letters and digits: to three quarters)."""
    chance = random.Random(1)
    noise = "".join(chance.choices(string.ascii_letters + string.digits, k=size))
    (provider.parent / "extra.yaml").write_text(f"#cloud-config\nbootcmd: ['true {noise}']\n")


def test_a_file_that_fits_is_no_trouble(provider: Path) -> None:
    cloud_init(provider, 5_000)
    settings, _ = config.load(provider, {})
    assert userdata.trouble(settings, SystemClock()) is None
    assert CliRunner().invoke(main, ["config", "check", str(provider)]).exit_code == 0


def test_a_file_that_is_too_large_is_told_with_its_size_and_the_limit(provider: Path) -> None:
    cloud_init(provider, 20_000)
    told = CliRunner().invoke(main, ["config", "check", str(provider)])
    assert told.exit_code == 1
    assert "1 problem\n  cells.cloudInitFile: user data has 22" in told.output
    assert f"EC2 accepts {USER_DATA_LIMIT}" in told.output
    assert "20033 bytes of it" in told.output
    assert "ok" not in told.output


def test_a_file_that_went_away_is_a_clear_refusal(provider: Path) -> None:
    cloud_init(provider, 10)
    settings, _ = config.load(provider, {})
    (provider.parent / "extra.yaml").unlink()
    told = userdata.trouble(settings, SystemClock())
    assert told is not None
    assert "cells.cloudInitFile cannot be read" in told


def test_without_a_file_nothing_is_computed(tmp_path: Path) -> None:
    file = tmp_path / "provider.yaml"
    file.write_text("apiVersion: v1\nkind: serverConfig\n")
    settings, _ = config.load(file, {})
    assert userdata.trouble(settings, SystemClock()) is None
