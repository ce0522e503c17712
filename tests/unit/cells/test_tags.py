"""Tags that say what an instance is for: within EC2's limits, and never like anybody else's."""

from __future__ import annotations

from typing import Any

import pytest

from kip.cells.tags import LONGEST_VALUE, MOST_TAGS, PodTags, in_common, lacking

TAGS = PodTags("Kip cell blue/kip-provider-0")


def pod(labels: dict[str, str] | None = None, name: str = "web") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "shop", "labels": labels}}


def of_labels(labels: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in TAGS(pod(labels)).items() if key not in TAGS(pod())}


def test_what_every_instance_says() -> None:
    assert TAGS(pod()) == {"Name": "Kip cell blue/kip-provider-0 shop/web", "KipNamespace": "shop"}
    assert PodTags("Kip cell", "teamkip")(pod())["KipNametag"] == "teamkip"


def test_labels_are_tags() -> None:
    labels = {"app": "web", "app.kubernetes.io/name": "shop", "empty": ""}
    assert of_labels(labels) == labels


@pytest.mark.parametrize(
    "key",
    [
        "aws:x",
        "AWS:x",
        "kubernetes.io/cluster",
        "io.kubernetes.pod",
        "kip.elotl.co/cluster",
        "kip.elotl.co/node",
        "karpenter.sh/nodepool",
        "Node",
        "KipControllerID",
        "x" * 120 + "/" + "y" * 8,
    ],
)
def test_labels_that_make_no_tag(key: str) -> None:
    assert of_labels({key: "x"}) == {}


def test_a_label_does_not_change_what_is_told_anyway() -> None:
    told = TAGS(pod({"Name": "mine", "KipNamespace": "other", "KipNametag": "x"}))
    assert told == TAGS(pod())


def test_characters_that_no_tag_may_have_are_replaced() -> None:
    assert of_labels({"a*b": "c!d"}) == {"a_b": "c_d"}


def test_there_are_never_more_tags_than_ec2_takes() -> None:
    tags = PodTags("Kip", "teamkip")(pod({f"label-{number:03}": "x" for number in range(100)}))
    cluster_node_and_launch = 3
    assert len(tags) + cluster_node_and_launch == MOST_TAGS
    assert "label-000" in tags
    assert "label-099" not in tags


def test_a_long_name_is_cut() -> None:
    assert len(TAGS(pod(name="x" * 253))["Name"]) == LONGEST_VALUE


def test_what_a_batch_has_in_common() -> None:
    one, other = (
        TAGS(pod({"app": "web", "index": "0"}, "web-0")),
        TAGS(pod({"app": "web", "index": "1"}, "web-1")),
    )
    assert in_common([one, other]) == {"KipNamespace": "shop", "app": "web"}
    assert in_common([one]) == one


def test_what_an_instance_lacks() -> None:
    assert lacking({"a": "1", "b": "2", "kip.elotl.co/cluster": "c"}, {"a": "1", "b": "3", "d": "4"}) == {
        "b": "3",
        "d": "4",
    }


def test_tags_of_others_leave_less_room() -> None:
    present = {f"cost-{number}": "x" for number in range(MOST_TAGS - 1)}
    assert lacking(present, {"b": "1", "a": "1", "cost-0": "y"}) == {"a": "1", "cost-0": "y"}
