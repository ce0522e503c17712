"""What Cells say."""

from __future__ import annotations

from typing import Any

from kip.imagecache.held import architectures


def cell(name: str, pod_uid: str, instance_type: str | None) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {"podUID": pod_uid},
        "status": {"instanceType": instance_type},
    }


def test_the_architecture_of_a_pod_s_machine() -> None:
    of = architectures(
        [
            cell("a", "1", "m7g.large"),
            cell("b", "2", "t3.small"),
            cell("c", "3", None),
            cell("d", "4", "x9.y"),
        ]
    )
    found = [of({"metadata": {"uid": uid}}) for uid in ("1", "2", "3", "4", "5")]
    assert found == ["arm64", "amd64", None, None, None]
