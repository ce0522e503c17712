"""Images from the cache on real cells: the same as pulled ones, without a layer from the registry, and never in the way."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.images import RegistryLog, cache, push, verified
from support.manifests import Object, pod, secret
from support.operators import configuration
from support.trees import tree
from support.world import E2eWorld, condition
from tests.integration.imagecache.controllers import Running, start
from tests.integration.imagecache.controllers import configuration as controllers_configuration
from tests.unit.images.layers import directory, file, info, link, symlink, tar_of

from kip.imagecache.held import held
from kip.images import format as layout
from kip.images.format import Image
from kip.local.volume import control
from kip.local.volume.control import Shape
from kip.local.world import World

pytestmark = pytest.mark.e2e

ENDPOINT = "fs-0123abcd.efs.us-east-1.amazonaws.com:/"
# cap_net_bind_service+ep, as setcap writes it.
_CAPABILITY = "\1\0\0\2\0\4" + "\0" * 14
_CHARACTER_DEVICE, _FIFO = b"3", b"6"

#: Layers above that with busybox, by what is special about the image; lowest first.
IMAGES: dict[str, list[bytes]] = {
    "whiteouts": [
        tar_of(
            directory("a"), file("a/kept", b"1"), file("a/gone", b"2"), directory("b"), file("b/all", b"3")
        ),
        tar_of(directory("a"), file("a/.wh.gone"), file(".wh.b"), file("c", b"4")),
        tar_of(directory("b"), file("b/new", b"5")),
    ],
    "opaque": [
        tar_of(
            directory("d"), directory("d/e"), *(file(f"d/{n}", b"x") for n in range(5)), file("d/e/f", b"y")
        ),
        tar_of(directory("d"), file("d/.wh..wh..opq"), file("d/new", b"z"), directory("d/e")),
    ],
    "attributes": [
        tar_of(
            file("bin/serve", b"#!/bin/sh\n", mode=0o755, xattrs={"security.capability": _CAPABILITY}),
            file("a", b"1", xattrs={"user.note": "of the image", "user.empty": ""}),
            directory("b", xattrs={"user.on-directory": "1"}),
        )
    ],
    "owners": [
        tar_of(
            directory("home", uid=1000, gid=1000, mode=0o700),
            file("home/a", b"1", uid=1000, gid=100),
            file("setuid", b"2", mode=0o4755),
            file("setgid", b"3", mode=0o2755, gid=42),
            directory("shared", mode=0o3777, gid=2**31),
            file("huge-id", b"4", uid=3_000_000_000),
        )
    ],
    "links": [
        tar_of(
            file("one", b"the same"),
            link("two", "one"),
            directory("d"),
            link("d/three", "one"),
            symlink("absolute", "/d/three"),
            symlink("dangling", "nowhere"),
            symlink("d/up", "../one"),
        ),
        tar_of(file("new/in/directories/of-no-layer", b"1"), symlink("four", "one")),
    ],
    "odd": [
        tar_of(
            file("sparse", b"\0" * 3_000_000 + b"end" + b"\0" * 1_000_000),
            file("empty"),
            file("name with spaces and ü", b"1"),
            file("l" * 200, b"2"),
            info("device", _CHARACTER_DEVICE, devmajor=1, devminor=3),
            info("pipe", _FIFO),
        )
    ],
    "many": [tar_of(file(f"layer-{n}", str(n).encode()), file("last", str(n).encode())) for n in range(12)]
    + [tar_of(file("twice", b"1"))] * 2,
}


def name_of(kind: str) -> str:
    return f"images.test/{kind}:1"


def container(kind: str, **more: object) -> Object:
    return {"name": kind, "image": name_of(kind), "command": ["sleep", "infinity"], **more}


@pytest.fixture(scope="module", autouse=True)
def cached(world: E2eWorld) -> Iterator[None]:
    """The operator has an image cache for as long as these tests run."""
    before = world.operator.configured
    config = configuration(world.world)
    # Thirty layers of seven images at once take a busy machine longer than the usual three seconds.
    config["cells"]["imageCache"] = {"endpoint": ENDPOINT, "deadline": "12s"}
    world.operator.configure(config)
    world.operator.remove()
    world.operator.start()
    yield
    world.operator.remove()
    world.operator.configured = before
    world.operator.start()


@dataclass
class Controllers:
    """Image cache controllers of other virtual nodes than the world's, on its volume."""

    world: World
    work: Path
    started: list[Running] = field(default_factory=list)

    @property
    def volume(self) -> Path:
        return control.files(self.world)

    def start(self, **controller: str) -> Running:
        work = self.work / str(len(self.started))
        work.mkdir()
        config = controllers_configuration(self.world.url("registry"), node="kip-elsewhere-0", **controller)
        self.started.append(start(work, config, self.volume, self.world.operator_kubeconfig))
        return self.started[-1]

    def end(self, running: Running) -> None:
        assert asyncio.run(running.ended()) == 0, running.said()


