"""tools/make_image.py: which engine it takes and what it asks of it. Both engines are stand-ins that note their calls;
tests/e2e/test_install.py builds the image and runs it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    directory = tmp_path / "bin"
    directory.mkdir()
    return directory


@pytest.fixture
def put(programs: Path, tmp_path: Path) -> Callable[..., None]:
    """An engine that notes how it is called, and fails for the calls that begin as `refuses` does."""

    def made(name: str, refuses: str = "-") -> None:
        program = programs / name
        program.write_text(
            f'#!/bin/sh\necho "{name} $*" >>{tmp_path}/calls\ncase "$*" in "{refuses}"*) exit 1;; esac\n'
        )
        program.chmod(0o755)

    return made


@pytest.fixture
def run(project: Path, programs: Path) -> Run:
    def made(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if key != "PIP_CERT"}
        return subprocess.run(
            [sys.executable, project / "tools" / "make_image.py", *arguments],
            env={**environment, "PATH": str(programs)},
            capture_output=True,
            text=True,
            check=False,
        )

    return made


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "calls").read_text().splitlines()


def test_docker_builds_where_its_daemon_answers(put, run: Run, tmp_path: Path) -> None:
    put("docker")
    put("buildah")
    done = run("--name", "registry.example.com/kip", "--tag", "1.2", "--platform", "linux/arm64")
    assert done.returncode == 0, done.stderr
    assert calls(tmp_path) == [
        "docker info",
        "docker build --platform linux/arm64 --tag registry.example.com/kip:1.2 --build-arg VERSION=1.2 .",
    ]


def test_buildah_builds_where_there_is_no_daemon(put, run: Run, tmp_path: Path) -> None:
    put("docker", refuses="info")
    put("buildah")
    archive = tmp_path / "kip.tar"
    done = run("--archive", str(archive), "--tag", "1.2", "--base", "mirror.example.com/debian:bookworm-slim")
    assert done.returncode == 0, done.stderr
    assert calls(tmp_path)[1:] == [
        "buildah build --isolation chroot --layers --tag kip:1.2 --build-arg VERSION=1.2 "
        "--build-arg BASE=mirror.example.com/debian:bookworm-slim .",
        f"buildah push --quiet kip:1.2 oci-archive:{archive}:kip:1.2",
    ]


def test_several_platforms_are_pushed_as_one(put, run: Run, tmp_path: Path) -> None:
    put("buildah")
    done = run("--tag", "1.2", "--platform", "linux/amd64,linux/arm64", "--push")
    assert done.returncode == 0, done.stderr
    build, push = calls(tmp_path)
    assert "--platform linux/amd64,linux/arm64 --manifest kip:1.2 " in build
    assert push == "buildah manifest push --all kip:1.2 docker://kip:1.2"
    refused = run("--platform", "linux/amd64,linux/arm64")
    assert refused.returncode == 2
    assert "--push" in refused.stderr


def test_what_is_left_empty_is_the_default(put, run: Run, tmp_path: Path) -> None:
    put("docker")
    assert run("--name=", "--tag=", "--platform=", "--base=", "--archive=").returncode == 0
    assert calls(tmp_path)[-1] == "docker build --tag kip:0.1.0 --build-arg VERSION=0.1.0 ."


def test_without_an_engine_it_says_what_to_install(run: Run) -> None:
    refused = run()
    assert refused.returncode == 1
    assert "neither docker nor buildah can be used here" in refused.stderr
    assert "apt-get install buildah" in refused.stderr


def test_an_engine_that_fails_is_a_failure(put, run: Run) -> None:
    put("buildah", refuses="build")
    refused = run()
    assert refused.returncode == 1
    assert "buildah ended with exit code 1" in refused.stderr


def test_a_base_of_another_platform_cannot_be_made(put, run: Run) -> None:
    put("buildah")
    refused = run("--base", "debootstrap", "--platform", "linux/s390x")
    assert refused.returncode == 1
    assert "for this machine only" in refused.stderr
