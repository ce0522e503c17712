"""The memory and processors that a machine is shown."""

from __future__ import annotations

import pytest

from kip.local.room.hardware import Hardware


def test_processor_time_is_the_types_and_at_most_the_hosts():
    assert Hardware(1, 512).cpu_quota_us(available=4) == 100_000
    assert Hardware(96, 512).cpu_quota_us(available=4) == 400_000


def test_memory_is_what_a_kernel_would_show_of_it():
    lines = Hardware(2, 8192).meminfo().splitlines()
    total = next(int(line.split()[1]) for line in lines if line.startswith("MemTotal:"))
    assert 0.95 * 8192 * 1024 < total < 8192 * 1024


@pytest.mark.parametrize(("vcpus", "nodes"), [(1, [[0]]), (2, [[0, 3]]), (5, [[0, 3], [0, 3], [0]])])
def test_processors_add_up_while_each_is_one_of_the_host(vcpus, nodes):
    assert Hardware(vcpus, 512).nodes([0, 3]) == nodes


def test_each_node_has_what_cadvisor_reads(tmp_path):
    Hardware(3, 1024).write_nodes(tmp_path / "node", [0, 1])
    read = {
        str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()
    }
    assert read["node/online"] == "0-1\n"
    assert read["node/node0/cpu1/topology/core_id"] == "0\n"
    assert read["node/node1/cpu0/topology/physical_package_id"] == "1\n"
    assert read["node/node1/distance"] == "20 10\n"
    assert (tmp_path / "node/node0/hugepages").is_dir()
    assert "node/node1/cpu1/topology/core_id" not in read


def test_a_machine_has_huge_pages_of_its_own(tmp_path):
    Hardware(1, 1024).write_huge_pages(tmp_path / "hugepages")
    found = {path.parent.name: path.read_text() for path in tmp_path.glob("hugepages/*/nr_hugepages")}
    assert found == {"hugepages-2048kB": "0\n", "hugepages-1048576kB": "0\n"}