@pytest.fixture
def controllers(world: E2eWorld, tmp_path: Path) -> Iterator[Controllers]:
    made = Controllers(world.world, tmp_path)
    yield made
    for running in made.started:
        running.kill()


@pytest.fixture(autouse=True)
def _volume(world: E2eWorld) -> Iterator[None]:
    yield
    control.shape(world.world)


@pytest.fixture(scope="module")
def images(world: E2eWorld) -> dict[str, str]:
    """Kind of image → digest in the registry; not in the cache yet. One of them is an index."""
    return {
        kind: push(world.world, name_of(kind), *layers, compress=kind != "odd", index=kind == "links")
        for kind, layers in IMAGES.items()
    }


def events(world: E2eWorld, namespace: str, pod_name: str) -> list[str]:
    return [
        f"{event['reason']}: {event['message']}"
        for event in world.events(namespace)
        if event["involvedObject"]["name"] == pod_name
    ]


def seeded(world: E2eWorld, namespace: str, pod_name: str) -> tuple[str, str]:
    """Reason and message of the Cell's condition."""
    cell = world.cell_of(pod_name, namespace)
    assert cell
    [found] = [each for each in cell["status"]["conditions"] if each["type"] == "Seeded"]
    return found["reason"], found["message"]


def image_ids(found: Object) -> dict[str, str]:
    return {each["name"]: each["imageID"] for each in found["status"]["containerStatuses"]}


def address(world: E2eWorld, namespace: str, pod_name: str) -> str:
    cell = world.cell_of(pod_name, namespace)
    assert cell
    return str(cell["status"]["ip"])


def test_cached_images_are_the_same_as_pulled_ones_file_by_file(
    world: E2eWorld, namespace: str, images: dict[str, str]
) -> None:
    containers = [container(kind) for kind in IMAGES]
    [pulled] = world.run(pod("pulled", namespace, *containers))
    assert seeded(world, namespace, "pulled")[0] == "NotCached"
    described = {kind: cache(world.world, name_of(kind)) for kind in IMAGES}

    log = RegistryLog(world.world)
    [again] = world.run(pod("cached", namespace, *containers))
    asked = [each for kind in IMAGES for each in log.requests(address(world, namespace, "cached"), kind)]
    assert asked == [], "the registry was asked by the cell"
    assert seeded(world, namespace, "cached")[0] == "Cached"
    told = [line for line in events(world, namespace, "cached") if line.startswith("ImagesSeeded: ")]
    assert len(told) == 1
    assert f"{name_of('many')}: all 15 layers from the cache" in told[0]

    assert image_ids(again) == image_ids(pulled)
    assert all(images[kind] in image_id for kind, image_id in image_ids(again).items())
    for kind, image in described.items():
        trees = [
            tree(world, world.instance_of(name, namespace), image.chain) for name in ("pulled", "cached")
        ]
        assert trees[1] == trees[0], kind
        assert "bin/busybox" in trees[0]
    assert world.exec("cached", namespace, "cat", "/a/kept", container="whiteouts") == "1"
    cell = world.cell_of("cached", namespace)
    assert cell
    assert set(cell["status"]["cachedImages"]) == {image.digest for image in described.values()}
    assert held([cell]) == dict.fromkeys(cell["status"]["cachedImages"], cell["metadata"]["name"])
    assert world.operator.metric("kip_image_cache_seeded_total", outcome="cached") >= len(IMAGES)


