"""What every cloud promises about file systems, their mount targets, and who may reach them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from kip.cloud.efs import FileSystem, MountTarget, NewFileSystem
from kip.cloud.errors import CloudError, InvalidRequest, NotAuthorized, NotFound, QuotaExceeded, Unreachable
from kip.cloud.nfsgroup import NfsGroup, image_cache_tags, nfs_group_name
from kip.model import names

Cloud = Any

# Long enough to be seen before it is over.
SHORT_S = 1.0

_numbers = itertools.count()


@pytest.fixture
async def cluster(cloud: Cloud) -> AsyncIterator[str]:
    """A cluster of this test's own, of which nothing is left."""
    name = f"efs-{next(_numbers)}"
    yield name
    cloud.troubles.set_efs_delay(0)
    for system in await systems_of(cloud, name):
        await remove(cloud, system)
    for group in await cloud.nfs.tagged_groups(name):
        await cloud.network.delete_security_group(group.id)


def wanted(cluster: str, **changes: Any) -> NewFileSystem:
    given = {"token": f"token-{cluster}", "tags": image_cache_tags(cluster, f"kip-{cluster}-efs")}
    return NewFileSystem(**{**given, **changes})


async def systems_of(cloud: Cloud, cluster: str) -> list[FileSystem]:
    return [one for one in await cloud.efs.file_systems() if one.tags.get(names.TAG_CLUSTER) == cluster]


async def made(cloud: Cloud, cluster: str) -> tuple[FileSystem, NfsGroup, MountTarget, str]:
    """A file system, the group of its mount targets, a mount target and the cells' group."""
    subnet, cells = await cloud.place()
    group = await cloud.nfs.create_nfs_group(cluster, subnet.vpc_id)
    system = await cloud.efs.create_file_system(wanted(cluster))
    target = await cloud.efs.create_mount_target(system.id, subnet.id, [group.id])
    return system, group, target, cells


async def until(holds: Callable[[], Awaitable[object]], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.02)


async def remove(cloud: Cloud, system: FileSystem) -> None:
    for target in await cloud.efs.mount_targets(system.id):
        await cloud.efs.delete_mount_target(target.id)

    async def unmounted() -> bool:
        return not await cloud.efs.mount_targets(system.id)

    await until(unmounted)
    await cloud.efs.delete_file_system(system.id)


async def test_a_file_system_is_as_asked_for(cloud: Cloud, cluster: str) -> None:
    system = await cloud.efs.create_file_system(wanted(cluster, throughput="bursting"))
    (found,) = await systems_of(cloud, cluster)
    assert found.id == system.id
    assert (found.state, found.encrypted, found.throughput) == ("available", True, "bursting")
    assert found.name == f"kip-{cluster}-efs"
    assert found.tags[names.TAG_PURPOSE] == "image-cache"


async def test_a_token_makes_one_file_system_whatever_becomes_of_the_answer(
    cloud: Cloud, cluster: str
) -> None:
    cloud.troubles.lose_answer("CreateFileSystem")
    with pytest.raises(Unreachable):
        await cloud.efs.create_file_system(wanted(cluster))
    again = await cloud.efs.create_file_system(wanted(cluster))
    assert [one.id for one in await systems_of(cloud, cluster)] == [again.id]


async def test_a_new_file_system_takes_its_time_and_no_mount_target_until_it_is_there(
    cloud: Cloud, cluster: str
) -> None:
    subnet, _ = await cloud.place()
    cloud.troubles.set_efs_delay(SHORT_S)
    system = await cloud.efs.create_file_system(wanted(cluster))
    assert system.state == "creating"
    with pytest.raises(CloudError) as caught:
        await cloud.efs.create_mount_target(system.id, subnet.id, [])
    assert caught.value.code == "IncorrectFileSystemLifeCycleState"

    async def there() -> bool:
        return [one.state for one in await systems_of(cloud, cluster)] == ["available"]

    await until(there)


