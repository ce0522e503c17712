"""What a machine keeps for itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kip.model.quantity import GIB, MIB
from kip.model.reserve import is_memory_of, kube_cpu_millis, kube_memory_bytes, reserve, volume_bytes


# nodeadm's own numbers: 6 % of the first core, 1 % of the second, 0.5 % of two more, 0.25 % of the rest.
@pytest.mark.parametrize(
    ("vcpus", "millis"), [(1, 60), (2, 70), (4, 80), (8, 90), (16, 110), (96, 310), (0, 0)]
)
def test_cpu(vcpus: int, millis: int) -> None:
    assert kube_cpu_millis(vcpus) == millis


def test_an_m7i_large_as_karpenter_documents_it() -> None:
    """Allocatable 1,930m and 6,903 Mi with the 29 pods that its interfaces allow."""
    kept = reserve(vcpus=2, memory_mib=8192, architecture="amd64")
    with_29_pods = kept.memory_bytes - kube_memory_bytes() + kube_memory_bytes(29)
    assert 2000 - kept.cpu_millis == 1930
    assert 8192 - with_29_pods // MIB in (6903, 6904)


def test_a_cell_keeps_less_than_a_node_of_many_pods() -> None:
    assert kube_memory_bytes() == 343 * MIB
    assert kube_memory_bytes(29) - kube_memory_bytes() == 231 * MIB


def test_arm64_kernels_keep_some_more() -> None:
    amd64 = reserve(vcpus=2, memory_mib=4096, architecture="amd64")
    arm64 = reserve(vcpus=2, memory_mib=4096, architecture="arm64")
    assert amd64.vm_memory_bytes == -(-4096 * MIB * 75 // 1000)
    assert arm64.vm_memory_bytes == 64 * MIB - (-4032 * MIB * 75 // 1000)


@pytest.mark.parametrize(
    ("advertised_mib", "seen_mib"), [(512, 420), (8192, 7600), (8192, 8192), (2**20, 10**6)]
)
def test_memory_that_a_machine_can_have(advertised_mib: int, seen_mib: int) -> None:
    assert is_memory_of(advertised_mib * MIB, seen_mib * MIB)


@pytest.mark.parametrize(("advertised_mib", "seen_mib"), [(512, 300), (8192, 7000), (8192, 8193), (8192, 0)])
def test_memory_that_no_such_machine_has(advertised_mib: int, seen_mib: int) -> None:
    assert not is_memory_of(advertised_mib * MIB, seen_mib * MIB)


def test_disk() -> None:
    assert volume_bytes(8 * GIB) == 10 * GIB


@given(st.integers(1, 1000), st.integers(512, 2**25), st.sampled_from(["amd64", "arm64"]))
def test_larger_machines_leave_more(vcpus: int, memory_mib: int, architecture: str) -> None:
    def left(vcpus: int, memory_mib: int) -> tuple[int, int]:
        kept = reserve(vcpus=vcpus, memory_mib=memory_mib, architecture=architecture)
        return vcpus * 1000 - kept.cpu_millis, memory_mib * MIB - kept.memory_bytes

    cpu, memory = left(vcpus, memory_mib)
    more_cpu, more_memory = left(vcpus + 1, memory_mib + 1)
    assert cpu < more_cpu
    assert memory < more_memory
