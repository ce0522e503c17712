"""Which quota a machine counts against."""

from __future__ import annotations

import pytest

from kip.doctor.quotas import quota_of, vcpus


@pytest.mark.parametrize(
    ("kind", "lifecycle", "code"),
    [
        ("t3.small", None, "L-1216C47A"),
        ("c7gn.large", None, "L-1216C47A"),
        ("im4gn.large", None, "L-1216C47A"),
        ("m7i.large", "spot", "L-34B43A08"),
        ("g5.xlarge", None, "L-DB2E81BA"),
        ("gr6.4xlarge", None, "L-DB2E81BA"),
        ("g5.xlarge", "spot", None),
        ("hpc7a.12xlarge", None, None),
        ("mac2.metal", None, None),
        ("inf2.xlarge", None, None),
        ("trn1.2xlarge", None, None),
        ("dl1.24xlarge", None, None),
        ("p4d.24xlarge", None, None),
        ("x2gd.medium", None, None),
    ],
)
def test_by_its_family_and_market(kind: str, lifecycle: str | None, code: str | None) -> None:
    instance = {"InstanceType": kind, **({"InstanceLifecycle": lifecycle} if lifecycle else {})}
    assert quota_of(instance) == code


def test_vcpus_are_threads() -> None:
    assert vcpus({"CpuOptions": {"CoreCount": 4, "ThreadsPerCore": 2}}) == 8
    assert vcpus({"InstanceType": "t3.small"}) == 2
    assert vcpus({"InstanceType": "z9.huge"}) == 0
