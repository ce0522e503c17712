"""Compiling the programs that the local world runs, and Helm that installs into it, once per version.

Each is kept in `<cache>/bin/<kind>-<version>-<hash of what it is made from>/`, outside the project, so that a
checkout, an installed package and the tests share them. A build goes to a temporary directory that is renamed
when it is complete; an interrupted one continues from Go's own build cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from kip.local.progress import Progress
from kip.local.world import WorldError

KUBERNETES_VERSION = "v1.36.3"
CONTAINERD_VERSION = "v2.2.9"
COREDNS_VERSION = "v1.14.7"
HELM_VERSION = "v3.22.0"

_SMALL = ("-trimpath", "-ldflags=-s -w")  # no paths of this machine, no symbols: a third smaller
_GO_NEEDED = (1, 26)  # what the go.mod of Kubernetes 1.36 asks for
_GO_THAT_FETCHES = (1, 21)  # from here on `go` itself fetches the newer toolchain that a go.mod asks for
_SOURCES = ("go.mod", "go.sum", "main.go")
_LINES_SHOWN = 20


class BuildError(WorldError):
    """A program could not be compiled; the message says what to do."""


@dataclass(frozen=True)
class Build:
    """One thing to compile: what it is called, what comes out, and the seconds it takes on 2 cores."""

    kind: str
    version: str
    programs: tuple[str, ...]
    usual: float
    replacement: str  # environment variable that names a directory of ready binaries
    fingerprint: str
    compile: Callable[[Path, Path], None]  # (output directory, log file)

    @property
    def directory(self) -> Path:
        """Where the finished programs are kept."""
        digest = hashlib.sha256(self.fingerprint.encode()).hexdigest()[:12]
        return cache_directory() / "bin" / f"{self.kind}-{self.version}-{digest}"


def cache_directory() -> Path:
    """Where compiled programs are kept: `KIP_CACHE_DIR`, else `kip` in the user's cache directory."""
    if chosen := os.environ.get("KIP_CACHE_DIR"):
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kip"


def ensure(build: Build, progress: Progress) -> Path:
    """The directory that has the build's programs, compiled now if they were not yet.

    Raises:
        BuildError: Go is missing or too old, the compiler failed, or the replacement directory is incomplete.
    """
    if chosen := os.environ.get(build.replacement):
        return _ready(Path(chosen), build)
    if build.directory.is_dir():
        return build.directory
    build.directory.parent.mkdir(parents=True, exist_ok=True)
    with _alone(build, progress):
        if not build.directory.is_dir():
            _check_go(build)
            with progress.step(f"compile {build.kind} {build.version}, once", usual=build.usual):
                _compile(build)
    return build.directory


def program(build: Build, name: str) -> Path:
    """One program of a build that `ensure` made ready."""
    chosen = os.environ.get(build.replacement)
    return (Path(chosen).absolute() if chosen else build.directory) / name


def _ready(directory: Path, build: Build) -> Path:
    missing = [name for name in build.programs if not os.access(directory / name, os.X_OK)]
    if missing:
        raise BuildError(
            f"{build.replacement}={directory} has no executable {', '.join(missing)}; "
            f"expected there: {', '.join(build.programs)}"
        )
    return directory.absolute()


