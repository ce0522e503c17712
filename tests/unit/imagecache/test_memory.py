"""What conversions may use, by the limit that the controller has."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kip.config import ImageCacheController
from kip.imagecache.memory import (
    LEAST_MEMORY,
    LEAST_NAMES,
    MIB,
    NAMES,
    PROCESS,
    Share,
    limit_of,
    needed_bytes,
    share,
)
from kip.images.mksquashfs import Limits
from kip.model.quantity import whole


def of(limit: str | int | None, *, parallel: int = 2, processors: int = 1, memory: str = "256Mi") -> Share:
    limit_bytes = None if limit is None else whole(limit)
    return share(limit_bytes, parallel=parallel, processors=processors, memory_bytes=whole(memory))


def test_without_a_limit_it_is_as_configured() -> None:
    assert of(None, parallel=9, memory="1Gi") == Share(9, Limits(1, 1024), "there is no limit of memory")


def test_with_enough_it_is_as_configured_and_the_rest_is_for_names() -> None:
    found = of("2Gi")
    assert (found.parallel, found.limits.memory_mib, found.short) == (2, 256, False)
    assert found.limits.names_bytes > 100 * MIB, "300 000 files in each of them"
    assert of("64Gi").limits.names_bytes == Limits().names_bytes


def test_first_each_gets_less_then_there_are_fewer() -> None:
    less = of("1200Mi")
    assert less.parallel == 2
    assert LEAST_MEMORY <= less.limits.memory_mib < 256
    fewer = of("800Mi")
    assert (fewer.parallel, fewer.limits.memory_mib) == (1, 214)
    assert fewer.reason == "what is configured needs 1.4Gi of memory, and the limit is 800Mi"
    assert fewer.short


def test_too_little_for_one_is_said() -> None:
    found = of("500Mi")
    assert (found.parallel, found.limits) == (1, Limits(1, LEAST_MEMORY, LEAST_NAMES * MIB))
    assert found.short
    assert found.reason.startswith("a conversion needs 634Mi of memory, and the limit is 500Mi: ")


@pytest.mark.parametrize("parallel", [1, 2, 7])
@pytest.mark.parametrize("processors", [1, 8])
@pytest.mark.parametrize("memory", [64, 256, 1000])
def test_what_is_said_to_be_needed_is_enough_and_no_less_is(
    parallel: int, processors: int, memory: int
) -> None:
    needed = needed_bytes(parallel, processors, memory)

    def is_short(limit_bytes: int) -> bool:
        return share(limit_bytes, parallel=parallel, processors=processors, memory_bytes=memory * MIB).short

    assert not is_short(needed)
    assert is_short(needed - 16 * MIB)


@pytest.mark.parametrize("limit_mib", range(700, 4000, 370))
def test_all_together_is_within_the_limit(limit_mib: int) -> None:
    found = of(limit_mib * MIB, parallel=5, processors=2)
    each = 178 + found.limits.memory_mib + NAMES * found.limits.names_bytes / MIB
    assert PROCESS + found.parallel * each <= 0.9 * limit_mib


def test_the_deployments_give_what_the_defaults_need(project: Path) -> None:
    values = yaml.safe_load((project / "charts/kip/values.yaml").read_text())
    deployment = yaml.safe_load((project / "deploy/kustomize/image-cache/deployment.yaml").read_text())
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == values["imageCache"]["resources"]
    options = ImageCacheController()
    found = share(
        whole(container["resources"]["limits"]["memory"]),
        parallel=options.parallel,
        processors=options.processors,
        memory_bytes=options.memory,
    )
    assert not found.short, found.reason
    assert (found.parallel, found.limits.memory_mib * MIB) == (options.parallel, options.memory)


# What the kernel says.


def group(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(f"{text}\n")


def test_a_container_s_own_limit(tmp_path: Path) -> None:
    group(tmp_path, "memory.max", "2147483648")
    assert limit_of("0::/\n", tmp_path) == 2 << 30


def test_the_smallest_of_those_above_counts(tmp_path: Path) -> None:
    group(tmp_path, "kubepods/pod1/memory.max", "1000")
    group(tmp_path, "kubepods/pod1/main/memory.max", "max")
    group(tmp_path, "kubepods/memory.max", "5000")
    assert limit_of("0::/kubepods/pod1/main\n", tmp_path) == 1000


def test_the_first_version_of_cgroups(tmp_path: Path) -> None:
    """A container sees the path that its own has outside, and its own where all begin."""
    group(tmp_path, "memory/memory.limit_in_bytes", "2000")
    cgroups = "5:memory:/kubepods/pod1/main\n4:cpu,cpuacct:/kubepods\n0::/system.slice\n"
    assert limit_of(cgroups, tmp_path) == 2000


@pytest.mark.parametrize("text", ["max", "9223372036854771712"])
def test_no_limit(tmp_path: Path, text: str) -> None:
    group(tmp_path, "memory.max", text)
    assert limit_of("0::/\n", tmp_path) is None
    assert limit_of("", tmp_path) is None


def test_this_process_has_one_or_none() -> None:
    found = limit_of(Path("/proc/self/cgroup").read_text())
    assert found is None or found > 64 * MIB
