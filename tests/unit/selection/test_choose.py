"""The choice of a machine, over a small catalogue of our own and over all of AWS's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kip.model.hugepages import HugePages
from kip.model.instance_type import InstanceType
from kip.model.market import MarketData
from kip.model.placement import Rule
from kip.model.quantity import GIB, MIB
from kip.model.requirements import Requirements
from kip.model.reserve import reserve
from kip.model.spread import ZoneSpread
from kip.selection.choose import Choice, Chooser, Constraints, NoFit, choose

ZONES = ("us-east-1a", "us-east-1b")
ZONE = "topology.kubernetes.io/zone"
CONSTRAINTS = Constraints(zones=ZONES, default_instance_type="t3.small")


def kind(name: str, vcpus: int, gib: float, usd: float | None, **more: Any) -> InstanceType:
    values: dict[str, Any] = {"architecture": "amd64", "max_enis": 3, "max_ipv4_per_eni": 10, **more}
    return InstanceType(name=name, vcpus=vcpus, memory_mib=int(gib * 1024), usd_per_hour=usd, **values)


NVIDIA = {"gpu_manufacturer": "NVIDIA", "gpu_name": "T4"}
CATALOGUE = (
    kind("t3.nano", 2, 0.5, 0.0052, burstable=True),
    kind("t3.small", 2, 2, 0.0208, burstable=True),
    kind("t3.large", 2, 8, 0.0832, burstable=True),
    kind("c7i.large", 2, 4, 0.0893),
    kind("c7i.xlarge", 4, 8, 0.1785),
    kind("m7i.large", 2, 8, 0.1008),
    kind("m7i.xlarge", 4, 16, 0.2016),
    kind("m4.xlarge", 4, 16, 0.2, current_generation=False, hypervisor="xen"),
    kind("c7g.xlarge", 4, 8, 0.145, architecture="arm64"),
    kind("a1.xlarge", 4, 8, 0.102, architecture="arm64"),
    kind("g4dn.xlarge", 4, 16, 0.526, gpus=1, **NVIDIA),
    kind("g4dn.12xlarge", 48, 192, 3.912, gpus=4, **NVIDIA),
    kind("g4ad.xlarge", 4, 16, 0.379, gpus=1, gpu_manufacturer="AMD"),
    kind("m7i.metal-24xl", 96, 384, 4.8384, bare_metal=True),
    kind("x9.new", 4, 16, None),
    kind("m7z.tiny", 4, 16, 0.01, max_ipv4_per_eni=1),
    kind("hpc7.large", 2, 4, 0.05, spot=False),
)


def chosen(catalogue: tuple[InstanceType, ...] = CATALOGUE, **needs: Any) -> list[str]:
    """Names of the types offered in the first zone, best first."""
    found = choose(Requirements(**needs), catalogue, replace(CONSTRAINTS, max_offers=1000))
    assert isinstance(found, Choice), found
    return [offer.instance_type.name for offer in found.offers if offer.zone == ZONES[0]]


def nothing(**needs: Any) -> tuple[str, str]:
    found = choose(Requirements(**needs), CATALOGUE, CONSTRAINTS)
    assert isinstance(found, NoFit), found
    return found.reason, found.message


def test_the_cheapest_that_fits_comes_first() -> None:
    assert chosen(cpu_millis=3500, memory_bytes=6 * GIB)[:3] == ["c7i.xlarge", "m7i.xlarge", "m4.xlarge"]


def test_what_the_machine_keeps_is_not_the_pods() -> None:
    # Of 2 CPUs 1.93 are left, of 4 GiB 3.27.
    assert chosen(cpu_millis=1930, memory_bytes=1 * GIB)[0] == "hpc7.large"
    assert chosen(cpu_millis=1931, memory_bytes=1 * GIB)[0] == "c7i.xlarge"
    left = 4096 * MIB - reserve(vcpus=2, memory_mib=4096, architecture="amd64").memory_bytes
    assert chosen(cpu_millis=1900, memory_bytes=left)[0] == "hpc7.large"
    assert "hpc7.large" not in chosen(cpu_millis=1900, memory_bytes=left + 1)


def test_a_burstable_type_costs_what_it_bursts() -> None:
    # t3.small: 0.0208 and 1.5 CPUs beyond its baseline of 0.4, at 5 cents each: more than the 0.05 of hpc7.
    assert chosen(cpu_millis=1900, memory_bytes=GIB)[:2] == ["hpc7.large", "c7i.large"]
    assert chosen(cpu_millis=400, memory_bytes=GIB)[:2] == ["t3.small", "hpc7.large"]


def test_a_previous_generation_must_be_a_fifth_cheaper() -> None:
    assert chosen(cpu_millis=3500, memory_bytes=12 * GIB)[:2] == ["m7i.xlarge", "m4.xlarge"]
    cheaper = tuple(replace(k, usd_per_hour=0.16) if k.name == "m4.xlarge" else k for k in CATALOGUE)
    assert chosen(cheaper, cpu_millis=3500, memory_bytes=12 * GIB)[0] == "m4.xlarge"


def test_an_unknown_price_comes_last() -> None:
    assert chosen(cpu_millis=3500, memory_bytes=12 * GIB)[-1] == "x9.new"


def test_of_equal_prices_the_larger_one_is_first() -> None:
    equal = (kind("b1.large", 2, 4, 0.1), kind("a2.large", 2, 8, 0.1), kind("c3.large", 4, 8, 0.1))
    assert chosen(equal, cpu_millis=1000) == ["c3.large", "a2.large", "b1.large"]


def test_gpus_are_for_those_who_request_them() -> None:
    assert not any(name.startswith("g4") for name in chosen(cpu_millis=100))
    assert chosen(gpus=1) == ["g4dn.xlarge", "g4dn.12xlarge"]
    assert chosen(gpus=2) == ["g4dn.12xlarge"]


def test_bare_metal_is_for_those_who_ask_for_it() -> None:
    assert "m7i.metal-24xl" not in chosen(cpu_millis=100)
    assert chosen(instance_type="m7i*", cpu_millis=100) == ["m7i.large", "m7i.xlarge"]
    assert chosen(instance_type="*.metal*", cpu_millis=100) == ["m7i.metal-24xl"]


def test_gpu_types_by_name() -> None:
    assert chosen(instance_type="g4dn*", cpu_millis=100) == ["g4dn.xlarge", "g4dn.12xlarge"]


def test_the_architecture() -> None:
    assert chosen(architectures=frozenset({"arm64"}), cpu_millis=100) == ["c7g.xlarge"]
    both = chosen(architectures=frozenset({"arm64", "amd64"}), cpu_millis=3500)
    assert both[:2] == ["c7g.xlarge", "c7i.xlarge"]
    assert "c7g.xlarge" not in chosen(cpu_millis=3500)


def test_who_names_arm64_types_means_them() -> None:
    assert chosen(instance_type="c7g.xlarge", cpu_millis=100) == ["c7g.xlarge"]
    assert chosen(instance_type="c7*", cpu_millis=3500) == ["c7i.xlarge"]


def test_what_the_image_does_not_start_on_is_taken_by_name_only() -> None:
    assert "a1.xlarge" not in chosen(architectures=frozenset({"arm64"}), cpu_millis=100)
    assert chosen(instance_type="a1*", cpu_millis=100) == ["a1.xlarge"]


def test_a_type_without_a_second_address_is_never_taken() -> None:
    assert "m7z.tiny" not in chosen(cpu_millis=100)
    assert nothing(instance_type="m7z.tiny") == (
        "NoInstanceFits",
        "the only type that matches is without a second address",
    )


def test_the_spot_market() -> None:
    found = choose(Requirements(cpu_millis=1900, market="spot"), CATALOGUE, CONSTRAINTS)
    assert isinstance(found, Choice)
    assert {offer.market for offer in found.offers} == {"spot"}
    assert {offer.usd_per_hour for offer in found.offers} == {None}
    assert "hpc7.large" not in {offer.instance_type.name for offer in found.offers}


def test_an_exact_type_that_no_kubelet_would_run_the_pod_on_is_not_taken() -> None:
    assert nothing(instance_type="t3.nano", cpu_millis=8000) == (
        "NoInstanceFits",
        "t3.nano, which the pod asks for, leaves 1.93 of 2 CPUs, and the pod requests 8 CPUs",
    )
    assert nothing(instance_type="m7i.large", memory_bytes=8 * GIB) == (
        "NoInstanceFits",
        "m7i.large, which the pod asks for, leaves at most 7.6Gi of 8Gi memory, and the pod requests 8Gi",
    )


def test_an_exact_type_that_may_be_too_small_is_taken_and_said_to_be_so() -> None:
    """What the hypervisor keeps is an estimate, on the safe side; whoever names a type may know better."""
    found = choose(Requirements(instance_type="m7i.large", memory_bytes=7 * GIB), CATALOGUE, CONSTRAINTS)
    assert isinstance(found, Choice)
    assert (
        found.note
        == "as the pod asks for it, though it may leave no more than 7,134Mi of the 7,168Mi memory requested"
    )
    seen = MarketData(memory_bytes={"m7i.large": 7400 * MIB})
    known = choose(
        Requirements(instance_type="m7i.large", memory_bytes=7 * GIB), CATALOGUE, CONSTRAINTS, market=seen
    )
    assert isinstance(known, NoFit)


def test_an_exact_type_needs_no_least_memory() -> None:
    """A nano leaves next to nothing, but who asks for one gets it."""
    assert chosen(instance_type="t3.nano", cpu_millis=100) == ["t3.nano"]


def test_an_exact_type_that_is_large_enough_needs_no_note() -> None:
    found = choose(Requirements(instance_type="m7i.large", cpu_millis=100), CATALOGUE, CONSTRAINTS)
    assert isinstance(found, Choice)
    assert found.note == ""


def test_a_pattern_must_fit() -> None:
    assert chosen(instance_type="m7i*", cpu_millis=3000) == ["m7i.xlarge"]


def test_the_default_and_what_replaces_it() -> None:
    names = chosen(sized=False)
    assert names[0] == "t3.small"
    assert names[1:3] == ["hpc7.large", "t3.large"]
    assert "t3.nano" not in names


def test_what_replaces_a_default_is_not_larger_because_the_defaults_memory_was_seen() -> None:
    """Of the alternative there is only an estimate, which is lower than what is seen."""
    catalogue = (*CATALOGUE, kind("t3a.small", 2, 2, 0.0188, burstable=True))
    market = MarketData(memory_bytes={"t3.small": 2000 * MIB})
    found = choose(Requirements(sized=False), catalogue, CONSTRAINTS, market=market)
    assert isinstance(found, Choice)
    types = list(dict.fromkeys(offer.instance_type.name for offer in found.offers))
    assert types[:2] == ["t3.small", "t3a.small"]


def test_a_default_of_the_wrong_architecture_is_not_taken() -> None:
    needs = Requirements(sized=False, architectures=frozenset({"arm64"}))
    found = choose(needs, CATALOGUE, CONSTRAINTS)
    assert isinstance(found, Choice)
    assert str(found) == (
        "chose c7g.xlarge in us-east-1a, on-demand $0.145/h (not the default t3.small: the pod's node selector or "
        "affinity wants arm64, and the only type that matches is amd64); 1 of 17 types fit"
    )


def test_offers_are_in_every_zone_and_no_more_than_asked_for() -> None:
    found = choose(Requirements(cpu_millis=3500), CATALOGUE, replace(CONSTRAINTS, max_offers=3))
    assert isinstance(found, Choice)
    assert [(offer.instance_type.name, offer.zone) for offer in found.offers] == [
        ("c7i.xlarge", "us-east-1a"),
        ("c7i.xlarge", "us-east-1b"),
        ("m7i.xlarge", "us-east-1a"),
    ]


def test_what_ec2_has_not_is_left_out() -> None:
    unavailable = {("c7i.xlarge", "us-east-1a", "on-demand"): "InsufficientInstanceCapacity"}
    found = Chooser(CATALOGUE).choose(Requirements(cpu_millis=3500), CONSTRAINTS, unavailable)  # type: ignore[arg-type]
    assert isinstance(found, Choice)
    assert [(offer.instance_type.name, offer.zone) for offer in found.offers[:2]] == [
        ("c7i.xlarge", "us-east-1b"),
        ("m7i.xlarge", "us-east-1a"),
    ]


def test_when_ec2_has_nothing_that_fits() -> None:
    unavailable = {("c7g.xlarge", zone, "on-demand"): "InsufficientInstanceCapacity" for zone in ZONES}
    needs = Requirements(cpu_millis=100, architectures=frozenset({"arm64"}))
    found = Chooser(CATALOGUE).choose(needs, CONSTRAINTS, unavailable)  # type: ignore[arg-type]
    assert isinstance(found, NoFit)
    assert (found.reason, found.message) == (
        "NoInstanceAvailable",
        "EC2 had none of the only type that fits lately, in us-east-1a, us-east-1b; c7g.xlarge in us-east-1a, "
        "on-demand: InsufficientInstanceCapacity",
    )


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        (
            {"cpu_millis": 900_000},
            "no instance type has 900 CPUs for a pod: the largest of 10 that match is x9.new, which leaves 3.92 of "
            "4 CPUs",
        ),
        (
            {"memory_bytes": 1024 * GIB},
            "no instance type has 1Ti memory for a pod: the largest of 10 that match is x9.new, which leaves 14.4Gi of "
            "16Gi",
        ),
        (
            {"cpu_millis": 3900, "memory_bytes": 20 * GIB},
            "no instance type has 20Gi memory for a pod: the largest of 4 that match and have CPU enough is x9.new, "
            "which leaves 14.4Gi of 16Gi",
        ),
        (
            {"gpus": 17},
            "no instance type has 17 NVIDIA GPUs: the most of 13 that match is 4, in g4dn.12xlarge",
        ),
        ({"instance_type": "q*"}, "none of 17 instance types matches q*"),
        (
            {"instance_type": "m7i.lareg"},
            "none of 17 instance types is called m7i.lareg; did you mean m7i.large or m7i.xlarge?",
        ),
        (
            {"instance_type": "m7i.large", "architectures": frozenset({"arm64"})},
            "the pod's node selector or affinity wants arm64, and the only type that matches is amd64",
        ),
        (
            {"architectures": frozenset()},
            "the pod's node selector or affinity wants an architecture that EC2 does not have, and all 17 types that "
            "match are amd64 and arm64",
        ),
        (
            {"instance_type": "hpc7.large", "market": "spot"},
            "the only type that matches is never offered as spot",
        ),
    ],
)
def test_why_nothing_fits(needs: dict[str, Any], message: str) -> None:
    assert nothing(**needs) == ("NoInstanceFits", message)


def test_an_empty_catalogue() -> None:
    found = choose(Requirements(cpu_millis=1), (), CONSTRAINTS)
    assert isinstance(found, NoFit)
    assert found.message == "no instance type is known"


def test_no_subnet() -> None:
    found = choose(Requirements(cpu_millis=1), CATALOGUE, replace(CONSTRAINTS, zones=()))
    assert isinstance(found, NoFit)
    assert found.message == "no subnet is configured in which a cell could be"


def test_the_choice_in_words() -> None:
    found = choose(Requirements(cpu_millis=3500, memory_bytes=6 * GIB), CATALOGUE, CONSTRAINTS)
    assert str(found) == (
        "chose c7i.xlarge in us-east-1a, on-demand $0.1785/h; 4 of 17 types fit; best 3: c7i.xlarge $0.1785/h, "
        "m7i.xlarge $0.2016/h, m4.xlarge $0.2/h"
    )


def test_everything_rejected_has_a_reason() -> None:
    found = choose(Requirements(cpu_millis=3500, memory_bytes=12 * GIB), CATALOGUE, CONSTRAINTS)
    assert isinstance(found, Choice)
    assert [(rejection.reason, rejection.types) for rejection in found.rejected] == [
        ("of another architecture, not asked for", ("a1.xlarge", "c7g.xlarge")),
        ("no second address for the pod", ("m7z.tiny",)),
        ("bare metal, not asked for", ("m7i.metal-24xl",)),
        ("with GPUs, not asked for", ("g4ad.xlarge", "g4dn.12xlarge", "g4dn.xlarge")),
        (
            "less than 3.5 CPUs for the pod",
            ("c7i.large", "hpc7.large", "m7i.large", "t3.large", "t3.nano", "t3.small"),
        ),
        ("less than 12Gi memory for the pod", ("c7i.xlarge",)),
    ]


def offered(
    data: MarketData | None = None, constraints: Constraints = CONSTRAINTS, **needs: Any
) -> list[str]:
    """`type zone market` of each offer."""
    found = choose(Requirements(**needs), CATALOGUE, constraints, market=data or MarketData())
    assert isinstance(found, Choice), found
    return [f"{o.instance_type.name} {o.zone[-1]} {o.launch_type}" for o in found.offers]


SPOT = MarketData(
    spot={
        ("m7i.xlarge", "us-east-1a"): 0.09,
        ("m7i.xlarge", "us-east-1b"): 0.07,
        ("c7i.xlarge", "us-east-1a"): 0.08,
        ("c7i.xlarge", "us-east-1b"): 0.3,
    }
)


def test_spot_is_ranked_by_its_price_in_each_zone() -> None:
    assert offered(SPOT, cpu_millis=3500, market="spot") == [
        "m7i.xlarge b spot",
        "c7i.xlarge a spot",
        "m7i.xlarge a spot",
        "m4.xlarge a spot",  # unknown: by its on-demand price
        "m4.xlarge b spot",
        "c7i.xlarge b spot",
        "x9.new a spot",
        "x9.new b spot",
    ]


def test_spot_in_words() -> None:
    found = choose(Requirements(cpu_millis=3500, market="spot"), CATALOGUE, CONSTRAINTS, market=SPOT)
    assert str(found) == (
        "chose m7i.xlarge in us-east-1b, spot $0.07/h; 4 of 17 types fit; best 3: m7i.xlarge $0.07/h, "
        "c7i.xlarge $0.08/h, m4.xlarge ~$0.2/h"
    )
    unknown = choose(Requirements(cpu_millis=3500, market="spot"), CATALOGUE, CONSTRAINTS)
    assert str(unknown).startswith(
        "chose c7i.xlarge in us-east-1a, spot price unknown, on-demand $0.1785/h; 4 of"
    )


def test_spot_preferred_is_spot_first_and_has_on_demand_at_hand() -> None:
    few = replace(CONSTRAINTS, max_offers=4)
    assert offered(SPOT, few, cpu_millis=3500, market="spot-preferred") == [
        "m7i.xlarge b spot",
        "c7i.xlarge a spot",
        "m7i.xlarge a spot",
        "c7i.xlarge a on-demand",
    ]


def test_nobody_prefers_spot_that_costs_more() -> None:
    every = offered(SPOT, cpu_millis=3500, market="spot-preferred")
    assert "c7i.xlarge b spot" not in every
    assert "c7i.xlarge b spot" in offered(SPOT, cpu_millis=3500, market="spot")


def test_spot_preferred_without_spot_is_on_demand() -> None:
    names = ("c7i.xlarge", "m7i.xlarge", "m4.xlarge", "x9.new")
    none: dict[Any, str] = {(name, zone, "spot"): "none" for name in names for zone in ZONES}
    found = choose(Requirements(cpu_millis=3500, market="spot-preferred"), CATALOGUE, CONSTRAINTS, none)
    assert isinstance(found, Choice)
    assert {offer.market for offer in found.offers} == {"on-demand"}
    assert found.offers[0].instance_type.name == "c7i.xlarge"


def test_a_type_that_is_never_spot_is_had_on_demand_when_spot_is_only_preferred() -> None:
    both = offered(cpu_millis=1900, market="spot-preferred")
    assert "hpc7.large a on-demand" in both
    assert "hpc7.large a spot" not in both


def test_dedicated_hardware() -> None:
    own = tuple(replace(k, dedicated_hosts=k.name.startswith("m")) for k in CATALOGUE)
    found = choose(Requirements(cpu_millis=3500, dedicated=True), own, CONSTRAINTS)
    assert str(found) == (
        "chose m7i.xlarge in us-east-1a, dedicated price unknown, shared on-demand $0.2016/h; 2 of 17 types fit; "
        "best 2: m7i.xlarge ~$0.2016/h, m4.xlarge ~$0.2/h"
    )
    assert isinstance(found, Choice)
    assert all(offer.dedicated and offer.market == "on-demand" for offer in found.offers)


def test_configured_types_bind_even_those_who_ask_for_another_by_name() -> None:
    only = replace(CONSTRAINTS, allowed=("c7i", "m*"), excluded=("*.metal*", "c7i.large"))
    assert offered(constraints=only, cpu_millis=1900)[0] == "m7i.large a on-demand"
    found = choose(Requirements(instance_type="t3.small", cpu_millis=100), CATALOGUE, only)
    assert isinstance(found, NoFit)
    assert found.message == "the only type that matches is not allowed by cells.instanceTypes"
    default = choose(Requirements(sized=False), CATALOGUE, only)
    assert isinstance(default, Choice)
    assert default.note == (
        "not the default t3.small: the only type that matches is not allowed by cells.instanceTypes"
    )


def test_a_default_that_is_special_is_meant() -> None:
    """Whoever configures bare metal or GPUs as the default gets them, and ordinary types as alternatives."""
    special = replace(CONSTRAINTS, default_instance_type="g4dn.xlarge")
    assert offered(constraints=special, sized=False)[:3] == [
        "g4dn.xlarge a on-demand",
        "g4dn.xlarge b on-demand",
        "m7i.xlarge a on-demand",
    ]


def test_zones_with_fewer_of_the_pods_like_come_first() -> None:
    wish = ZoneSpread(max_skew=1, required=False, counts={ZONES[0]: 1})
    first = offered(cpu_millis=3500, spreads=(wish,))
    assert [o.split()[1] for o in first] == ["b"] * 4 + ["a"] * 4
    must = ZoneSpread(max_skew=1, required=True, counts={ZONES[0]: 1})
    assert {o.split()[1] for o in offered(cpu_millis=3500, spreads=(must,))} == {"b"}


def test_volumes_bind_the_pod_to_their_zone() -> None:
    assert {o.split()[1] for o in offered(cpu_millis=3500, volume_zones=frozenset({ZONES[1]}))} == {"b"}


def test_what_a_zone_does_not_have_is_not_asked_for_there() -> None:
    data = MarketData(offered={ZONES[0]: frozenset({"m7i.xlarge"}), ZONES[1]: frozenset({"c7i.xlarge"})})
    assert offered(data, cpu_millis=3500) == ["c7i.xlarge b on-demand", "m7i.xlarge a on-demand"]


def test_labels_choose_types_zones_and_markets_together() -> None:
    terms = (
        (Rule("node.kubernetes.io/instance-type", "In", ("m7i.xlarge",)), Rule(ZONE, "In", (ZONES[0],))),
        (Rule("node.kubernetes.io/instance-type", "In", ("c7i.xlarge",)), Rule(ZONE, "In", (ZONES[1],))),
    )
    assert offered(cpu_millis=3500, terms=terms) == ["c7i.xlarge b on-demand", "m7i.xlarge a on-demand"]


def test_a_label_names_what_it_names_but_must_fit() -> None:
    assert chosen(
        cpu_millis=3500, terms=((Rule("node.kubernetes.io/instance-type", "In", ("m7i.metal-24xl",)),),)
    ) == ["m7i.metal-24xl"]
    assert nothing(
        cpu_millis=100, terms=((Rule("node.kubernetes.io/instance-type", "In", ("m9z.large",)),),)
    ) == (
        "NoInstanceFits",
        "the pod's node selector or affinity wants node.kubernetes.io/instance-type=m9z.large, and all 15 types that "
        "match are otherwise",
    )


def test_a_market_that_the_labels_forbid() -> None:
    only_spot = ((Rule("karpenter.sh/capacity-type", "In", ("spot",)),),)
    reason, message = nothing(cpu_millis=100, market="on-demand", terms=only_spot)
    assert reason == "NoInstanceFits"
    assert message == (
        "no type that fits can be had on the market on-demand in us-east-1a, us-east-1b, as the pod wants it"
    )


def test_kinds_of_gpus() -> None:
    kinds = (*CATALOGUE, kind("g5.xlarge", 4, 16, 1.0, gpus=1, gpu_manufacturer="NVIDIA", gpu_name="A10G"))
    assert chosen(kinds, gpus=1, gpu_kinds=("a10g",)) == ["g5.xlarge"]
    assert chosen(kinds, gpus=1, gpu_kinds=("a10g", "nvidia-tesla-t4"))[0] == "g4dn.xlarge"
    product = ((Rule("nvidia.com/gpu.product", "In", ("NVIDIA-A10G",)),),)
    assert chosen(kinds, gpus=1, terms=product) == ["g5.xlarge"]
    assert nothing(gpus=1, gpu_kinds=("h100",)) == (
        "NoInstanceFits",
        "no instance type has 1 NVIDIA GPU of the kind h100: the most of 13 that match is 4, in g4dn.12xlarge; kinds "
        "that match are T4",
    )


def test_a_fraction_of_a_gpu_is_for_those_who_ask_for_it() -> None:
    part = kind("g6f.large", 2, 8, 0.2, gpus=1, gpu_manufacturer="NVIDIA", gpu_name="L4", gpu_fraction=True)
    assert chosen((*CATALOGUE, part), gpus=1)[0] == "g4dn.xlarge"
    assert chosen((*CATALOGUE, part), gpus=1, instance_type="g6f*") == ["g6f.large"]


def test_macs_and_accelerators() -> None:
    more = (
        *CATALOGUE,
        kind("mac1.metal", 12, 32, 0.01, linux=False, bare_metal=True),
        kind("inf1.xlarge", 4, 8, 0.01, accelerator="Inferentia"),
    )
    assert chosen(more, cpu_millis=3500)[0] == "c7i.xlarge"
    assert chosen(more, instance_type="inf1*", cpu_millis=100) == ["inf1.xlarge"]
    found = choose(Requirements(instance_type="mac1.metal"), more, CONSTRAINTS)
    assert isinstance(found, NoFit)
    assert found.message == "the only type that matches is of Apple's, without Linux"


def test_t2_is_not_for_pods_that_need_more_than_its_baseline_for_long() -> None:
    t2 = kind("t2.large", 2, 8, 0.01, burstable=True, baseline_per_mille=300.0)
    assert chosen((*CATALOGUE, t2), cpu_millis=600)[0] == "t2.large"
    assert "t2.large" not in chosen((*CATALOGUE, t2), cpu_millis=601)
    assert chosen((*CATALOGUE, t2), instance_type="t2.large", cpu_millis=601) == ["t2.large"]


def test_huge_pages_are_taken_out_of_memory() -> None:
    assert chosen(memory_bytes=2 * GIB)[0] == "hpc7.large"
    assert chosen(memory_bytes=2 * GIB, huge_pages=(HugePages("hugepages-1Gi", 2),))[0] != "hpc7.large"


def test_what_no_cell_has() -> None:
    assert nothing(cpu_millis=1, other_resources=("amd.com/gpu", "example.com/x")) == (
        "NoInstanceFits",
        "the pod requests amd.com/gpu, example.com/x, which no cell has",
    )


def test_memory_that_was_seen_replaces_the_estimate() -> None:
    wanted = 7 * GIB
    assert "m7i.large" not in chosen(memory_bytes=wanted)
    data = MarketData(memory_bytes={"m7i.large": 7900 * MIB})
    assert "m7i.large a on-demand" in offered(data, memory_bytes=wanted)


def test_rejections_say_what_is_there_instead() -> None:
    found = choose(Requirements(cpu_millis=3500, memory_bytes=12 * GIB), CATALOGUE, CONSTRAINTS)
    by_reason = {rejection.reason: rejection for rejection in found.rejected}
    assert by_reason["less than 3.5 CPUs for the pod"].instead["m7i.large"] == "leaves 1.93 of 2 CPUs"
    assert by_reason["less than 12Gi memory for the pod"].instead["c7i.xlarge"] == "leaves 7Gi of 8Gi"
    assert str(by_reason["bare metal, not asked for"]) == "1 bare metal, not asked for"
