"""pod.elotl.co/*: right values, and the one thing said about each wrong one."""

from __future__ import annotations

from typing import Any

import pytest

from kip.model.quantity import GIB
from kip.pods.annotations import (
    PREFIX,
    InvalidAnnotationError,
    Layer,
    Wishes,
    healthy_timeout_s,
    unknown,
    wishes,
    without_effect,
)


def pod(**annotations: str) -> dict[str, Any]:
    named = {PREFIX + key.replace("_", "-"): value for key, value in annotations.items()}
    return {"metadata": {"name": "web", "namespace": "shop", "annotations": named}}


def test_a_pod_without_any() -> None:
    assert wishes({"metadata": {"annotations": None}}) == Wishes()
    assert wishes(pod(cloud_route=" ")) == Wishes()


@pytest.mark.parametrize("name", ["m7i.large", "u-6tb1.metal", "c5*", "*.metal", "m*.large", "c7g.*"])
def test_instance_types(name: str) -> None:
    assert wishes(pod(instance_type=name)).instance_type == name


@pytest.mark.parametrize(
    ("text", "market"),
    [
        ("spot", "spot"),
        ("Spot", "spot"),
        ("spot-preferred", "spot-preferred"),
        (" on-demand ", "on-demand"),
        ("ON-DEMAND", "on-demand"),
    ],
)
def test_launch_types(text: str, market: str) -> None:
    assert wishes(pod(launch_type=text)).market == market


def test_dedicated_is_on_demand_too() -> None:
    assert wishes(pod(launch_type="Dedicated")) == Wishes(market="on-demand", dedicated=True)


def test_kinds_of_gpus() -> None:
    assert wishes(pod(gpu_type="a10g, NVIDIA-L4")).gpu_kinds == ("a10g", "NVIDIA-L4")


@pytest.mark.parametrize(
    ("text", "flag"), [("true", True), ("1", True), ("T", True), ("False", False), ("f", False)]
)
def test_private_ip_only_as_go_reads_booleans(text: str, flag: bool) -> None:
    assert wishes(pod(private_ip_only=text)).private_ip_only is flag


def test_the_others() -> None:
    found = wishes(
        pod(
            volume_size="20Gi",
            security_groups="sg-0a, sg-1b",
            instance_profile="arn:aws:iam::123456789012:instance-profile/web",
        )
    )
    assert found == Wishes(
        volume_bytes=20 * GIB,
        security_groups=("sg-0a", "sg-1b"),
        instance_profile="arn:aws:iam::123456789012:instance-profile/web",
    )


