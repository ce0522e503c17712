"""Whatever becomes of the operator, pods do not notice, and nothing is launched twice or lost."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from support import manifests
from support.cluster import Object
from support.operators import OperatorProcess
from support.waiting import eventually
from support.world import E2eWorld, condition, container_ids, restarts

from kip.local import lifecycle
from kip.local.processes import Processes

pytestmark = pytest.mark.e2e

NODE = manifests.NODE
#: Seconds after which a restarted operator must answer for running pods; usually 2.
_RESTARTED = 30.0
#: Seconds from SIGKILL of the holder, with a spare, to `kubectl exec`. A Lease counts for 10.
_TAKEN_OVER = 15.0
#: The same from SIGTERM, when the Lease is given up and need not run out.
_HANDED_OVER = 8.0
#: Seconds until a step comes that has no limit of its own.
_EVENTUALLY = 40.0
#: Seconds that an operator has to end after SIGTERM, whatever it waits for; usually 1.
_ENDED = 10.0


@dataclass(frozen=True)
class Steady:
    """Two pods that must not notice anything, as they were when all was well."""

    world: E2eWorld
    namespace: str
    ids: dict[str, dict[str, str]]

    NAMES = ("ticker", "web")

    @classmethod
    def start(cls, world: E2eWorld, namespace: str) -> Steady:
        """Runs them: one counts five times a second, the other waits for requests."""
        ticker = manifests.shell("n=0; while :; do n=$((n+1)); echo tick $n; sleep 0.2; done")
        pods = world.run(manifests.pod("ticker", namespace, ticker), manifests.pod("web", namespace))
        return cls(world, namespace, {pod["metadata"]["name"]: container_ids(pod) for pod in pods})

    def answers(self) -> bool:
        """True if exec works on both pods now. Raises AssertionError with what kubectl says otherwise."""
        for name in self.NAMES:
            program = ["true"] if name == "ticker" else ["/web", "-h"]
            command = ["exec", "-n", self.namespace, name, "--", *program]
            done = self.world.kubectl(*command, check=False, timeout=4)
            # The program's own refusal of an option is an answer from inside the pod.
            assert done.returncode == 0 or "command terminated with exit code" in done.stderr, done.stderr
        return True

    def answer_within(self, seconds: float, since: float) -> None:
        """Fails unless exec works `seconds` after that time, at the latest.

        What counts is when the first exec that works is begun: how long kubectl then takes is this machine's affair.
        """
        begun = since

        def look() -> bool:
            nonlocal begun
            begun = time.monotonic()
            return self.answers()

        self.world.eventually(look, _EVENTUALLY, "exec works again", self.namespace)
        assert begun - since <= seconds, f"exec works again after {begun - since:.1f} s"

    def ticks(self) -> list[int]:
        """What the ticker has counted so far, by its log."""
        log = self.world.kubectl("logs", "-n", self.namespace, "ticker", timeout=20).stdout
        return [int(line.removeprefix("tick ")) for line in log.splitlines()]

    def undisturbed(self, seconds: float = 4.0) -> None:
        """Fails unless both run on as they were, `seconds` from now included.

        A kubelet that is shown an empty list of pods kills their containers within three seconds.
        """
        self.tick_on(seconds)
        ticks = self.ticks()
        assert ticks == list(range(1, len(ticks) + 1))
        for name in self.NAMES:
            pod = self.world.existing("pods", name, self.namespace)
            assert container_ids(pod) == self.ids[name]
            assert restarts(pod) == dict.fromkeys(self.ids[name], 0)
            assert condition(pod, "Ready") == "True"

    def tick_on(self, seconds: float) -> None:
        """Returns when they have run on for so long."""
        seen = self.ticks()[-1]
        self.world.eventually(
            lambda: self.ticks()[-1] >= seen + 5 * seconds,
            seconds + 15,
            "the ticker ticks on",
            self.namespace,
        )


@pytest.fixture(scope="module")
def steady(world: E2eWorld, shared_namespace: str) -> Iterator[Steady]:
    """Pods that run all through this module, and as they began."""
    pods = Steady.start(world, shared_namespace)
    yield pods
    # A kubelet that is shown an empty list of pods kills their containers within three seconds.
    pods.tick_on(3)
    pods.undisturbed()


@pytest.fixture
def namespace(world: E2eWorld, steady: Steady) -> Iterator[str]:
    """The module's namespace, for pods that go with the test; at the module's end nothing may be left of any."""
    yield steady.namespace
    pods = {pod["metadata"]["name"] for pod in world.list("pods", steady.namespace)} - {*Steady.NAMES}
    if pods:
        world.kubectl("delete", "pod", "-n", steady.namespace, "--wait=false", *sorted(pods))


@pytest.fixture
def spare(world: E2eWorld) -> Iterator[OperatorProcess]:
    """A second process that stands by; afterwards the first one alone serves again."""
    with world.second_operator() as second:
        yield second


# Killed and started again.


def test_a_killed_operator_finds_all_as_it_was(world: E2eWorld, steady: Steady, namespace: str) -> None:
    world.run(manifests.pod("leaves", namespace))
    world.operator.kill()
    world.kubectl("delete", "pod", "-n", namespace, "leaves", "--wait=false")
    world.apply(manifests.pod("comes", namespace))
    world.operator.start()
    world.eventually(steady.answers, _RESTARTED, "exec works again", steady.namespace)
    world.gone("pods", "leaves", namespace)
    world.ready("comes", namespace)
    steady.undisturbed()


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_before_ec2_answers_launches(world: E2eWorld, namespace: str, when: str) -> None:
    """One launch of one cell and one of three, held by EC2.

    `before`: they take effect only when the next process has repeated them. `after`: they have taken effect.
    """
    types = {f"{when}-{number}": kind for number, kind in enumerate(["t3.small", *["t3.medium"] * 3])}
    known = {instance["id"] for instance in world.aws.instances()}
    # Bound while nobody serves the node, all of them are seen at once.
    world.operator.kill()
    world.apply(
        *(
            manifests.pod(name, namespace, annotations={"pod.elotl.co/instance-type": kind})
            for name, kind in types.items()
        )
    )
    world.eventually(
        lambda: all(_is_bound(world, n, namespace) for n in types), 10, "they are bound", namespace
    )
    world.aws.forget_calls()
    world.aws.fail("RunInstances", delay_s=100, when=when, count=2)
    world.operator.start(wait=False)
    world.eventually(lambda: not world.aws.faults(), 20, "EC2 has both calls", namespace)
    tokens = {name: _intent(world, name, namespace)["clientToken"] for name in types}
    assert sorted(Counter(tokens.values()).values()) == [1, 3], "equal cells share a launch"
    world.operator.kill()

    world.operator.start()
    for name in types:
        world.ready(name, namespace)
    world.aws.heal()
    world.eventually(
        lambda: len(world.aws.calls("RunInstances")) == 4, 10, "all calls are answered", namespace
    )
    assert {call["client_token"] for call in world.aws.calls("RunInstances")} == set(tokens.values())
    launched = [instance["id"] for instance in world.aws.instances() if instance["id"] not in known]
    assert sorted(launched) == sorted(world.instance_of(name, namespace) for name in types)


def _is_bound(world: E2eWorld, pod: str, namespace: str) -> bool:
    found: bool = world.existing("pods", pod, namespace)["spec"].get("nodeName") == NODE
    return found


def _intent(world: E2eWorld, pod: str, namespace: str) -> Object:
    cell = world.cell_of(pod, namespace)
    assert cell, f"pod {pod} has no cell"
    intent: Object = cell["status"]["launch"]
    return intent


# A second process.


class ReadyWatch:
    """Looks at the virtual node all the time, and remembers whenever it is not Ready."""

    def __init__(self, world: E2eWorld) -> None:
        self._world = world
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.troubles: list[str] = []
        self.looks = 0
        self.ports: list[int] = []

    def __enter__(self) -> ReadyWatch:
        self.since = _ready(self._world)["lastTransitionTime"]
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def check(self) -> None:
        """Fails if the node was not Ready, if only for a moment."""
        assert self.looks > 5
        assert not self.troubles
        assert not self._thread.is_alive(), "the last look hangs"
        assert _ready(self._world)["lastTransitionTime"] == self.since

    def _look(self) -> None:
        while not self._stop.wait(0.1):
            try:
                self._note(self._world.existing("nodes", NODE))
            except Exception as error:  # (a thread that ends is noticed by nobody)
                self.troubles.append(repr(error))

    def _note(self, node: Object) -> None:
        self.looks += 1
        if condition(node, "Ready") != "True":
            self.troubles.append(f"{node['status']['conditions']}")
        if taints := [taint for taint in node["spec"]["taints"] if taint["key"].startswith("node.")]:
            self.troubles.append(f"{taints}")
        port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
        if port not in self.ports[-1:]:
            self.ports.append(port)


def _ready(world: E2eWorld) -> Object:
    conditions: list[Object] = world.existing("nodes", NODE)["status"]["conditions"]
    return next(each for each in conditions if each["type"] == "Ready")


def test_a_spare_takes_over_from_a_killed_holder(
    world: E2eWorld, steady: Steady, spare: OperatorProcess
) -> None:
    with ReadyWatch(world) as watch:
        killed = time.monotonic()
        world.operator.kill()
        world.eventually(lambda: serves(spare), _EVENTUALLY, "the spare has taken over")
        steady.answer_within(_TAKEN_OVER, killed)
        steady.undisturbed()
    watch.check()


def test_a_spare_takes_over_at_once_from_a_holder_that_is_told_to_end(
    world: E2eWorld, steady: Steady, spare: OperatorProcess
) -> None:
    with ReadyWatch(world) as watch:
        told = time.monotonic()
        world.operator.stop()
        steady.answer_within(_HANDED_OVER, told)
        steady.undisturbed()
    watch.check()


def test_a_holder_that_was_frozen_writes_nothing_when_it_wakes(
    world: E2eWorld, steady: Steady, spare: OperatorProcess, namespace: str
) -> None:
    known = {instance["id"] for instance in world.aws.instances()}
    lost = world.operator.log().count("lease is lost")
    with ReadyWatch(world) as watch:
        first_port = watch_port(world)
        frozen = time.monotonic()
        world.operator.kill(signal.SIGSTOP)
        try:
            world.eventually(lambda: serves(spare), _EVENTUALLY, "the spare has taken over")
            steady.answer_within(_TAKEN_OVER, frozen)
            world.run(manifests.pod("meanwhile", namespace))
            time.sleep(max(0.0, frozen + 20 - time.monotonic()))  # what is tried is a freeze of this length
            world.apply(manifests.pod("just-then", namespace))
        finally:
            world.operator.kill(signal.SIGCONT)
        world.eventually(
            lambda: world.operator.log().count("lease is lost") > lost, 20, "it notices", steady.namespace
        )
        world.ready("just-then", namespace)
        steady.undisturbed()
        assert watch.ports == [first_port, watch_port(world)], "the woken process wrote the Node"
    watch.check()
    assert serves(spare)
    assert not serves(world.operator)
    launched = {instance["id"] for instance in world.aws.instances()} - known
    assert launched == {world.instance_of(name, namespace) for name in ("meanwhile", "just-then")}


def serves(operator: OperatorProcess) -> bool:
    """Whether this process holds the virtual node."""
    return operator.metric("kip_leader", node=NODE) == 1


def watch_port(world: E2eWorld) -> int:
    """The port at which the virtual node's kubelet API is."""
    port: int = world.existing("nodes", NODE)["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    return port


# The API server.


@contextlib.contextmanager
def no_api_server(world: E2eWorld) -> Iterator[None]:
    """The API server is killed, and started again afterwards."""
    processes = Processes(world.world)
    running = processes.running("apiserver")
    assert running
    processes.stop("apiserver", grace=0)
    try:
        yield
    finally:
        lifecycle.up(world.world.name, only=["apiserver"])


def test_an_api_server_that_is_restarted_costs_nothing(
    world: E2eWorld, steady: Steady, namespace: str
) -> None:
    pid = world.operator.pid
    with no_api_server(world):
        pass
    world.eventually(steady.answers, _RESTARTED, "exec works again", steady.namespace)
    world.run(manifests.pod("afterwards", namespace))
    steady.undisturbed()
    assert world.operator.pid == pid


def test_an_operator_waits_for_the_api_server_and_ends_when_told_meanwhile(
    world: E2eWorld, steady: Steady
) -> None:
    lost = world.operator.log().count("lease is lost")
    with no_api_server(world):
        eventually(
            lambda: world.operator.log().count("lease is lost") > lost,
            15,
            "the operator gives its lease up by itself",
            world.operator.tail,
        )
        ends_in_time(world.operator)
        world.operator.start(wait=False)
        eventually(
            lambda: "waiting for the API server" in world.operator.tail(),
            15,
            "the operator waits for the API server",
            world.operator.tail,
        )
        ends_in_time(world.operator)
        world.operator.start(wait=False)
    # A new process needs a new certificate for exec, and the controller that signs waits for up to 30 s before it asks
    # for anything at all, after an API server was away for so long.
    world.eventually(steady.answers, 30 + _RESTARTED, "exec works again", steady.namespace)
    steady.undisturbed()


# The end of the process.


def ends_in_time(operator: OperatorProcess) -> None:
    """Tells it to end."""
    began = time.monotonic()
    operator.stop()
    took = time.monotonic() - began
    assert took < _ENDED, f"it took {took:.1f} s\n{operator.tail()}"


def test_it_ends_in_time_whatever_it_waits_for(world: E2eWorld, steady: Steady, namespace: str) -> None:
    try:
        world.aws.settings(tags={"kip-room/no-sshd": "true"})
        world.apply(manifests.pod("silent", namespace))
        world.eventually(lambda: _phase(world, "silent", namespace) == "Booting", 20, "it boots", namespace)
        ends_in_time(world.operator)

        world.aws.settings(tags={})
        world.operator.start()
        world.aws.fail("RunInstances", delay_s=30)
        world.apply(manifests.pod("asked", namespace))
        world.eventually(lambda: not world.aws.faults(), 20, "EC2 has the call", namespace)
        ends_in_time(world.operator)
    finally:
        world.aws.heal()
        world.aws.settings(tags={})
        world.operator.start()
    world.eventually(steady.answers, _RESTARTED, "exec works again", steady.namespace)
    instance = world.instance_of("web", steady.namespace)
    world.on_cell(
        instance,
        "nft add table inet cut; nft 'add chain inet cut in { type filter hook input priority -300; "
        "policy accept; }'; nft add rule inet cut in tcp dport 22 drop",
    )
    try:
        ends_in_time(world.operator)
        world.operator.start()
        ends_in_time(world.operator)
    finally:
        world.on_cell(instance, "nft delete table inet cut")
        world.operator.start()
    world.eventually(steady.answers, _RESTARTED, "exec works again", steady.namespace)
    steady.undisturbed()


def _phase(world: E2eWorld, pod: str, namespace: str) -> str | None:
    cell = world.cell_of(pod, namespace)
    phase: str | None = (cell or {}).get("status", {}).get("phase")
    return phase