@pytest.fixture(scope="module")
def ready(world: E2eWorld) -> Image:
    """One image that is in the cache: `ready`, whose file /big is read by nobody before a test does."""
    push(world.world, name_of("ready"), tar_of(file("big", os.urandom(1 << 20))), tar_of(file("top", b"1")))
    return cache(world.world, name_of("ready"))


def test_the_pull_policy_keeps_its_meaning(world: E2eWorld, namespace: str, ready: Image) -> None:
    log = RegistryLog(world.world)
    world.run(
        pod(
            "policies",
            namespace,
            container("ready", imagePullPolicy="IfNotPresent"),
            initContainers=[{"name": "init", "image": name_of("ready"), "command": ["true"]}],
        ),
        pod("always", namespace, container("ready", imagePullPolicy="Always")),
    )
    assert log.requests(address(world, namespace, "policies"), "ready") == []
    asked = log.requests(address(world, namespace, "always"), "ready")
    assert [(each.method, each.path.partition("?")[0]) for each in asked] == [
        ("HEAD", "/v2/ready/manifests/1")
    ]


def test_a_private_image_is_for_pods_that_may_pull_it(world: E2eWorld, namespace: str) -> None:
    name = "private.test/team/app:1"
    accounts = world.world.state / "registry/accounts.json"
    accounts.write_text(json.dumps({"private.test/team": {"username": "ann", "password": "geheim"}}))
    try:
        push(world.world, name, tar_of(file("secret", b"of the team")))
        cache(world.world, name, ("ann", "geheim"))
        login = base64.b64encode(b"ann:geheim").decode()
        logins = secret(
            "logins",
            namespace,
            **{".dockerconfigjson": json.dumps({"auths": {"private.test": {"auth": login}}})},
        )
        world.apply({**logins, "type": "kubernetes.io/dockerconfigjson"})
        main = {"name": "main", "image": name, "command": ["sleep", "infinity"]}
        world.apply(pod("other", namespace, main))
        world.run(pod("team", namespace, main, imagePullSecrets=[{"name": "logins"}]))
        assert seeded(world, namespace, "team")[0] == "Cached"
        assert world.exec("team", namespace, "cat", "/secret") == "of the team"
        world.eventually(
            lambda: any("Failed to pull" in line for line in events(world, namespace, "other")),
            60,
            "the pod without a login is refused",
            namespace,
        )
        assert seeded(world, namespace, "other")[0] == "AccessNotGranted"
        cell = world.cell_of("other", namespace)
        assert cell
        assert cell["status"].get("cachedImages") == []
    finally:
        accounts.unlink()


def test_a_tag_that_has_moved_is_run_as_it_is_now(world: E2eWorld, namespace: str) -> None:
    common = tar_of(file("common", b"1" * 100_000))
    push(world.world, name_of("moving"), common, tar_of(file("version", b"1")))
    cache(world.world, name_of("moving"))
    push(world.world, name_of("moving"), common, tar_of(file("version", b"2")))
    log = RegistryLog(world.world)
    world.run(pod("moved", namespace, container("moving")))
    assert world.exec("moved", namespace, "cat", "/version") == "2"
    reason, message = seeded(world, namespace, "moved")
    assert reason == "PartlyCached"
    assert "2 of 3 layers from the cache" in message
    asked = log.requests(address(world, namespace, "moved"), "moving")
    assert len([each for each in asked if each.is_layer]) == 2, (
        "the configuration and the one layer that is new"
    )


