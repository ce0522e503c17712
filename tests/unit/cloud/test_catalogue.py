"""The bundled instance catalogue."""

from __future__ import annotations

from datetime import date
from pathlib import Path

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
    assert part.gpu_fraction
    assert not by_name()["g6.xlarge"].gpu_fraction
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


def test_every_type_of_all_regions_together() -> None:
    kinds = catalogue.everything()
    assert len(kinds) >= 1390
    assert {kind.usd_per_hour for kind in kinds} == {None}
    assert {kind.name.partition(".")[0] for kind in kinds if not kind.linux} >= {"mac1", "mac2"}
    assert all(kind.bare_metal for kind in kinds if not kind.linux)


def test_what_else_is_known_of_a_type() -> None:
    kinds = by_name()
    storage, old, chip = kinds["i4i.large"], kinds["d2.xlarge"], kinds["inf1.xlarge"]
    assert (storage.local_disks, storage.local_disk_gb, storage.local_disk_kind) == (1, 468, "nvme")
    assert (old.local_disks, old.local_disk_kind, old.ebs_nvme) == (3, "hdd", False)
    assert (storage.max_ebs_volumes, storage.ebs_baseline_mbps, storage.ebs_baseline_iops) == (26, 625, 2500)
    assert (storage.hypervisor, old.hypervisor, kinds["m5.metal"].hypervisor) == ("nitro", "xen", "")
    assert (chip.accelerator, kinds["g5.xlarge"].accelerator) == ("Inferentia", "")
    assert storage.dedicated_hosts
    assert not kinds["g6f.large"].dedicated_hosts


def test_burstable_types_have_a_baseline_where_aws_publishes_it() -> None:
    burstable = [kind for kind in catalogue.everything() if kind.burstable]
    assert {kind.family for kind in burstable if kind.baseline_per_mille is None} <= {"t1", "t8i"}
    assert by_name()["t3.small"].baseline_per_mille == 200.0
    assert not [k for k in catalogue.everything() if k.baseline_per_mille is not None and not k.burstable]


def test_zones_are_known_by_their_ids() -> None:
    kinds = catalogue.load("us-east-1")
    by_zone = catalogue.offered_by_zone(
        kinds, {"us-east-1a": "use1-az3", "us-east-1b": "use1-az4", "c": "use9-az9"}
    )
    assert set(by_zone) == {"us-east-1a", "us-east-1b"}
    assert "m7i.large" in by_zone["us-east-1b"]
    assert "m7i.large" not in by_zone["us-east-1a"]
    assert len(by_zone["us-east-1a"]) < len(by_zone["us-east-1b"]) / 5


def test_zones_that_are_not_known_exclude_nothing() -> None:
    gov = catalogue.load("us-gov-west-1")
    assert {kind.zone_ids for kind in gov} == {None}
    assert catalogue.offered_by_zone(gov, {"us-gov-west-1a": "usgw1-az1"}) == {}


def test_regions_and_the_day_of_their_prices() -> None:
    assert len(catalogue.regions()) >= 30
    assert catalogue.prices_as_of("us-east-1") == date(2026, 7, 20)
    assert catalogue.prices_as_of("xx-moon-1") is None
    assert catalogue.usual_zones("eu-west-1") == ("eu-west-1a", "eu-west-1b", "eu-west-1c")
    assert catalogue.usual_zones("xx-moon-1") == ()


def test_what_is_bundled_is_small(project: Path) -> None:
    data = project / "operator" / "cloud" / "data"
    assert sum(path.stat().st_size for path in data.iterdir()) < 200_000


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
