"""Making the local world's images: three static programs, each wrapped into an OCI image of one layer."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import tempfile
from importlib import resources
from pathlib import Path

from kip.local import build as programs
from kip.local.build import Build, BuildError
from kip.local.images.oci import Image, write
from kip.local.progress import Progress, Silent

PAUSE = "localhost/kubernetes/pause:latest"
WEB = "demo.kip.local/web:1"
TOOLBOX = "demo.kip.local/toolbox:1"

_COMPILED = ("pause", "web")
_BUSYBOX_PACKAGE = "busybox-static"
_GO_FLAGS = (
    "-trimpath",
    "-buildvcs=false",
    "-ldflags=-s -w -buildid=",
)  # the same program from any directory
_NOBODY = 65534
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # uname's word: the OCI specification's
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# nss_files reads users from here; a lookup without them prints numbers.
_ACCOUNTS = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
}


def build_all(dest_dir: Path, progress: Progress | None = None) -> dict[str, Path]:
    """Writes the images as OCI archives (`ctr images import` takes them) below dest_dir; name to file.

    The programs in them are compiled once and kept in Kip's cache directory. The same programs give the same
    files, byte for byte, so an image keeps its digest however often it is written.

    Raises:
        BuildError: Go is missing, or busybox can be had neither from Debian nor from KIP_IMAGE_BIN_DIR.
    """
    directory = programs.ensure(PROGRAMS, progress or Silent())
    dest_dir.mkdir(parents=True, exist_ok=True)
    files = {}
    for image in (_pause(directory), _web(directory), _toolbox(directory)):
        target = dest_dir / f"{image.name.rpartition('/')[2].replace(':', '-')}.tar"
        write(image, target)
        files[image.name] = target
    return files


def _pause(directory: Path) -> Image:
    return Image(
        name=PAUSE,
        architecture=_architecture(),
        programs={"pause": directory / "pause"},
        command=("/pause",),
        user=f"{_NOBODY}:{_NOBODY}",
    )


def _web(directory: Path) -> Image:
    return Image(
        name=WEB,
        architecture=_architecture(),
        programs={"web": directory / "web"},
        texts=_ACCOUNTS,
        entrypoint=("/web",),
        environment=(_PATH,),
        ports=("8080/tcp",),
    )


def _toolbox(directory: Path) -> Image:
    busybox = directory / "busybox"
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    return Image(
        name=TOOLBOX,
        architecture=_architecture(),
        programs={"bin/busybox": busybox},
        texts=_ACCOUNTS,
        links={f"bin/{name}": "busybox" for name in listed if name != "busybox"},
        command=("/bin/sh",),
        environment=(_PATH,),
    )


def _architecture() -> str:
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def _compile(output: Path, log: Path) -> None:
    for name in _COMPILED:
        source = output / f"{name}.go"  # a copy: the package may be installed where nobody can write
        source.write_bytes(_source(name))
        programs.run_go(
            log,
            "build",
            *_GO_FLAGS,
            "-o",
            str(output / name),
            source.name,
            directory=output,
            environment={"GOWORK": "off", "GOFLAGS": ""},
        )
        source.unlink()
    _fetch_busybox(output / "busybox")


def _fetch_busybox(target: Path) -> None:
    """Takes the program out of its Debian package, without installing that."""
    with tempfile.TemporaryDirectory(prefix="kip-busybox-") as work:
        # Root's downloads are done by the user _apt, who has to be able to write here.
        Path(work).chmod(0o777)
        download = ("apt-get", "--quiet", "download", _BUSYBOX_PACKAGE)
        try:
            _run(*download, directory=work)
        except BuildError:
            if os.geteuid() != 0:
                raise
            _run(
                "apt-get", "--quiet", "update", directory=work
            )  # a fresh machine has no lists, an old one old ones
            _run(*download, directory=work)
        package = next(Path(work).glob(f"{_BUSYBOX_PACKAGE}_*.deb"))
        _run("dpkg-deb", "--extract", package.name, "content", directory=work)
        target.write_bytes((Path(work) / "content" / "bin" / "busybox").read_bytes())
    target.chmod(0o755)


def _run(*command: str, directory: str) -> None:
    remedy = (
        f"the Debian package {_BUSYBOX_PACKAGE} is needed for {TOOLBOX}: make `apt-get download "
        f"{_BUSYBOX_PACKAGE}` work (`apt-get update` first?), or set {PROGRAMS.replacement} to a directory "
        f"with static programs {', '.join(PROGRAMS.programs)}"
    )
    try:
        subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise BuildError(f"{command[0]} was not found; {remedy}") from None
    except subprocess.CalledProcessError as error:
        raise BuildError(f"{' '.join(command)} failed: {error.stderr.strip()}; {remedy}") from None


def _source(name: str) -> bytes:
    return (resources.files("kip.local.images") / name / "main.go").read_bytes()


def _fingerprint() -> str:
    return " ".join([*_GO_FLAGS, *(hashlib.sha256(_source(name)).hexdigest() for name in _COMPILED)])


PROGRAMS = Build(
    kind="image-programs",
    version="1",
    programs=(*_COMPILED, "busybox"),
    usual=30,
    replacement="KIP_IMAGE_BIN_DIR",
    fingerprint=_fingerprint(),
    compile=_compile,
)
