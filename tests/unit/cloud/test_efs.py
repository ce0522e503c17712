"""EFS in our words; what every cloud promises about it is in the contract suite."""

from __future__ import annotations

from typing import Any

import pytest

from kip.cloud.efs import Efs, dns_name, lifecycle_rule
from kip.cloud.errors import CloudError, NotAuthorized, NotFound, from_code


class Sdk:
    """A file system with one mount target, which answers to the question for its groups as it is told."""

    def __init__(self, groups: CloudError | list[str]) -> None:
        self._groups = groups

    async def describe_mount_targets(self, file_system_id: str) -> list[dict[str, Any]]:
        target = {"MountTargetId": "fsmt-1", "FileSystemId": file_system_id, "SubnetId": "subnet-1"}
        return [{**target, "LifeCycleState": "creating"}]

    async def describe_mount_target_security_groups(self, mount_target_id: str) -> list[str]:
        if isinstance(self._groups, CloudError):
            raise self._groups
        return self._groups


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (["sg-1"], ("sg-1",)),
        (from_code("", "IncorrectMountTargetState", "creating"), None),
        (NotFound("gone"), None),
    ],
)
async def test_groups_that_are_not_told_yet_are_not_known(groups: Any, expected: object) -> None:
    efs: Any = Efs(Sdk(groups))  # type: ignore[arg-type]
    (target,) = await efs.mount_targets("fs-1")
    assert target.security_group_ids == expected


async def test_what_else_goes_wrong_at_that_is_told() -> None:
    efs: Any = Efs(Sdk(NotAuthorized("no")))  # type: ignore[arg-type]
    with pytest.raises(NotAuthorized):
        await efs.mount_targets("fs-1")


@pytest.mark.parametrize(("days", "expected"), [(1, "AFTER_1_DAY"), (30, "AFTER_30_DAYS")])
def test_days_have_names(days: int, expected: str) -> None:
    assert lifecycle_rule(days) == expected


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ("us-west-2", "fs-1.efs.us-west-2.amazonaws.com"),
        ("cn-north-1", "fs-1.efs.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_a_file_system_has_a_name_in_its_regions_domain(region: str, expected: str) -> None:
    assert dns_name("fs-1", region) == expected