async def test_a_mount_target_comes_wears_its_groups_and_goes(cloud: Cloud, cluster: str) -> None:
    subnet, _ = await cloud.place()
    group = await cloud.nfs.create_nfs_group(cluster, subnet.vpc_id)
    system = await cloud.efs.create_file_system(wanted(cluster))
    free = (await cloud.network.subnet(subnet.id)).free_addresses
    cloud.troubles.set_efs_delay(SHORT_S)
    target = await cloud.efs.create_mount_target(system.id, subnet.id, [group.id])
    assert target.state == "creating"

    async def states() -> list[str]:
        return [one.state for one in await cloud.efs.mount_targets(system.id)]

    async def there() -> bool:
        return await states() == ["available"]

    async def gone() -> bool:
        return await states() == []

    await until(there)
    (found,) = await cloud.efs.mount_targets(system.id)
    assert (found.id, found.subnet_id, found.zone, found.vpc_id) == (
        target.id,
        subnet.id,
        subnet.zone,
        subnet.vpc_id,
    )
    assert found.security_group_ids == (group.id,)
    assert found.ip == target.ip
    assert (await cloud.network.subnet(subnet.id)).free_addresses == free - 1
    await cloud.efs.delete_mount_target(target.id)
    assert await states() == ["deleting"]
    await until(gone)
    assert (await cloud.network.subnet(subnet.id)).free_addresses == free


async def test_a_zone_has_one_mount_target(cloud: Cloud, cluster: str) -> None:
    system, group, target, _ = await made(cloud, cluster)
    with pytest.raises(CloudError) as caught:
        await cloud.efs.create_mount_target(system.id, target.subnet_id, [group.id])
    assert caught.value.code == "MountTargetConflict"
    assert "one mount target for each zone" in caught.value.summary


async def test_a_file_system_with_a_mount_target_stays(cloud: Cloud, cluster: str) -> None:
    system, _, target, _ = await made(cloud, cluster)
    with pytest.raises(CloudError) as caught:
        await cloud.efs.delete_file_system(system.id)
    assert caught.value.code == "FileSystemInUse"
    # Also while the mount target is on its way out.
    cloud.troubles.set_efs_delay(SHORT_S)
    await cloud.efs.delete_mount_target(target.id)
    with pytest.raises(CloudError, match="FileSystemInUse"):
        await cloud.efs.delete_file_system(system.id)
    assert [one.state for one in await cloud.efs.mount_targets(system.id)] == ["deleting"]


async def test_what_is_gone_is_deleted_without_complaint(cloud: Cloud) -> None:
    await cloud.efs.delete_file_system("fs-0123456789abcdef0")
    await cloud.efs.delete_mount_target("fsmt-0123456789abcdef0")
    assert await cloud.efs.mount_targets("fs-0123456789abcdef0") == []


async def test_a_token_is_free_again_when_its_file_system_is_gone(cloud: Cloud, cluster: str) -> None:
    first = await cloud.efs.create_file_system(wanted(cluster))
    await cloud.efs.delete_file_system(first.id)
    second = await cloud.efs.create_file_system(wanted(cluster))
    assert second.id != first.id


async def test_a_file_system_on_its_way_out_is_shown_as_that(cloud: Cloud, cluster: str) -> None:
    first = await cloud.efs.create_file_system(wanted(cluster))
    cloud.troubles.set_efs_delay(SHORT_S)
    await cloud.efs.delete_file_system(first.id)
    again = await cloud.efs.create_file_system(wanted(cluster))
    assert (again.id, again.state) == (first.id, "deleting")

    async def gone() -> bool:
        return not await systems_of(cloud, cluster)

    await until(gone)


@pytest.mark.parametrize("days", [1, 30])
async def test_unread_files_go_to_cheaper_storage_when_told_so(cloud: Cloud, cluster: str, days: int) -> None:
    system = await cloud.efs.create_file_system(wanted(cluster))
    assert await cloud.efs.lifecycle_days(system.id) is None
    await cloud.efs.set_lifecycle_days(system.id, days)
    assert await cloud.efs.lifecycle_days(system.id) == days


async def test_groups_of_a_mount_target_are_replaced(cloud: Cloud, cluster: str) -> None:
    system, group, target, cells = await made(cloud, cluster)
    await cloud.efs.set_security_groups(target.id, [group.id, cells])
    (found,) = await cloud.efs.mount_targets(system.id)
    assert set(found.security_group_ids) == {group.id, cells}
    with pytest.raises(QuotaExceeded):
        await cloud.efs.set_security_groups(target.id, [group.id] * 6)
    with pytest.raises(NotFound):
        await cloud.efs.set_security_groups("fsmt-0123456789abcdef0", [group.id])
    await cloud.efs.set_security_groups(target.id, [group.id])


