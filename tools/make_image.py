"""Builds Kip's image from the Dockerfile, with docker or buildah, whichever is there (`make image`).

Where no base image can be pulled, `--base debootstrap` makes an equal one: Debian's own tool fills a directory with the
packages that every Debian has, and that becomes the image on which the very same Dockerfile builds.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
SUITE = "bookworm"  # as the Dockerfile's base
DEBOOTSTRAP = "debootstrap"
_BASE = f"localhost/kip-base:{SUITE}"
_ARCHITECTURES = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}  # uname's word: the image's platform


class ImageError(Exception):
    """The image cannot be built here; the text says why and what to do."""


class Engine(ABC):
    """What builds images."""

    name: str

    @abstractmethod
    def has(self, image: str) -> bool:
        """Whether the image is in the engine's own store."""

    @abstractmethod
    def import_root(self, tar: Path, image: str) -> None:
        """Makes an image of one layer: a tar of a whole root file system."""

    @abstractmethod
    def build(self, image: str, options: Sequence[str], *, platforms: str, push: bool) -> None:
        """Builds the Dockerfile in the project's folder."""

    @abstractmethod
    def save(self, image: str, archive: Path) -> None:
        """Writes the image into a tar that `kip local load` takes."""


class Docker(Engine):
    """docker with a daemon that answers."""

    name = "docker"

    def has(self, image: str) -> bool:
        return _succeeds("docker", "image", "inspect", image)

    def import_root(self, tar: Path, image: str) -> None:
        _run("docker", "import", str(tar), image)

    def build(self, image: str, options: Sequence[str], *, platforms: str, push: bool) -> None:
        command = ("docker", "buildx", "build") if push or "," in platforms else ("docker", "build")
        _run(*command, *_platform(platforms), *(["--push"] if push else []), "--tag", image, *options, ".")

    def save(self, image: str, archive: Path) -> None:
        _run("docker", "save", "--output", str(archive), image)


class Buildah(Engine):
    """buildah, which needs no daemon; by chroot, so that it builds inside a container too."""

    name = "buildah"

    def has(self, image: str) -> bool:
        return _succeeds("buildah", "inspect", "--type", "image", image)

    def import_root(self, tar: Path, image: str) -> None:
        container = _output("buildah", "from", "scratch")
        try:
            _run("buildah", "add", "--quiet", container, str(tar), "/")  # unpacks it, with its owners
            _run("buildah", "commit", "--quiet", container, image)
        finally:
            _run("buildah", "rm", container)

    def build(self, image: str, options: Sequence[str], *, platforms: str, push: bool) -> None:
        called = ("--manifest", image) if push or "," in platforms else ("--tag", image)
        chosen = ("--isolation", os.environ.get("BUILDAH_ISOLATION", "chroot"), "--layers")
        _run("buildah", "build", *chosen, *_platform(platforms), *called, *options, ".")
        if push:
            _run("buildah", "manifest", "push", "--all", image, f"docker://{image}")

    def save(self, image: str, archive: Path) -> None:
        archive.unlink(missing_ok=True)  # an archive that is there would be added to
        _run("buildah", "push", "--quiet", image, f"oci-archive:{archive}:{image}")


def engine(wanted: str | None) -> Engine:
    """The engine of that name, or the first that works. Raises ImageError."""
    for found in (Docker(), Buildah()):
        if wanted not in (None, found.name):
            continue
        usable = (
            _succeeds("docker", "info") if found.name == "docker" else shutil.which("buildah") is not None
        )
        if usable:
            return found
    which = wanted or "neither docker nor buildah"
    raise ImageError(
        f"{which} can be used here: docker needs a daemon that answers `docker info`; buildah needs none "
        "(Debian: apt-get install buildah)"
    )


def make_base(builder: Engine) -> str:
    """An image of a minimal Debian, made once; its name. Takes a minute. Raises ImageError."""
    if builder.has(_BASE):
        return _BASE
    if os.geteuid() != 0 or shutil.which(DEBOOTSTRAP) is None:
        raise ImageError(
            "--base debootstrap needs root and debootstrap (Debian: apt-get install debootstrap)"
        )
    with tempfile.TemporaryDirectory(prefix="kip-base-") as work:
        root, tar = Path(work) / "root", Path(work) / "root.tar"
        _run(DEBOOTSTRAP, "--variant=minbase", SUITE, str(root))
        _run("tar", "-C", str(root), "--exclude=./var/cache/apt/archives/*.deb", "-cf", str(tar), ".")
        builder.import_root(tar, _BASE)
    return _BASE


def build_image(arguments: argparse.Namespace) -> None:
    """What the command line asks for. Raises ImageError."""
    builder, image = engine(arguments.engine), f"{arguments.name}:{arguments.tag}"
    own = _ARCHITECTURES.get(platform.machine(), "")
    if arguments.base == DEBOOTSTRAP and arguments.platform not in ("", own):
        raise ImageError(f"--base debootstrap makes a base for this machine only: {own}")
    options = ["--build-arg", f"VERSION={arguments.tag}"]
    if arguments.base:
        base = make_base(builder) if arguments.base == DEBOOTSTRAP else arguments.base
        options += ["--build-arg", f"BASE={base}"]
    if authority := os.environ.get("PIP_CERT"):
        options += ["--secret", f"id=ca,src={authority}"]
    builder.build(image, options, platforms=arguments.platform, push=arguments.push)
    if arguments.archive:
        builder.save(image, arguments.archive.resolve())


def _platform(platforms: str) -> list[str]:
    return ["--platform", platforms] if platforms else []


def _run(*command: str) -> None:
    print("+", shlex.join(command), file=sys.stderr, flush=True)
    done = subprocess.run(command, cwd=PROJECT, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise ImageError(f"{command[0]} ended with exit code {done.returncode}; its words are above")


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; values that are empty count as not given, as an unset variable of make is."""
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--name", default="", help="default: kip")
    parser.add_argument("--tag", default="", help=f"default: {version}, the version of the project")
    parser.add_argument("--base", default="", help="another base, or debootstrap; default: the Dockerfile's")
    parser.add_argument(
        "--platform", default="", help="such as linux/arm64, or several with commas between them"
    )
    parser.add_argument(
        "--archive", type=lambda text: Path(text) if text else None, help="save it there, too"
    )
    parser.add_argument(
        "--push", action="store_true", help="push it to its registry; takes several platforms"
    )
    parser.add_argument("--engine", choices=["docker", "buildah"], help="default: whichever is there")
    found = parser.parse_args(arguments)
    found.name, found.tag = found.name or "kip", found.tag or version
    if "," in found.platform and not found.push:
        parser.error("several platforms are one image only in a registry: --push")
    return found


if __name__ == "__main__":
    try:
        build_image(parse())
    except ImageError as error:
        sys.exit(f"make_image: {error}")
