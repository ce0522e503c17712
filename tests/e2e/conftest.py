"""One world for all end-to-end tests of a session: cluster, AWS, machine room, and the operator in it."""

from __future__ import annotations

import fcntl
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `support`, which is no test

from support.operators import OperatorProcess, configuration
from support.world import E2eWorld

from kip.local import build, lifecycle, ordinary
from kip.local.images import PROGRAMS
from kip.local.progress import ConsoleProgress
from kip.local.world import World

_SESSIONS = 9  # test sessions that can run at the same time on one machine
_NAME = "kipe2e"
_WORLDS = {"world", "control_plane"}  # fixtures that bring worlds up


def pytest_collection_finish(session: pytest.Session) -> None:
    """Compiles what worlds consist of before the first test: the first time takes longer than a test may."""
    if session.config.option.collectonly or not any(
        _WORLDS & {*item.fixturenames} for item in _items(session)
    ):
        return
    # Who waits for minutes wants to see for what.
    with session.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        for programs in (build.KUBERNETES, build.CONTAINERD, build.COREDNS, PROGRAMS):
            # Without one of them the tests that need it fail, and say so.
            with suppress(build.BuildError):
                build.ensure(programs, ConsoleProgress())


def _items(session: pytest.Session) -> Iterator[pytest.Function]:
    return (item for item in session.items if isinstance(item, pytest.Function))


@pytest.fixture(scope="session")
def world() -> Iterator[E2eWorld]:
    """World `kipe2e`, made anew: what a killed session left is removed first."""
    with ExitStack() as stack:
        name = _reserve(stack)
        lifecycle.down(name)
        stack.callback(lifecycle.down, name)
        made = World.open(name)
        OperatorProcess(made, "operator", configuration(made))  # `up` keeps a provider.yaml that is there
        lifecycle.up(name, ConsoleProgress())
        ready = E2eWorld(made)
        ready.eventually(lambda: ready.get("nodes", "kip-provider-0"), 30, "the virtual node is there")
        yield ready


@pytest.fixture(scope="session")
def ordinary_node(world: E2eWorld) -> str:
    """The name of an ordinary node beside the virtual one, Ready until the session ends."""
    ordinary.up(world.world, ConsoleProgress())
    return ordinary.NODE


@pytest.fixture
def namespace(world: E2eWorld, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own; the test fails if a Cell or an instance of it is left afterwards."""
    with world.fresh_namespace(_hint(request)) as name:
        yield name


@pytest.fixture(scope="module")
def shared_namespace(world: E2eWorld, request: pytest.FixtureRequest) -> Iterator[str]:
    """The same for what a module's tests share."""
    with world.fresh_namespace(_hint(request)) as name:
        yield name


@pytest.fixture
def eventually(world: E2eWorld) -> Callable[..., object]:
    """`eventually(condition, timeout, what, namespace)`: see E2eWorld.eventually."""
    return world.eventually


def _hint(request: pytest.FixtureRequest) -> str:
    module = request.module.__name__.rpartition(".")[2]
    return module.removeprefix("test_").replace("_", "-")


def _reserve(stack: ExitStack) -> str:
    """A world's name that no other running session uses; the lock ends with this process."""
    directory = build.cache_directory()
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(1, _SESSIONS + 1):
        name = _NAME if number == 1 else f"{_NAME}{number}"
        if _lock(stack.enter_context((directory / f"{name}.lock").open("w"))):
            return name
    pytest.fail(f"{_SESSIONS} other sessions of these tests run on this machine")


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
