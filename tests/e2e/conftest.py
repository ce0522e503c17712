"""One world for all end-to-end tests of a session: cluster, AWS, machine room, and the operator in it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `support`, which is no test

from support.operators import OperatorProcess, configuration
from support.world import E2eWorld

from kip.local import lifecycle, ordinary
from kip.local.progress import ConsoleProgress
from kip.local.world import World


@pytest.fixture(scope="session")
def world(reserved: Callable[[str], str]) -> Iterator[E2eWorld]:
    """World `kipe2e`, made anew: what a killed session left is removed first."""
    name = reserved("kipe2e")
    with ExitStack() as stack:
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


@pytest.fixture(autouse=True)
def _as_before(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test did to the world goes with it, though it failed; what its module or class has arranged stays."""
    world = request.getfixturevalue("world") if "world" in request.fixturenames else None
    if not isinstance(world, E2eWorld):  # the room's tests have another
        yield
        return
    # Made before us, so that it ends after us: it waits until its pods are gone, for which it takes an operator.
    if "namespace" in request.fixturenames:
        request.getfixturevalue("namespace")
    with world.restored():
        yield


@pytest.fixture
def eventually(world: E2eWorld) -> Callable[..., object]:
    """`eventually(condition, timeout, what, namespace)`: see E2eWorld.eventually."""
    return world.eventually


def _hint(request: pytest.FixtureRequest) -> str:
    module = request.module.__name__.rpartition(".")[2]
    return module.removeprefix("test_").replace("_", "-")
