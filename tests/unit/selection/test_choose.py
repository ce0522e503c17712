"""The choice of a machine, over a small catalogue of our own and over all of AWS's."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kip.cloud.catalogue import load
from kip.model.instance_type import InstanceType
from kip.model.quantity import GIB, MIB
from kip.model.requirements import Requirements
from kip.model.reserve import reserve
from kip.selection.choose import Choice, Chooser, Constraints, NoFit, choose
from kip.selection.filters import LEAST_MEMORY_BYTES

ZONES = ("us-east-1a", "us-east-1b")
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


def test_an_exact_type_counts_whatever_is_requested() -> None:
    found = choose(Requirements(instance_type="t3.nano", cpu_millis=8000), CATALOGUE, CONSTRAINTS)
    assert isinstance(found, Choice)
    assert [offer.instance_type.name for offer in found.offers] == ["t3.nano", "t3.nano"]
    assert found.note == "as its annotation says, though it leaves less than the 8 CPU requested"


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


def test_a_default_of_the_wrong_architecture_is_not_taken() -> None:
    needs = Requirements(sized=False, architectures=frozenset({"arm64"}))
    found = choose(needs, CATALOGUE, CONSTRAINTS)
    assert isinstance(found, Choice)
    assert str(found) == (
        "chose c7g.xlarge in us-east-1a, on-demand, $0.145/h (not the default t3.small: the pod's node selector or "
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
        "chose c7i.xlarge in us-east-1a, on-demand, $0.1785/h; 4 of 17 types fit; next would be m7i.xlarge, "
        "m4.xlarge, x9.new"
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


ALL = load("us-east-1")
CHOOSER = Chooser(ALL)
NEEDS = st.builds(
    Requirements,
    cpu_millis=st.integers(0, 200_000),
    memory_bytes=st.integers(0, 2048).map(lambda gib: gib * GIB),
    gpus=st.sampled_from([0, 0, 0, 1, 4, 8]),
    architectures=st.sampled_from(
        [None, frozenset({"amd64"}), frozenset({"arm64"}), frozenset({"amd64", "arm64"})]
    ),
    market=st.sampled_from(["on-demand", "spot"]),
    instance_type=st.sampled_from([None, None, "m*", "c7*", "*.xlarge", "t3*"]),
)


def fits(kind: InstanceType, needs: Requirements) -> bool:
    """By the kubelet's own admission: what is requested against what is allocatable."""
    kept = reserve(vcpus=kind.vcpus, memory_mib=kind.memory_mib, architecture=kind.architecture)
    return (
        kind.vcpus * 1000 - kept.cpu_millis >= needs.cpu_millis
        and kind.memory_mib * MIB - kept.memory_bytes >= max(needs.memory_bytes, LEAST_MEMORY_BYTES)
        and kind.gpus >= needs.gpus
        and kind.max_ipv4_per_eni >= 2
        and (needs.architectures is None or kind.architecture in needs.architectures)
        and (needs.market != "spot" or kind.spot)
    )


@given(NEEDS)
def test_whatever_is_chosen_is_large_enough(needs: Requirements) -> None:
    found = CHOOSER.choose(needs, CONSTRAINTS)
    if isinstance(found, Choice):
        assert all(fits(offer.instance_type, needs) for offer in found.offers)


@given(NEEDS)
def test_nothing_that_fits_costs_less_than_the_first(needs: Requirements) -> None:
    """Burstable types apart, whose surplus is a price of its own; others of the same kind as the chosen one."""
    found = CHOOSER.choose(needs, CONSTRAINTS)
    if not isinstance(found, Choice) or found.offers[0].instance_type.burstable:
        return
    best = found.offers[0].instance_type
    names = {name for rejection in found.rejected for name in rejection.types}
    for other in ALL:
        if other.name in names or other.burstable or other.usd_per_hour is None:
            continue
        assert fits(other, needs)
        assert best.usd_per_hour is not None
        penalty = (1.0 if other.current_generation else 1.2) / (1.0 if best.current_generation else 1.2)
        assert best.usd_per_hour <= other.usd_per_hour * penalty + 1e-9


@given(NEEDS)
def test_every_type_either_fits_or_has_a_reason(needs: Requirements) -> None:
    found = CHOOSER.choose(needs, replace(CONSTRAINTS, max_offers=10_000))
    rejected = {name for rejection in found.rejected for name in rejection.types}
    offered = {offer.instance_type.name for offer in found.offers} if isinstance(found, Choice) else set()
    assert rejected | offered == {kind.name for kind in ALL}
    assert not rejected & offered


@given(NEEDS, st.randoms(use_true_random=False))
def test_the_catalogues_order_does_not_matter(needs: Requirements, chance: random.Random) -> None:
    shuffled = list(CATALOGUE)
    chance.shuffle(shuffled)
    first, second = choose(needs, CATALOGUE, CONSTRAINTS), choose(needs, shuffled, CONSTRAINTS)
    assert type(first) is type(second)
    if isinstance(first, Choice) and isinstance(second, Choice):
        assert first.offers == second.offers
    assert str(first.rejected) == str(second.rejected)
