"""Layers of a volume become snapshots of a real containerd, and never without their content."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from tests.integration.images.containerd import Machine
from tests.unit.images.layers import directory, file, symlink, tar_of
from tests.unit.images.test_pull import Registry

from kip.images import format as layout
from kip.images import look as answers
from kip.images import seeding
from kip.images.look import Look
from kip.images.pull import Cached, ImageCache
from kip.images.seeding import Decision, Plan
from kip.images.volume import Volume
from kip.local.volume import control
from kip.local.volume.control import Shape
from kip.local.world import World
from kip.model.clock import SystemClock
from kip.oci.access import Access
from kip.oci.reference import parse
from kip.tunnel.volume import script as script_of

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0 or not Path("/dev/fuse").exists(), reason="mounts"),
]
NAME = parse("registry.test/app:1")
BASE = tar_of(directory("etc"), file("etc/a", b"of the base"), file("etc/gone", b"1"), directory("bin"))
MIDDLE = tar_of(directory("etc"), file("etc/.wh.gone"), file("etc/b", b"of the middle", uid=7))
TOP = tar_of(directory("opt"), symlink("opt/a", "/etc/a"), file("opt/set", b"x", mode=0o4755))


class Cell:
    """A machine whose volume has one image."""

    def __init__(self, machine: Machine, *layers: bytes) -> None:
        self.machine = machine
        self.registry = Registry()
        self.top = self.registry.image(*layers)
        self.volume = Volume(control.files(machine.world), SystemClock())
        [self.image] = asyncio.run(self._cache()).images

    async def _cache(self) -> Cached:
        cache = ImageCache(self.volume, clock=SystemClock(), creator="test", slots=asyncio.Semaphore(2))
        return await cache.add(NAME, self.registry, ("linux/amd64",))

    def look(self, *paths: object, timeout: float = 10) -> Look:
        lines = "".join(f"{path}\n" for path in paths)
        return answers.parse(self.machine.script("look", f"{timeout}", input=lines.encode()))

    def plan(self) -> Plan:
        """As the operator makes it, whatever the machine has already."""
        reference = replace(
            self.look(layout.reference_path(str(NAME))), platform="linux/amd64", present=frozenset()
        )
        chosen = seeding.choose((NAME,), {str(NAME): Access(self.top.digest)}, reference)
        return seeding.plan(chosen, {}, {}, self.look(layout.image_path(self.image.digest)))

    def seed(self, planned: Plan | None = None, timeout: float = 20) -> tuple[Decision, str]:
        planned = planned or self.plan()
        said = self.machine.script("seed", f"{timeout}", "auto", input=planned.orders()).decode()
        [decision] = seeding.results(planned, said)
        return decision, said

    def rootfs(self, layers: int = 3) -> str:
        """What a container of the image's lowest layers sees, file by file."""
        self.machine.ctr("snapshots", "prepare", "view-of-it", self.image.chain[layers - 1])
        mount = self.machine.ctr("snapshots", "mounts", "/run/root", "view-of-it")
        seen = self.machine.run(
            f"mkdir -p /run/root && {mount.strip()} && cd /run/root &&"
            " find . ! -name . -printf '%p %m %U %l\\n' | sort && cat etc/* && cd / && umount /run/root"
        )
        self.machine.ctr("snapshots", "rm", "view-of-it")
        return seen.stdout.decode()

    def snapshots(self) -> set[str]:
        """Those that the machine has of the image, whether anything is mounted on them or not."""
        return set(self.image.chain) & set(self.machine.ctr("snapshots", "ls").split())

    def layer_file(self, number: int) -> Path:
        return control.files(self.machine.world) / layout.layer_path(self.image.layers[number].file_id)


SEEN_BASE = "./bin 755 0 \n./etc 755 0 \n./etc/a 644 0 \n./etc/gone 644 0 \nof the base1"
SEEN = (
    "./bin 755 0 \n./etc 755 0 \n./etc/a 644 0 \n./etc/b 644 7 \n./opt 755 0 \n./opt/a 777 0 /etc/a\n./opt/set 4755 0 \n"
    "of the baseof the middle"
)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(World("t", tmp_path, IPv4Network("10.0.0.0/24"), rooted=True, ports={})) as booted:
        booted.mount()
        yield booted


@pytest.fixture
def cell(machine: Machine) -> Cell:
    return Cell(machine, BASE, MIDDLE, TOP)


def test_a_cached_image_is_there_without_a_pull_and_survives_the_garbage_collection(cell: Cell) -> None:
    decision, said = cell.seed()
    assert (decision.outcome, len(decision.chain)) == ("cached", 3), said
    assert cell.rootfs() == SEEN
    listed = cell.machine.ctr("images", "ls", "-q").split()
    assert {"registry.test/app:1", f"registry.test/app@{cell.top.digest}"} <= {*listed}
    assert cell.top.digest in cell.machine.ctr("images", "ls")
    # Removing an image makes containerd collect what nothing refers to.
    for name in listed:
        cell.machine.ctr("images", "rm", "--sync", name)
    assert cell.rootfs() == SEEN