# Faults.


def test_a_volume_that_cannot_be_reached_at_boot_costs_the_deadline(
    world: E2eWorld, namespace: str, ready: Image
) -> None:
    control.shape(world.world, Shape(unreachable=True))
    world.run(pod("without", namespace, container("ready")))
    reason, message = seeded(world, namespace, "without")
    assert reason == "DeadlinePassed"
    assert any(line.startswith("ImageCacheNotUsed: ") for line in events(world, namespace, "without"))
    assert "not done after" in message


@pytest.mark.parametrize("fault", ["truncated", "zeroed"])
def test_a_damaged_layer_is_told_of_and_pulled(world: E2eWorld, namespace: str, fault: str) -> None:
    push(world.world, name_of(fault), tar_of(file("a", fault.encode() * 3000)), tar_of(file("b", b"2")))
    image = cache(world.world, name_of(fault))
    path = control.files(world.world) / layout.layer_path(image.layers[1].file_id)
    with path.open("r+b") as layer:
        if fault == "truncated":
            layer.truncate(path.stat().st_size // 2)
        else:
            layer.write(b"\0" * 4096)  # its end is as it should be
    world.run(pod("damaged", namespace, container(fault)))
    assert world.exec("damaged", namespace, "cat", "/a") == fault * 3000
    reason, message = seeded(world, namespace, "damaged")
    assert reason == "PartlyCached"
    assert "1 of 3 layers from the cache" in message
    assert "broken" in message if fault == "truncated" else "then: " in message


def test_a_pod_is_told_that_its_volume_went_away_and_goes_on_when_it_is_back(
    world: E2eWorld, namespace: str, ready: Image
) -> None:
    world.run(pod("reader", namespace, container("ready")))
    world.exec("reader", namespace, "true")
    control.shape(world.world, Shape(unreachable=True))
    world.eventually(
        lambda: any("ImageCacheAway" in line for line in events(world, namespace, "reader")),
        60,
        "the pod is told that the volume does not answer",
        namespace,
    )
    control.shape(world.world)
    world.eventually(
        lambda: any("ImageCacheBack" in line for line in events(world, namespace, "reader")),
        30,
        "the pod is told that it answers again",
        namespace,
    )
    assert len(world.exec("reader", namespace, "md5sum", "/big").split()) == 2
    assert condition(world.existing("pods", "reader", namespace), "Ready") == "True"


def test_layers_are_mounted_again_before_the_kubelet_of_a_rebooted_machine_starts(
    world: E2eWorld, namespace: str, ready: Image
) -> None:
    world.run(pod("rebooted", namespace, container("ready")))
    instance = world.instance_of("rebooted", namespace)
    count = "grep -c -e ' /run/kip/layers/' -e '/snapshots/[0-9]*/fs ' /proc/self/mountinfo"
    before = world.on_cell(instance, count).stdout
    # As far as mounts are concerned.
    world.on_cell(
        instance,
        "systemctl stop kubelet kip-volume;"
        " grep -oE ' /(run/kip/(layers|volume)[^ ]*|var/lib/containerd/[^ ]*/fs) ' /proc/self/mountinfo"
        " | tac | xargs -n 1 umount --lazy",
    )
    assert world.on_cell(instance, count, check=False).stdout == "0\n"
    world.on_cell(instance, "systemctl start kubelet")
    assert world.on_cell(instance, count).stdout == before


def test_nothing_of_a_machine_is_left_on_the_host(world: E2eWorld, ready: Image) -> None:
    """Its loop devices are the host's; they go with it, after however it ended."""
    known = [control.files(world.world) / layout.layer_path(each.file_id) for each in ready.layers]
    with world.fresh_namespace("cache-end") as namespace:
        world.run(pod("short", namespace, container("ready")))
        instance = world.instance_of("short", namespace)
        listed = world.on_cell(instance, "losetup --noheadings --list --output BACK-FILE").stdout
        assert [listed.count(path.name) for path in known] == [1, 1, 1]
        before = time.monotonic()
    assert all(path.exists() for path in known)
    left = os.popen("losetup --noheadings --list --output BACK-FILE").read()
    assert not [path for path in known if path.name in left], time.monotonic() - before


# What the controller takes away.


def test_what_a_cell_has_or_is_about_to_get_is_not_evicted(
    world: E2eWorld, namespace: str, controllers: Controllers
) -> None:
    """By a controller that sees to other virtual nodes' pods: of ours it knows what the Cells say, and nothing else."""
    damaged = {*verified(world.world).findings}  # by the tests before
    unread, content = os.urandom(4 << 20), os.urandom(1 << 20)
    layers = {"kept": unread, "begun": content, "late": os.urandom(1 << 20), "gone": os.urandom(104 << 20)}
    images: dict[str, Image] = {}
    for age, (kind, inside) in enumerate(layers.items()):
        push(world.world, name_of(kind), tar_of(file("content", inside)), compress=False)
        images[kind] = cache(world.world, name_of(kind))
        # The first ones would go first, and with the last one all is below the limit again.
        used = time.time() - 3600 + age
        os.utime(controllers.volume / layout.image_path(images[kind].digest), (used, used))

    def is_there(*kinds: str) -> list[bool]:
        return [(controllers.volume / layout.image_path(images[kind].digest)).exists() for kind in kinds]

    def own_layer(kind: str) -> bool:
        return (controllers.volume / layout.layer_path(images[kind].layers[-1].file_id)).exists()

    def has_said() -> bool:
        cell = world.cell_of("begun", namespace)
        return bool(cell) and images["begun"].digest in cell["status"].get("cachedImages", ())

    world.run(pod("kept", namespace, container("kept")), pod("gone", namespace, container("gone")))
    assert [seeded(world, namespace, name)[0] for name in ("kept", "gone")] == ["Cached", "Cached"]
    world.kubectl("delete", "pod", "gone", "-n", namespace, "--grace-period=1", "--wait=false")
    world.eventually(lambda: not world.cell_of("gone", namespace), 60, "the cell is gone", namespace)

    control.shape(world.world, Shape(latency_ms=50))
    world.apply(pod("begun", namespace, container("begun")))
    world.eventually(has_said, 60, "the cell has said what it will get", namespace)
    # There it stops, between two calls, and the next cell before its first one, until the eviction is over.
    control.shape(world.world, Shape(unreachable=True))
    world.apply(pod("late", namespace, container("late")))
    first = controllers.start(maxSize="100Mi")
    world.eventually(lambda: is_there("late", "gone") == [False, False], 30, "images are evicted", namespace)
    assert is_there("kept", "begun") == [True, True], first.said()
    control.shape(world.world)
    for name in ("begun", "late"):
        world.ready(name, namespace)
    assert seeded(world, namespace, "begun")[0] in ("Cached", "PartlyCached", "DeadlinePassed")
    assert seeded(world, namespace, "late")[0] in ("NotCached", "DeadlinePassed")

    controllers.end(first)
    for path in controllers.volume.glob(f"{layout.LAYERS}/*/*/*.squashfs"):
        os.utime(path, (1, 1))  # as if every time of grace had passed
    second = controllers.start(maxSize="100Mi")
    world.eventually(
        lambda: not own_layer("gone") and not own_layer("late"), 30, "their layers are deleted", namespace
    )
    controllers.end(second)
    assert own_layer("kept")
    assert own_layer("begun")
    for kind in ("kept", "begun", "late"):
        said = world.exec(kind, namespace, "md5sum", "/content").split()[0]
        assert said == hashlib.md5(layers[kind]).hexdigest(), kind
    assert {*verified(world.world).findings} <= damaged