def test_cloud_routes() -> None:
    found = wishes(pod(cloud_route=" 172.20.0.0/16\t192.168.7.0/24\n10.9.8.7/32 172.20.0.0/16 "))
    assert found == Wishes(cloud_routes=("172.20.0.0/16", "192.168.7.0/24", "10.9.8.7/32"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.9", 1), ("0.5", None), ("0", None), ("-1", None), (" 60 ", 60), ("1e3", 1000)],
)
def test_how_long_a_machine_may_be_out_of_reach(text: str, seconds: float | None) -> None:
    subject = pod(healthcheck_healthy_timeout=text)
    assert wishes(subject).healthy_timeout_s == healthy_timeout_s(subject) == seconds


def test_a_timeout_that_became_wrong_gives_no_pod_up() -> None:
    assert healthy_timeout_s(pod(healthcheck_healthy_timeout="soon")) is None
    assert healthy_timeout_s(pod()) is None


def test_what_has_no_effect_is_accepted_and_told() -> None:
    subject = pod(image_overlay_rootfs="false")
    assert wishes(subject) == Wishes()
    assert without_effect(subject) == (
        "annotation pod.elotl.co/image-overlay-rootfs has no effect: cells run containerd, which always mounts the layers "
        "of an image over each other",
    )
    assert without_effect(pod(launch_type="spot")) == ()


def test_a_name_that_kip_does_not_know_is_told_with_what_may_be_meant() -> None:
    assert unknown(pod(instance_typ="t3.micro", launch_type="spot")) == (
        "annotation pod.elotl.co/instance-typ has no effect: did you mean pod.elotl.co/instance-type?",
    )
    [sentence] = unknown(pod(colour="red"))
    assert sentence.startswith("annotation pod.elotl.co/colour has no effect: known are pod.elotl.co/")
    assert unknown({"metadata": {"annotations": {"example.com/instance-typ": "x"}}}) == ()
    assert unknown(pod(image_overlay_rootfs="true")) == (), "that one is known to have none"


def test_so_is_one_of_the_namespace_and_whose_it_is() -> None:
    layer = Layer("namespace shop", {f"{PREFIX}volume-sise": "50Gi", f"{PREFIX}launch-type": "spot"})
    assert unknown(pod(), (layer,)) == (
        "annotation pod.elotl.co/volume-sise of namespace shop has no effect: did you mean pod.elotl.co/volume-size?",
    )


SHOP = Layer("namespace shop", {f"{PREFIX}launch-type": "spot", f"{PREFIX}volume-size": "50Gi"})
EVERYBODY = Layer("the configuration", {f"{PREFIX}launch-type": "dedicated", f"{PREFIX}gpu-type": "l4"})


def test_the_pod_goes_before_its_namespace_and_that_before_the_configuration() -> None:
    found = wishes(pod(volume_size="20Gi"), (SHOP, EVERYBODY))
    assert (found.volume_bytes, found.market, found.dedicated, found.gpu_kinds) == (
        20 * GIB,
        "spot",
        False,
        ("l4",),
    )
    assert [str(entry) for entry in found.inherited] == [
        "pod.elotl.co/launch-type=spot of namespace shop",
        "pod.elotl.co/gpu-type=l4 of the configuration",
    ]
    assert wishes(pod(launch_type="on-demand"), (EVERYBODY,)).dedicated is False


def test_whose_value_is_wrong() -> None:
    wrong = Layer("namespace shop", {f"{PREFIX}launch-type": "cheap"})
    with pytest.raises(InvalidAnnotationError) as caught:
        wishes(pod(), (wrong,))
    assert str(caught.value) == (
        f"annotation pod.elotl.co/launch-type of namespace shop: 'cheap' is not allowed: {LAUNCH_TYPES}"
    )
    assert wishes(pod(launch_type="spot"), (wrong,)).market == "spot"


LAUNCH_TYPES = "expected on-demand, spot, spot-preferred or dedicated"
RANGES = "expected IPv4 ranges with spaces between them, like 172.20.0.0/16 192.168.7.0/24"
TYPE = "expected an instance type like m7i.large, or a pattern like c7* or m*.large"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("instance_type", "m", TYPE),
        ("instance_type", "*", TYPE),
        ("instance_type", "large", TYPE),
        ("instance_type", "", TYPE),
        ("instance_type", "m5.large,c5.large", TYPE),
        ("instance_type", "t1.micro", "instances of the t1 family cannot run a cell"),
        ("instance_type", "t1*", "instances of the t1 family cannot run a cell"),
        ("launch_type", "cheap", LAUNCH_TYPES),
        ("gpu_type", "", "expected names of GPUs with commas between them, like a10g or l4,t4"),
        ("gpu_type", "l4,,t4", "expected names of GPUs with commas between them, like a10g or l4,t4"),
        ("cloud_route", "172.20.0.0/16,10.0.0.0/8", f"'172.20.0.0/16,10.0.0.0/8' is none; {RANGES}"),
        ("cloud_route", "fd00::/8", f"'fd00::/8' is none; {RANGES}"),
        ("cloud_route", "10.1.0.0/33", f"'10.1.0.0/33' is none; {RANGES}"),
        (
            "cloud_route",
            "10.1.2.3/16",
            f"10.1.2.3/16 has bits set beyond its prefix length, the range is 10.1.0.0/16; {RANGES}",
        ),
        (
            "cloud_route",
            "10.1.2.3",
            f"10.1.2.3 has no prefix length, for one address that is 10.1.2.3/32; {RANGES}",
        ),
        (
            "cloud_route",
            "169.254.0.0/16",
            "169.254.0.0/16 is not routed by any VPC: loopback, link-local and multicast ranges are not",
        ),
        ("volume_size", "20 GB", "expected a size like 20Gi"),
        ("volume_size", "0", "expected a size like 20Gi"),
        ("volume_size", "-5Gi", "expected a size like 20Gi"),
        ("healthcheck_healthy_timeout", "90s", "expected a number of seconds, 0 for never"),
        ("healthcheck_healthy_timeout", "inf", "expected a number of seconds, 0 for never"),
        ("healthcheck_healthy_timeout", "", "expected a number of seconds, 0 for never"),
        ("image_overlay_rootfs", "no", "expected true or false"),
        ("private_ip_only", "yes", "expected true or false"),
        ("private_ip_only", "", "expected true or false"),
        (
            "security_groups",
            "default",
            "expected ids of security groups with commas between them, like sg-0123abcd,sg-4567cdef",
        ),
        (
            "security_groups",
            "sg-0a,",
            "expected ids of security groups with commas between them, like sg-0123abcd,sg-4567cdef",
        ),
        ("instance_profile", "a role", "expected the name or the ARN of an instance profile"),
        (
            "instance_profile",
            "arn:aws:iam::123456789012:role/web",
            "expected the name or the ARN of an instance profile",
        ),
    ],
)
def test_a_wrong_value(name: str, value: str, said: str) -> None:
    with pytest.raises(InvalidAnnotationError) as caught:
        wishes(pod(**{name: value}))
    key = PREFIX + name.replace("_", "-")
    assert str(caught.value) == f"annotation {key}: {value!r} is not allowed: {said}"


def test_all_wrong_ones_are_said() -> None:
    with pytest.raises(InvalidAnnotationError) as caught:
        wishes(pod(launch_type="x", volume_size="y"))
    assert str(caught.value).splitlines() == [
        "annotation pod.elotl.co/launch-type: 'x' is not allowed: expected on-demand, spot, spot-preferred or dedicated",
        "annotation pod.elotl.co/volume-size: 'y' is not allowed: expected a size like 20Gi",
    ]