def test_it_may_be_repeated(cell: Cell) -> None:
    assert [cell.seed()[0].outcome for _ in range(2)] == ["cached", "cached"]
    assert cell.rootfs() == SEEN
    mounted = cell.machine.run("grep -c ' /run/kip/layers/' /proc/self/mountinfo").stdout
    assert int(mounted) == 3


def test_a_machine_that_is_booted_anew_has_the_layers_again_before_they_are_used(cell: Cell) -> None:
    cell.seed()
    cell.machine.kill()
    cell.machine.boot()
    assert cell.snapshots() == {*cell.image.chain}
    cell.machine.mount()
    cell.machine.run("/var/lib/kip/layers")
    assert cell.rootfs() == SEEN


_NO_PYTHON = "#!/bin/bash\nexit 1\n"
# On the second of these steps whoever takes it kills the script: as the machine's out-of-memory killer may. Whose processes
# these are: nobody else is in this namespace.
_DIE = """others=
    for p in /proc/[0-9]*; do
        [ "$(<$p/comm)" != bash ] || [ ${p#/proc/} = $$ ] || others+=" ${p#/proc/}"
    done 2>/dev/null
    kill -KILL $others $$ 2>/dev/null"""
_COUNT = "echo >>/run/steps && [ $(wc -l </run/steps) = 2 ]"
_PROGRAM = """#!/bin/bash
if [[ "$*" == *"WHEN"* ]] && COUNT; then
    BEFORE
    DIE
fi
exec REAL "$@"
"""
_PYTHON = """#!/bin/bash
coproc REAL { exec REAL_PYTHON "$@"; }
while read -r line; do
    step= && [[ $line == WHEN* ]] && COUNT && step=it
    [ "$step WHEN" != "it prepare" ] || DIE
    echo "$line" >&${REAL[1]} && read -r -u ${REAL[0]} answer
    [ "$step" = "" ] || DIE
    echo "$answer"
done
"""


@pytest.mark.parametrize(
    ("at", "by"),
    [("prepare", "ctr"), ("commit", "ctr"), ("prepare", "python3"), ("commit", "python3"), ("bind", "mount")],
)
def test_whoever_dies_at_any_step_leaves_what_the_next_one_completes(cell: Cell, at: str, by: str) -> None:
    real = cell.machine.run(f"command -v {by}").stdout.decode().strip()
    when = {"ctr": f"snapshots {at}", "python3": at, "mount": "--bind"}[by]
    program = _PYTHON if by == "python3" else _PROGRAM
    for name, put in {
        "WHEN": when,
        "COUNT": _COUNT,
        "DIE": f"{{ {_DIE}; }}",
        "BEFORE": f'{real} "$@"' if at == "commit" else ":",
        "REAL_PYTHON": real,
        'REAL "$@"': f'{real} "$@"',
    }.items():
        program = program.replace(name, put)
    for name, text in {"python3": _NO_PYTHON, by: program}.items():
        if by == "mount" and name == "python3":
            continue
        cell.machine.run(
            f"mkdir -p /run/deadly && cat >/run/deadly/{name} && chmod +x /run/deadly/{name}", text.encode()
        )
    planned = cell.plan()
    said = cell.machine.script("seed", "5", "off", input=planned.orders(), path="/run/deadly")
    assert seeding.results(planned, said.decode())[0].outcome != "cached"
    decision, again = cell.seed()
    assert decision.outcome == "cached", again
    assert cell.rootfs() == SEEN


@pytest.mark.parametrize(
    "python",
    [
        _NO_PYTHON,
        "#!/bin/bash\nsleep 100\n",
        "#!/bin/bash\nread line; echo no; cat\n",
        "#!/bin/bash\nread line; echo nonsense\n",
    ],
    ids=["ends", "silent", "refuses", "nonsense"],
)
def test_without_python_or_with_one_that_fails_ctr_does_it_all(cell: Cell, python: str) -> None:
    script = script_of("seed").replace("read -rt 5 -u 6", "read -rt 0.5 -u 6")
    cell.machine.run(
        "mkdir -p /run/fakes && cat >/run/fakes/python3 && chmod +x /run/fakes/python3", python.encode()
    )
    planned = cell.plan()
    done = cell.machine.run(
        f"PATH=/run/fakes:$PATH; {shlex.join(('bash', '-c', script, 'seed', '10', 'off', ''))}",
        planned.orders(),
    )
    [decision] = seeding.results(planned, done.stdout.decode())
    assert decision.outcome == "cached", done.stdout
    assert cell.rootfs() == SEEN
    assert "kip-seed-" not in cell.machine.ctr("snapshots", "ls"), "nothing half-made is left"


