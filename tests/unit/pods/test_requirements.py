"""What a pod needs of its machine."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kip.model.hugepages import HugePages
from kip.model.quantity import GIB, MIB, QuantityError
from kip.model.requirements import Part, Requirements
from kip.model.spread import ZoneSpread
from kip.pods.annotations import InvalidAnnotationError, Layer
from kip.pods.requirements import Known, requirements
from kip.pods.spread import Neighbour


def container(name: str = "web", **requests: str) -> dict[str, Any]:
    named = {key.replace("_", "-"): value for key, value in requests.items()}
    return {"name": name, "resources": {"requests": named}}


def pod(annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web", "namespace": "shop", "annotations": annotations}, "spec": spec}


def test_a_pod_that_asks_for_nothing() -> None:
    assert requirements(pod(containers=[{"name": "web"}])) == Requirements(sized=False)


def test_where_the_numbers_come_from() -> None:
    needs = requirements(
        pod(
            {"pod.elotl.co/volume-size": "20Gi"},
            containers=[container(cpu="500m", memory="1Gi"), container("log", memory="256Mi")],
            initContainers=[
                container("migrate", cpu="2", memory="128Mi"),
                {**container("proxy", cpu="100m"), "restartPolicy": "Always"},
            ],
            overhead={"cpu": "50m", "memory": "64Mi"},
        )
    )
    assert needs.cpu_millis == 2050
    assert needs.memory_bytes == 1344 * MIB
    assert needs.volume_bytes == 20 * GIB
    assert needs.parts == (
        Part("container web", cpu_millis=500, memory_bytes=GIB),
        Part("container log", memory_bytes=256 * MIB),
        Part("sidecar proxy", cpu_millis=100),
        Part("init container migrate, beyond the others", cpu_millis=1400),
        Part("overhead", cpu_millis=50, memory_bytes=64 * MIB),
        Part("annotation pod.elotl.co/volume-size", volume_bytes=20 * GIB),
    )


def test_what_is_set_for_the_whole_pod_is_its_own_reason() -> None:
    needs = requirements(
        pod(containers=[container(cpu="1", memory="1Gi")], resources={"requests": {"cpu": "3"}})
    )
    assert needs.parts == (
        Part("container web", memory_bytes=GIB),
        Part("pod as a whole", cpu_millis=3000),
    )


def test_gpus() -> None:
    needs = requirements(pod(containers=[{"name": "c", "resources": {"limits": {"nvidia.com/gpu": "2"}}}]))
    assert needs.gpus == 2
    assert needs.sized
    assert needs.parts == (Part("container c", gpus=2),)


def test_ephemeral_storage_makes_the_volume_larger_than_itself() -> None:
    needs = requirements(pod(containers=[container(ephemeral_storage="50Gi")]))
    # 50 for the pod, 10 for system and image, 1 for the kubelet, and a tenth stays free.
    assert needs.volume_bytes == -(-61 * GIB * 10 // 9)
    assert not needs.sized


def test_the_larger_volume_counts() -> None:
    large = requirements(
        pod({"pod.elotl.co/volume-size": "1Ti"}, containers=[container(ephemeral_storage="50Gi")])
    )
    small = requirements(
        pod({"pod.elotl.co/volume-size": "1Gi"}, containers=[container(ephemeral_storage="50Gi")])
    )
    assert large.volume_bytes == 1024 * GIB
    assert small.volume_bytes > 50 * GIB


def test_annotations_and_selectors() -> None:
    needs = requirements(
        pod(
            {
                "pod.elotl.co/instance-type": "c7g*",
                "pod.elotl.co/launch-type": "spot",
                "pod.elotl.co/private-ip-only": "true",
                "pod.elotl.co/security-groups": "sg-0a",
                "pod.elotl.co/instance-profile": "web",
            },
            containers=[container(cpu="1")],
            nodeSelector={"kubernetes.io/arch": "arm64"},
        )
    )
    assert needs.instance_type == "c7g*"
    assert needs.market == "spot"
    assert needs.private_ip_only is True
    assert needs.security_groups == ("sg-0a",)
    assert needs.instance_profile == "web"
    assert needs.architectures == {"arm64"}


def test_fractions_are_rounded_up() -> None:
    needs = requirements(pod(containers=[container(cpu="100u", memory="1.5")]))
    assert (needs.cpu_millis, needs.memory_bytes) == (1, 2)


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(InvalidAnnotationError):
        requirements(pod({"pod.elotl.co/launch-type": "x"}, containers=[]))
    with pytest.raises(QuantityError):
        requirements(pod(containers=[container(cpu="much")]))


@pytest.mark.parametrize(
    ("needs", "text"),
    [
        (Requirements(cpu_millis=1500, memory_bytes=GIB, gpus=1), "1500m CPU, 1Gi memory, 1 GPU"),
        (Requirements(gpus=2), "2 GPUs"),
        (
            Requirements(memory_bytes=GIB, huge_pages=(HugePages("hugepages-2Mi", 256),)),
            "1Gi memory, 512Mi huge pages",
        ),
        (Requirements(), "nothing in particular"),
    ],
)
def test_in_words(needs: Requirements, text: str) -> None:
    assert str(needs) == text


AMOUNTS = st.fixed_dictionaries(
    {},
    optional={
        "cpu": st.integers(0, 4000).map("{}m".format),
        "memory": st.integers(0, 4096).map("{}Mi".format),
    },
)


@given(
    st.lists(AMOUNTS, max_size=3), st.lists(st.tuples(st.booleans(), AMOUNTS), max_size=4), AMOUNTS, AMOUNTS
)
def test_the_parts_add_up(
    containers: list[dict[str, str]],
    inits: list[tuple[bool, dict[str, str]]],
    overhead: dict[str, str],
    whole: dict[str, str],
) -> None:
    needs = requirements(
        pod(
            containers=[{"name": f"c{i}", "resources": {"requests": r}} for i, r in enumerate(containers)],
            initContainers=[
                {
                    "name": f"i{i}",
                    "resources": {"requests": r},
                    **({"restartPolicy": "Always"} if restarted else {}),
                }
                for i, (restarted, r) in enumerate(inits)
            ],
            overhead=overhead,
            resources={"requests": whole},
        )
    )
    assert sum(part.cpu_millis for part in needs.parts) == needs.cpu_millis
    assert sum(part.memory_bytes for part in needs.parts) == needs.memory_bytes
    assert all(part.cpu_millis >= 0 and part.memory_bytes >= 0 for part in needs.parts)


def test_huge_pages_come_on_top_of_memory() -> None:
    needs = requirements(
        pod(
            containers=[
                {
                    "name": "c",
                    "resources": {
                        "limits": {"memory": "1Gi", "hugepages-2Mi": "512Mi", "hugepages-1Gi": "1Gi"}
                    },
                }
            ]
        )
    )
    assert (needs.memory_bytes, needs.huge_pages_bytes) == (GIB, 1536 * MIB)
    assert needs.huge_pages == (HugePages("hugepages-1Gi", 1), HugePages("hugepages-2Mi", 256))
    assert [pages.kernel_name for pages in needs.huge_pages] == ["1048576kB", "2048kB"]
    assert needs.parts == (Part("container c", memory_bytes=GIB, huge_pages_bytes=1536 * MIB),)


def test_what_no_cell_has() -> None:
    requests = {"cpu": "1", "amd.com/gpu": "1", "example.com/fpga": "2", "example.com/none": "0"}
    needs = requirements(pod(containers=[{"name": "c", "resources": {"requests": requests}}]))
    assert needs.other_resources == ("amd.com/gpu", "example.com/fpga")


def test_kinds_of_gpus_by_annotation() -> None:
    gpu = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    assert requirements(pod({"pod.elotl.co/gpu-type": "a10g,l4"}, containers=[gpu])).gpu_kinds == (
        "a10g",
        "l4",
    )


def test_dedicated_hardware_is_rented_on_demand() -> None:
    needs = requirements(pod({"pod.elotl.co/launch-type": "dedicated"}, containers=[]))
    assert (needs.market, needs.dedicated) == ("on-demand", True)


@pytest.mark.parametrize(
    ("selector", "inherited", "market", "dedicated"),
    [
        ({}, "spot", "spot", False),
        ({}, "dedicated", "on-demand", True),
        ({"karpenter.sh/capacity-type": "on-demand"}, "spot", "on-demand", False),
        ({"karpenter.sh/capacity-type": "spot"}, "dedicated", "spot", False),
        ({"karpenter.sh/capacity-type": "on-demand"}, "dedicated", "on-demand", True),
    ],
)
def test_what_the_pods_own_labels_say_goes_before_what_it_inherits(
    selector: dict[str, str], inherited: str, market: str, dedicated: bool
) -> None:
    known = Known(defaults=(Layer("namespace shop", {"pod.elotl.co/launch-type": inherited}),))
    needs = requirements(pod(containers=[], nodeSelector=selector), known)
    assert (needs.market, needs.dedicated) == (market, dedicated)
    counts = dedicated or market == inherited
    expected = (f"pod.elotl.co/launch-type={inherited} of namespace shop",) if counts else ()
    assert needs.inherited == expected


def capacity(operator: str, *values: str, key: str = "karpenter.sh/capacity-type") -> dict[str, Any]:
    expression = {"key": key, "operator": operator, "values": list(values)}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}


@pytest.mark.parametrize(
    ("spec", "market"),
    [
        ({}, "on-demand"),
        ({"nodeSelector": {"karpenter.sh/capacity-type": "spot"}}, "spot"),
        ({"nodeSelector": {"eks.amazonaws.com/capacityType": "SPOT"}}, "spot"),
        ({"nodeSelector": {"eks.amazonaws.com/capacityType": "ON_DEMAND"}}, "on-demand"),
        (capacity("In", "spot", "on-demand"), "spot-preferred"),
        (capacity("NotIn", "spot"), "on-demand"),
        (capacity("NotIn", "on-demand"), "spot"),
        (capacity("NotIn", "reserved"), "on-demand"),
        (capacity("Exists"), "on-demand"),
        (capacity("DoesNotExist"), "on-demand"),
        (capacity("In", "reserved"), "on-demand"),
    ],
)
def test_the_market_by_labels(spec: dict[str, Any], market: str) -> None:
    assert requirements(pod(containers=[], **spec)).market == market


def test_the_annotation_counts_before_labels() -> None:
    spec = {"nodeSelector": {"karpenter.sh/capacity-type": "spot"}}
    assert (
        requirements(pod({"pod.elotl.co/launch-type": "on-demand"}, containers=[], **spec)).market
        == "on-demand"
    )


@pytest.mark.parametrize(
    ("selector", "image", "architectures", "words"),
    [
        ({}, None, None, "the pod's node selector or affinity wants"),
        ({}, {"arm64"}, {"arm64"}, "the pod's image is for"),
        ({}, set(), set(), "the pod's image is for"),
        ({"kubernetes.io/arch": "arm64"}, None, {"arm64"}, "the pod's node selector or affinity wants"),
        (
            {"kubernetes.io/arch": "arm64"},
            {"amd64"},
            {"arm64"},
            "the pod's node selector or affinity wants",
        ),
    ],
)
def test_architectures_of_pod_and_image(
    selector: dict[str, str], image: set[str] | None, architectures: set[str] | None, words: str
) -> None:
    known = Known(image_architectures=None if image is None else frozenset(image))
    needs = requirements(pod(containers=[], nodeSelector=selector), known)
    assert needs.architectures == architectures
    assert needs.architectures_from == words
    assert needs.architectures_inferred == (image is not None and not selector)


def test_of_architectures_that_the_pod_leaves_open_its_images_choose() -> None:
    both = {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64", "arm64"]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [both]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    needs = requirements(
        pod(containers=[], affinity=affinity), Known(image_architectures=frozenset({"arm64"}))
    )
    assert needs.architectures == {"arm64"}


def test_what_is_known_besides_the_pod() -> None:
    constraint = {
        "maxSkew": 1,
        "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {},
    }
    known = Known(volume_zones=frozenset({"a"}), neighbours=(Neighbour({}, "b"),))
    needs = requirements(pod(containers=[], topologySpreadConstraints=[constraint]), known)
    assert needs.volume_zones == {"a"}
    assert needs.spreads == (ZoneSpread(max_skew=1, required=True, counts={"b": 1}),)
