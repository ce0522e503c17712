"""What holds for every test: an environment of its own, real cells only for root, and worlds that nobody else uses."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

import pytest
import structlog

from kip.local import build, packages
from kip.local.images import PROGRAMS
from kip.local.progress import ConsoleProgress

_left_out = pytest.StashKey[int]()

_WORLDS = {"world", "control_plane"}  # fixtures that bring worlds up
#: Seconds for a test that may be the first to need its world, and the last: a world's whole life is in its time.
_WITH_A_WORLD = 600
# What tests run on this host itself: the programs of a cell that are tried without one, and those of the machine room.
_PACKAGES = (
    *packages.ROOM_PACKAGES,
    packages.Package("nftables", "nft"),
    packages.Package("jq", "jq"),
    packages.Package("conntrack", "conntrack"),
    packages.Package("squashfs-tools", "mksquashfs"),
    packages.Package("cryptsetup-bin", "veritysetup"),
    packages.Package("gettext-base", "envsubst"),
)
_SESSIONS = 9  # test sessions that can run at the same time on one machine


def pytest_configure(config: pytest.Config) -> None:
    """Hides the user's clouds and clusters: no test may reach them, nor behave otherwise because of them."""
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    for name in [*os.environ]:
        if name.startswith("AWS_") or name == "KUBECONFIG":
            patch.delenv(name)
    # Without these the SDK reads ~/.aws, and asks an instance's metadata service for credentials.
    patch.setenv("AWS_CONFIG_FILE", os.devnull)
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Installs missing programs, as root. Before the collection, which leaves out what cannot be run here."""
    if os.geteuid() != 0 or session.config.option.collectonly:
        return
    with session.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        try:
            packages.ensure(_PACKAGES, ConsoleProgress())
        except packages.PackagesMissingError as error:
            print(f"{error}; tests that need them are left out or fail")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what boots real cells unless we are root; gives time to what may have to bring a world up."""
    for item in filter(_is_worldly, items):
        if _WORLDS & {*getattr(item, "fixturenames", ())} and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_WITH_A_WORLD))
    if os.geteuid() == 0:
        return
    cells = [item for item in items if item.get_closest_marker("e2e")]
    if cells:
        items[:] = [item for item in items if item not in cells]
        config.stash[_left_out] = len(cells)
        config.hook.pytest_deselected(items=cells)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Compiles what tests run before the first of them: the first time takes longer than a test may."""
    if session.config.option.collectonly:
        return
    # Who waits for minutes wants to see for what.
    with session.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        for programs in _programs(session.items):
            # Without one of them the tests that need it fail, and say so.
            with suppress(build.BuildError):
                build.ensure(programs, ConsoleProgress())


def _programs(items: Sequence[pytest.Item]) -> Iterator[build.Build]:
    if any(map(_is_worldly, items)):
        yield from (build.KUBERNETES, build.CONTAINERD, build.COREDNS, build.VOLUME, PROGRAMS)
    if any("helm_program" in getattr(item, "fixturenames", ()) for item in items):
        yield build.HELM


def _is_worldly(item: pytest.Item) -> bool:
    """Whether a real world or a part of one is in the test: others, too, may call something of theirs a world."""
    return any(item.get_closest_marker(name) for name in ("integration", "e2e"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says in one line what was left out."""
    if number := terminalreporter.config.stash.get(_left_out, 0):
        terminalreporter.write_line(
            f"{number} tests that boot real cells were left out: they need root", yellow=True
        )


@pytest.fixture(autouse=True)
def _logging_restored() -> Iterator[None]:
    """Commands set up logging for their whole process, which in tests is everybody's."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    if structlog.is_configured():
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.captureWarnings(False)
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()


@pytest.fixture(scope="session")
def project() -> Path:
    """The project's top folder."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def helm_program() -> Path:
    """Helm's command line."""
    try:
        return build.ensure(build.HELM, ConsoleProgress()) / "helm"
    except build.BuildError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def reserved() -> Iterator[Callable[[str], str]]:
    """`reserved("kiptest")`: a world's name, that one or one like it, which no other running session of tests uses."""
    with ExitStack() as stack:
        names: dict[str, str] = {}

        def reserve(wanted: str) -> str:
            if wanted not in names:
                names[wanted] = _reserve(wanted, stack)
            return names[wanted]

        yield reserve


def _reserve(wanted: str, stack: ExitStack) -> str:
    """The lock ends with this process, however that ends."""
    directory = build.cache_directory()
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(1, _SESSIONS + 1):
        name = wanted if number == 1 else f"{wanted}{number}"
        if _lock(stack.enter_context((directory / f"{name}.lock").open("w"))):
            return name
    pytest.fail(f"{_SESSIONS} other sessions of these tests run on this machine")


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