def test_ctr_is_not_called_for_each_layer(cell: Cell) -> None:
    real = cell.machine.run("command -v ctr").stdout.decode().strip()
    cell.machine.run(
        "mkdir -p /run/fakes && cat >/run/fakes/ctr && chmod +x /run/fakes/ctr",
        f'#!/bin/bash\necho "$3 $4" >>/run/told\nexec {real} "$@"\n'.encode(),
    )
    planned = cell.plan()
    said = cell.machine.script("seed", "10", "off", input=planned.orders(), path="/run/fakes").decode()
    assert seeding.results(planned, said)[0].outcome == "cached", said
    told = cell.machine.run("cat /run/told").stdout.decode().split("\n")
    assert [*filter(None, told)] == ["snapshots list", "images import"]


def test_half_an_image_is_mounted_from_the_bottom_up_and_not_imported(cell: Cell) -> None:
    cell.layer_file(1).unlink()
    decision, said = cell.seed()
    assert (decision.outcome, decision.chain) == ("partly", cell.image.chain[:1]), said
    assert cell.rootfs(1) == SEEN_BASE
    assert cell.snapshots() == {cell.image.chain[0]}
    assert cell.machine.ctr("images", "ls", "-q") == ""


def test_a_truncated_layer_is_not_used(cell: Cell) -> None:
    path = cell.layer_file(1)
    with path.open("r+b") as layer:
        layer.truncate(path.stat().st_size - 4096)
    decision, _ = cell.seed()
    assert (decision.outcome, decision.chain) == ("partly", cell.image.chain[:1])
    assert "broken" in decision.message


def test_a_file_with_a_good_end_that_is_no_file_system_is_not_mounted_and_nothing_above_it(
    cell: Cell,
) -> None:
    path = cell.layer_file(1)
    with path.open("r+b") as layer:
        layer.write(b"\0" * 4096)
    decision, said = cell.seed()
    assert (decision.outcome, decision.chain) == ("partly", cell.image.chain[:1]), said
    assert cell.snapshots() == {cell.image.chain[0]}


def test_a_volume_that_does_not_answer_costs_no_more_than_the_time_given(cell: Cell) -> None:
    planned = cell.plan()
    control.shape(cell.machine.world, Shape(unreachable=True))
    begin = time.monotonic()
    assert cell.machine.script("look", "0.5", input=b"images/a\n") == b""
    decision, said = cell.seed(planned, timeout=0.5)
    assert time.monotonic() - begin < 8
    assert decision.outcome == "late", said
    # Once it answers, those who waited do no more: the pod may have been shown meanwhile.
    control.shape(cell.machine.world)
    cell.machine.eventually("flock --nonblock /run/kip/seed.lock true")
    assert cell.snapshots() == set()


def test_a_volume_that_is_not_mounted_costs_no_more_either(machine: Machine) -> None:
    machine.run("umount /run/kip/volume")
    assert machine.script("look", "0.3", input=b"images/a\n") == b""
    assert machine.run("ls /run/kip | grep -c look.", check=False).stdout == b"0\n"


def test_dm_verity_is_used_where_there_is_one(cell: Cell) -> None:
    """This kernel may have none; then the programs are replaced, and it is told what they were asked for."""
    cell.machine.run(
        "mkdir /run/fakes && cat >/run/fakes/dmsetup && chmod +x /run/fakes/dmsetup",
        input=b"""#!/bin/bash
echo "$*" >>/run/told
case $1 in
    targets) echo "verity           v1.10.0" ;;
    create)
        mkdir -p /dev/mapper
        ln -sf $(sed -E 's/.* verity 1 ([^ ]+) .*/\\1/' <<<"$*") "/dev/mapper/$2" ;;
esac
""",
    )
    planned = cell.plan()
    said = cell.machine.script("seed", "10", "auto", input=planned.orders(), path="/run/fakes").decode()
    assert said.count("verity ") == 3, said
    trailer = next(iter(planned.layers.values()))
    blocks = trailer.data_bytes // 4096
    told = cell.machine.run("cat /run/told").stdout.decode()
    assert f"4096 4096 {blocks} {blocks} sha256 {trailer.root_hash} {trailer.salt}" in told
    assert f"0 {trailer.data_bytes // 512} verity 1 /dev/loop" in told
    assert cell.rootfs() == SEEN
    cell.machine.run("rm /dev/mapper/kip-*")


def test_a_layer_that_an_image_has_twice_is_there_twice(machine: Machine) -> None:
    """overlayfs refuses to have one directory as two of its layers."""
    cell = Cell(machine, BASE, MIDDLE, TOP, MIDDLE)
    decision, said = cell.seed()
    assert decision.outcome == "cached", said
    assert cell.rootfs(4) == SEEN


def test_the_watch_tells_when_the_volume_goes_and_when_it_is_back(cell: Cell) -> None:
    away, back = (
        f"echo '{json.dumps({'unreachable': gone})}' >/run/kip-room/volume/shape.json"
        for gone in (True, False)
    )
    script = script_of("watch").replace("-rt 10 -u", "-rt 0.5 -u")
    done = cell.machine.run(
        f"{{ sleep 0.5; {away}; sleep 2; {back}; sleep 1; }} | bash -c {shlex.quote(script)} watch 0.1"
    )
    assert done.stdout == b"away\nback\n"