async def test_groups_and_subnets_that_are_not_there_are_refused(cloud: Cloud, cluster: str) -> None:
    subnet, _ = await cloud.place()
    system = await cloud.efs.create_file_system(wanted(cluster))
    for place, groups in ((subnet.id, ["sg-0123456789abcdef0"]), ("subnet-0123456789abcdef0", [])):
        with pytest.raises(NotFound):
            await cloud.efs.create_mount_target(system.id, place, groups)
    with pytest.raises(NotFound):
        await cloud.efs.create_mount_target("fs-0123456789abcdef0", subnet.id, [])
    assert await cloud.efs.mount_targets(system.id) == []


async def test_the_group_is_found_by_its_tags_and_admits_whom_it_is_told_to(
    cloud: Cloud, cluster: str
) -> None:
    subnet, cells = await cloud.place()
    group = await cloud.nfs.create_nfs_group(cluster, subnet.vpc_id)
    assert group.name == nfs_group_name(cluster)
    other = await cloud.nfs.create_nfs_group(f"{cluster}-other", subnet.vpc_id)
    await cloud.nfs.admit(group.id, [cells])
    await cloud.nfs.admit(group.id, [cells, other.id])
    (found,) = await cloud.nfs.tagged_groups(cluster)
    assert (found.id, found.vpc_id) == (group.id, subnet.vpc_id)
    assert found.admits == {cells, other.id}
    assert [g.id for g in await cloud.nfs.named_groups(group.name, "kip-no-such")] == [group.id]
    await cloud.network.delete_security_group(group.id)
    await cloud.network.delete_security_group(other.id)
    assert await cloud.nfs.tagged_groups(cluster) == []


async def test_the_group_is_made_once_and_admits_only_what_there_is(cloud: Cloud, cluster: str) -> None:
    subnet, _ = await cloud.place()
    group = await cloud.nfs.create_nfs_group(cluster, subnet.vpc_id)
    with pytest.raises(CloudError) as caught:
        await cloud.nfs.create_nfs_group(cluster, subnet.vpc_id)
    assert caught.value.code == "InvalidGroup.Duplicate"
    with pytest.raises(NotFound):
        await cloud.nfs.admit(group.id, ["sg-0123456789abcdef0"])


async def test_a_group_stays_while_a_mount_target_wears_it_or_another_group_names_it(
    cloud: Cloud, cluster: str
) -> None:
    system, group, target, _ = await made(cloud, cluster)
    cells = await cloud.network.ensure_cell_security_group(cluster=cluster, vpc_id=target.vpc_id)
    await cloud.nfs.admit(group.id, [cells])
    assert [(one.id, one.name) for one in await cloud.network.groups_naming(cells)] == [
        (group.id, group.name)
    ]
    assert await cloud.network.groups_naming(group.id) == []
    for id_ in (group.id, cells):
        with pytest.raises(CloudError) as caught:
            await cloud.network.delete_security_group(id_)
        assert caught.value.code == "DependencyViolation"
    await cloud.efs.delete_mount_target(target.id)
    await cloud.network.delete_security_group(group.id)
    await cloud.network.delete_security_group(cells)
    assert [one.id for one in await systems_of(cloud, cluster)] == [system.id]


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        ("AccessDeniedException", NotAuthorized),
        ("FileSystemLimitExceeded", QuotaExceeded),
        ("UnsupportedAvailabilityZone", InvalidRequest),
    ],
)
async def test_errors_have_their_meaning(
    cloud: Cloud, cluster: str, code: str, meaning: type[CloudError]
) -> None:
    cloud.troubles.fail("CreateFileSystem", code)
    with pytest.raises(meaning) as caught:
        await cloud.efs.create_file_system(wanted(cluster))
    assert caught.value.code == code
    if isinstance(caught.value, NotAuthorized):
        assert caught.value.permission == "elasticfilesystem:CreateFileSystem"
    assert await systems_of(cloud, cluster) == []
