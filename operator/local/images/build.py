"""Making the local world's images: static programs, each wrapped into an OCI image of one layer."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
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
DEVICE_PLUGIN = "demo.kip.local/device-plugin:1"

# Each with its sources; one with a go.mod is a module of its own, which needs others.
_COMPILED = {
    "pause": ("main.go",),
    "web": ("main.go",),
    "deviceplugin": ("main.go", "go.mod", "go.sum"),
}
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
    for image in (make(directory) for make in (_pause, _web, _toolbox, _device_plugin)):
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


def _device_plugin(directory: Path) -> Image:
    return Image(
        name=DEVICE_PLUGIN,
        architecture=_architecture(),
        programs={"deviceplugin": directory / "deviceplugin"},
        entrypoint=("/deviceplugin",),
        # As in NVIDIA's own image: by this their container runtime shows it the machine's GPUs.
        environment=(_PATH, "NVIDIA_VISIBLE_DEVICES=all"),
    )


def _architecture() -> str:
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def _compile(output: Path, log: Path) -> None:
    for name, files in _COMPILED.items():
        source = output / f"{name}.source"  # a copy: the package may be installed where nobody can write
        source.mkdir()
        for file in files:
            (source / file).write_bytes(_source(name, file))
        programs.run_go(
            log,
            "build",
            *_GO_FLAGS,
            "-o",
            str(output / name),
            "." if "go.mod" in files else "main.go",
            directory=source,
            environment={"GOWORK": "off", "GOFLAGS": ""},
        )
        shutil.rmtree(source)
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


def _source(name: str, file: str) -> bytes:
    return (resources.files("kip.local.images") / name / file).read_bytes()


def _fingerprint() -> str:
    sources = (_source(name, file) for name, files in _COMPILED.items() for file in files)
    return " ".join([*_GO_FLAGS, *(hashlib.sha256(source).hexdigest() for source in sources)])


PROGRAMS = Build(
    kind="image-programs",
    version="1",
    programs=(*_COMPILED, "busybox"),
    usual=30,
    replacement="KIP_IMAGE_BIN_DIR",
    fingerprint=_fingerprint(),
    compile=_compile,
)