def _compile(build: Build) -> None:
    partial = build.directory.with_name(f".{build.directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # an interrupted build's; we hold the lock
    partial.mkdir()
    log = cache_directory() / f"{build.kind}.log"
    try:
        build.compile(partial, log)
        partial.rename(build.directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def _alone(build: Build, progress: Progress) -> Iterator[None]:
    """Holds the build's lock; the lock ends with the process, however that ends."""
    path = build.directory.with_name(f".{build.directory.name}.lock")
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with progress.step(f"wait for another process that compiles {build.kind}", usual=build.usual):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _check_go(build: Build) -> None:
    wanted = (
        f"compiling {build.kind} {build.version} needs Go {_GO_NEEDED[0]}.{_GO_NEEDED[1]} or newer "
        "(Debian package golang-go of a release that has it, or https://go.dev/dl)"
    )
    remedy = f"install it, or set {build.replacement} to a directory with {', '.join(build.programs)}"
    try:
        told = subprocess.run(
            ["go", "env", "GOVERSION", "GOTOOLCHAIN"], capture_output=True, text=True, check=True
        )
    except FileNotFoundError:
        raise BuildError(f"{wanted}; `go` was not found: {remedy}") from None
    except subprocess.CalledProcessError as error:
        raise BuildError(f"{wanted}; `go env` failed: {error.stderr.strip()}") from None
    if not go_suffices(told.stdout):
        raise BuildError(f"{wanted}; found {' '.join(told.stdout.split())}: {remedy}")


def go_suffices(answer: str) -> bool:
    """Whether the Go that gave this answer to `go env GOVERSION GOTOOLCHAIN` can compile, or fetch what can."""
    version, _, toolchain = answer.strip().partition("\n")
    found = re.match(r"go(\d+)\.(\d+)", version)
    if not found:
        return version.startswith("devel")
    have = (int(found[1]), int(found[2]))
    return have >= _GO_NEEDED or (have >= _GO_THAT_FETCHES and toolchain != "local")


def run_go(log: Path, *arguments: str, directory: Path, environment: Mapping[str, str] | None = None) -> None:
    """Runs `go` with its output in the log. Raises BuildError with the log's last lines."""
    with log.open("wb") as output:
        done = subprocess.run(
            ["go", *arguments],
            cwd=directory,
            # The compiled program runs on cells too: no C library that may differ there.
            env={**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        last = log.read_text(errors="replace").splitlines()[-_LINES_SHOWN:]
        raise BuildError("\n".join([f"go {arguments[0]} failed ({log}):", *last]))


def _kubernetes() -> Build:
    programs = (
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
        "kube-proxy",
        "kubectl",
    )
    sources = {name: (resources.files("kip.local") / "kube" / name).read_bytes() for name in _SOURCES}
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    # Without a version the components call themselves v0.0.0, and clients then misbehave.
    version = "k8s.io/component-base/version"
    flags = (
        f"-ldflags=-s -w -X {version}.gitVersion={KUBERNETES_VERSION} "
        f"-X {version}.gitMajor={major} -X {version}.gitMinor={minor}"
    )

    def compile_(output: Path, log: Path) -> None:
        source = output / "source"  # a copy: the package may be installed where nobody can write
        source.mkdir()
        for name, content in sources.items():
            (source / name).write_bytes(content)
        for package, name in packages.items():
            run_go(log, "build", "-trimpath", flags, "-o", str(output / name), package, directory=source)
        shutil.rmtree(source)
        for name in programs:
            if not (output / name).exists():
                (output / name).symlink_to("kube")

    # The kubelet on its own: on a cell every tenth of a second counts, and so it is on real machines.
    packages = {".": "kube", "k8s.io/kubernetes/cmd/kubelet": "kubelet"}
    fingerprint = " ".join((flags, *packages)) + "".join(
        hashlib.sha256(content).hexdigest() for content in sources.values()
    )
    return Build(
        kind="kubernetes",
        version=KUBERNETES_VERSION,
        programs=programs,
        usual=450,
        replacement="KIP_KUBE_BIN_DIR",
        fingerprint=fingerprint,
        compile=compile_,
    )


def _installed(
    kind: str, version: str, packages: tuple[str, ...], *, usual: float, replacement: str, defines: str = ""
) -> Build:
    """A build of main packages of one public module by `go install`; `defines` sets variables (`-X name=value`)."""
    flags = tuple(f"{flag} {defines}" if defines and "ldflags" in flag else flag for flag in _SMALL)

    def compile_(output: Path, log: Path) -> None:
        wanted = [f"{package}@{version}" for package in packages]
        run_go(log, "install", *flags, *wanted, directory=output, environment={"GOBIN": str(output)})

    return Build(
        kind=kind,
        version=version,
        programs=tuple(package.rpartition("/")[2] for package in packages),
        usual=usual,
        replacement=replacement,
        fingerprint=" ".join((*flags, *packages)),
        compile=compile_,
    )


def _volume() -> Build:
    sources = {name: (resources.files("kip.local") / "volume" / name).read_bytes() for name in _SOURCES}

    def compile_(output: Path, log: Path) -> None:
        source = output / "source"  # a copy: the package may be installed where nobody can write
        source.mkdir()
        for name, content in sources.items():
            (source / name).write_bytes(content)
        run_go(log, "build", *_SMALL, "-o", str(output / "mount.nfs4"), ".", directory=source)
        shutil.rmtree(source)

    return Build(
        kind="volume",
        version="1",
        programs=("mount.nfs4",),
        usual=15,
        replacement="KIP_VOLUME_BIN_DIR",
        fingerprint=" ".join(
            (*_SMALL, *(hashlib.sha256(content).hexdigest() for content in sources.values()))
        ),
        compile=compile_,
    )


KUBERNETES = _kubernetes()
VOLUME = _volume()
CONTAINERD = _installed(
    "containerd",
    CONTAINERD_VERSION,
    tuple(
        f"github.com/containerd/containerd/v2/cmd/{name}"
        for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    ),
    usual=90,
    replacement="KIP_CONTAINERD_BIN_DIR",
)
COREDNS = _installed(
    "coredns", COREDNS_VERSION, ("github.com/coredns/coredns",), usual=240, replacement="KIP_COREDNS_BIN_DIR"
)
_HELM = "helm.sh/helm/v3"
_MAJOR, _MINOR = KUBERNETES_VERSION.removeprefix("v").split(".")[:2]
HELM = _installed(
    "helm",
    HELM_VERSION,
    (f"{_HELM}/cmd/helm",),
    usual=120,
    replacement="KIP_HELM_BIN_DIR",
    # Without them it calls itself older, and takes every cluster that it is not told of for Kubernetes 1.20.
    defines=(
        f"-X {_HELM}/internal/version.version={HELM_VERSION} "
        f"-X {_HELM}/pkg/chartutil.k8sVersionMajor={_MAJOR} -X {_HELM}/pkg/chartutil.k8sVersionMinor={_MINOR}"
    ),
)
