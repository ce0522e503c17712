"""The bundled instance catalogue."""

from __future__ import annotations

from kip.cloud import catalogue
from kip.model.instance_type import InstanceType


def by_name(region: str = "us-east-1") -> dict[str, InstanceType]:
    return {kind.name: kind for kind in catalogue.load(region)}


def test_known_types_are_as_aws_documents_them() -> None:
    kinds = by_name()
    micro, graviton, gpu = kinds["t3.micro"], kinds["m7g.large"], kinds["g5.xlarge"]

    assert (micro.vcpus, micro.memory_mib, micro.architecture) == (2, 1024, "amd64")
    assert micro.burstable
    assert (micro.max_enis, micro.max_ipv4_per_eni) == (2, 2)
    assert micro.usd_per_hour == 0.0104
    assert graviton.architecture == "arm64"
    assert graviton.ec2_architecture == "arm64"
    assert micro.ec2_architecture == "x86_64"
    assert (gpu.gpus, gpu.gpu_name, gpu.gpu_manufacturer) == (1, "A10G", "NVIDIA")
    assert kinds["p4d.24xlarge"].gpus == 8
    assert kinds["m5.metal"].bare_metal
    assert (gpu.family, gpu.size) == ("g5", "xlarge")


def test_a_part_of_a_gpu_is_a_gpu() -> None:
    part = by_name()["g6f.xlarge"]
    assert part.gpus == 1
    assert 0 < part.gpu_memory_mib < by_name()["g6.xlarge"].gpu_memory_mib


def test_every_type_can_be_reasoned_about() -> None:
    kinds = catalogue.load("us-east-1")
    assert len(kinds) > 1000
    assert [kind.name for kind in kinds] == sorted({kind.name for kind in kinds})
    for kind in kinds:
        assert kind.vcpus > 0
        assert kind.memory_mib > 0
        assert kind.architecture in ("amd64", "arm64")
        assert kind.max_ipv4_per_eni >= 2
        assert kind.usd_per_hour is None or kind.usd_per_hour > 0
        assert bool(kind.gpus) == bool(kind.gpu_name)


def test_macs_are_no_cells() -> None:
    assert not [name for name in by_name() if name.startswith("mac")]


def test_regions_differ_in_types_and_prices() -> None:
    virginia, cape_town = by_name("us-east-1"), by_name("af-south-1")
    assert len(cape_town) < len(virginia)
    assert cape_town["c5.large"].usd_per_hour != virginia["c5.large"].usd_per_hour


def test_an_unknown_price_is_unknown() -> None:
    assert None in {kind.usd_per_hour for kind in catalogue.load("eu-west-1")}


def test_a_region_that_is_newer_than_we_are_has_every_type_without_prices() -> None:
    kinds = catalogue.load("xx-moon-1")
    assert len(kinds) >= len(catalogue.load("us-east-1"))
    assert {kind.usd_per_hour for kind in kinds} == {None}
