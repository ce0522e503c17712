"""Kip's image, built as `make image` builds it, once for what it is made from."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from kip.local import packages
from kip.local.build import cache_directory
from kip.local.progress import Progress

_PACKAGES = (
    packages.Package("buildah", "buildah"),
    packages.Package("debootstrap", "debootstrap"),
    packages.Package("make", "make"),
)
_NAME = "demo.kip.local/kip"
_KEPT = 2  # archives of other states of the project
_STORE_LIMIT = 6 * 2**30  # bytes; buildah keeps the layers of every build for the next one


def build(project: Path, progress: Progress) -> tuple[str, Path]:
    """The image's name, and an archive with it. Takes two minutes the first time, seconds after a change of code."""
    directory = cache_directory() / "images"
    name = f"{_NAME}:{_digest(project)}"
    archive = directory / f"{name.rpartition(':')[2]}.tar"
    if not archive.exists():
        packages.ensure(_PACKAGES, progress)
        directory.mkdir(parents=True, exist_ok=True)
        with progress.step("build Kip's image", usual=60):
            _make(project, name, archive)
    os.utime(archive)
    for old in sorted(directory.glob("*.tar"), key=lambda path: path.stat().st_mtime)[: -1 - _KEPT]:
        old.unlink()
    return name, archive


def _make(project: Path, name: str, archive: Path) -> None:
    repository, _, tag = name.rpartition(":")
    partial = archive.with_suffix(".partial")
    done = subprocess.run(
        [
            "make",
            # What it would install is there: it is what this test runs with.
            *("--old-file=.venv/.complete", f"BIN={Path(sys.executable).parent}", "image"),
            *("BASE=debootstrap", f"IMAGE={repository}", f"TAG={tag}", f"ARCHIVE={partial}"),
        ],
        cwd=project,
        env={**os.environ, "CONTAINERS_STORAGE_CONF": str(_store())},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"make image failed:\n{done.stdout[-4000:]}"
    partial.rename(archive)


def _store() -> Path:
    """The configuration of a store of images of our own, so that the machine's has nothing of ours in it."""
    directory = cache_directory() / "buildah"
    if _size(directory) > _STORE_LIMIT:
        shutil.rmtree(directory)
    directory.mkdir(parents=True, exist_ok=True)
    # An overlay cannot lie on another one, as the file system of a container often is.
    below = subprocess.run(
        ["stat", "--file-system", "--format=%T", directory], capture_output=True, text=True, check=True
    ).stdout.strip()
    driver = "vfs" if below == "overlayfs" else "overlay"
    file = directory / "storage.conf"
    file.write_text(
        f'[storage]\ndriver = "{driver}"\ngraphroot = "{directory}/graph"\nrunroot = "{directory}/run"\n'
    )
    return file


def _size(directory: Path) -> int:
    return sum(
        file.lstat().st_size for file in directory.rglob("*") if not file.is_symlink() and file.is_file()
    )


def _digest(project: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(_ingredients(project)):
        digest.update(f"{path.relative_to(project)}\n".encode())
        digest.update(str(path.readlink()).encode() if path.is_symlink() else path.read_bytes())
    return digest.hexdigest()[:16]


def _ingredients(project: Path) -> Iterator[Path]:
    """What .dockerignore lets into the build, and what says how it is built."""
    yield from (project / name for name in ("Dockerfile", ".dockerignore", "tools/make_image.py"))
    for line in (project / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            path = project / line[1:]
            found = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
            yield from (each for each in found if _is_ingredient(each))


def _is_ingredient(path: Path) -> bool:
    return (path.is_symlink() or path.is_file()) and "__pycache__" not in path.parts
