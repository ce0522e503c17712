"""A file with instance data of one's own, on top of the catalogue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from kip.cloud import catalogue
from kip.cloud.instance_data import InstanceData, of
from kip.config import ConfigError
from kip.model.instance_type import InstanceType
from kip.model.market import MarketData

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(text: str) -> Path:
        path = tmp_path / "instances.yaml"
        path.write_text(dedent(text))
        return path

    return to_file


def types(data: InstanceData, region: str = "us-east-1") -> dict[str, InstanceType]:
    return {kind.name: kind for kind in data.types(catalogue.load(region))}


def test_without_a_file_nothing_changes() -> None:
    known = catalogue.load("us-east-1")
    assert of(None, "us-east-1").types(known) == known
    assert of(None, "us-east-1").market() == MarketData()


def test_an_entry_changes_what_it_names_and_nothing_else(write: Write) -> None:
    data = of(write("us-east-1: [{instanceType: m7i.large, price: 0.08}]"), "us-east-1")
    changed, before = types(data)["m7i.large"], {k.name: k for k in catalogue.load("us-east-1")}["m7i.large"]
    assert changed.usd_per_hour == 0.08
    assert (changed.vcpus, changed.memory_mib, changed.zone_ids) == (
        before.vcpus,
        before.memory_mib,
        before.zone_ids,
    )
    assert len(types(data)) == len(catalogue.load("us-east-1"))


def test_other_regions_are_not_ours_but_the_star_is(write: Write) -> None:
    path = write(
        """\
        "*": [{instanceType: m7i.large, price: 0.08}]
        eu-west-1: [{instanceType: m7i.large, price: 0.09}]
        """
    )
    assert types(of(path, "us-east-1"))["m7i.large"].usd_per_hour == 0.08
    assert types(of(path, "eu-west-1"), "eu-west-1")["m7i.large"].usd_per_hour == 0.09


def test_a_file_of_the_first_kip(write: Write) -> None:
    path = write(
        """\
        {"us-east-1": [
          {"instanceType": "t3.nano", "price": 0.0052, "spotPrice": 0.0016, "memory": 0.5, "cpu": 2, "gpu": 0,
           "burstable": true, "baseline": 0.1, "generation": "current"},
          {"instanceType": "p3.2xlarge", "price": 3.06, "spotPrice": 0, "memory": 61, "cpu": 8, "gpu": 1,
           "burstable": false, "baseline": 0, "generation": "previous", "supportedGPUTypes": {"V100": 1}}
        ]}
        """
    )
    data = of(path, "us-east-1")
    nano, gpu = types(data)["t3.nano"], types(data)["p3.2xlarge"]
    assert (nano.memory_mib, nano.burstable, nano.baseline_per_mille) == (512, True, 50.0)
    assert (gpu.gpus, gpu.gpu_name, gpu.gpu_manufacturer, gpu.current_generation) == (
        1,
        "V100",
        "NVIDIA",
        False,
    )
    assert (gpu.vcpus, gpu.memory_mib, gpu.usd_per_hour) == (8, 61 * 1024, 3.06)
    market = data.market()
    assert market.spot_price("t3.nano", "us-east-1a") == 0.0016
    assert market.spot_price("p3.2xlarge", "us-east-1a") is None


def test_types_can_be_added_and_taken_away(write: Write) -> None:
    path = write(
        """\
        us-east-1:
          - {instanceType: m99g.large, cpu: 2, memory: 8Gi, architecture: arm64, price: 0.05}
          - {instanceType: m7i.large, offered: false}
          - {instanceType: p4d.24xlarge, gpuMemory: 40}
        ap-southeast-5:
          - {instanceType: p4d.24xlarge, price: 40}
        """
    )
    found = types(of(path, "us-east-1"))
    assert (found["m99g.large"].architecture, found["m99g.large"].memory_mib) == ("arm64", 8192)
    assert "m7i.large" not in found
    assert list(found) == sorted(found)
    # Known elsewhere: its shape need not be given.
    assert types(of(path, "ap-southeast-5"), "ap-southeast-5")["p4d.24xlarge"].gpus == 8


def test_prices_of_zones_and_on_demand_go_on_top_of_what_ec2_said(write: Write) -> None:
    path = write(
        """\
        us-east-1:
          - {instanceType: m7i.large, price: 0.08, spotPrice: {us-east-1a: 0.02, us-east-1b: 0.03}}
        """
    )
    known = MarketData(
        on_demand={"m7i.large": 0.1, "m6i.large": 0.09},
        spot={("m7i.large", "us-east-1a"): 0.05, ("x", "y"): 1.0},
    )
    market = of(path, "us-east-1").market(known)
    assert market.spot == {
        ("m7i.large", "us-east-1a"): 0.02,
        ("m7i.large", "us-east-1b"): 0.03,
        ("x", "y"): 1.0,
    }
    assert market.on_demand == {"m6i.large": 0.09}


def test_a_price_for_all_zones_replaces_what_ec2_said_of_each(write: Write) -> None:
    path = write(
        "us-east-1: [{instanceType: m7i.large, spotPrice: 0.02}, {instanceType: c7i.large, spotPrice: 0}]"
    )
    spot = {("m7i.large", "us-east-1a"): 0.05, ("c7i.large", "us-east-1a"): 0.04}
    market = of(path, "us-east-1").market(MarketData(spot=spot))
    assert market.spot_price("m7i.large", "us-east-1a") == 0.02
    assert market.spot_price("c7i.large", "us-east-1a") == 0.04


def test_everything_wrong_is_said_with_path_value_and_expectation(write: Write) -> None:
    path = write(
        """\
        us-east-1:
          - {instanceType: m7i.large, price: cheap}
          - {instanceType: m7i.large, cores: 2}
          - {price: 1}
          - {instanceType: big.one, cpu: 2}
          - {instanceType: m7i.large, spotPrice: {us-east-1a: -1}}
          - m7i.large
        moon: []
        eu-west-1: {instanceType: m7i.large}
        """
    )
    with pytest.raises(ConfigError) as caught:
        of(path, "us-east-1")
    assert [str(problem) for problem in caught.value.problems] == [
        "line 2: us-east-1[0].price: expected US dollars an hour as a number, not 'cheap'",
        "line 3: us-east-1[1].cores: unknown key; known here: instanceType, cpu, memory, architecture, price, spotPrice, "
        "dedicatedPrice, gpu, gpuType, gpuMemory, supportedGPUTypes, burstable, baseline, generation, offered",
        "line 4: us-east-1[2].instanceType: missing; this key is required",
        "line 5: us-east-1[3]: big.one is not in the catalogue: its entry needs memory",
        "line 6: us-east-1[4].spotPrice: expected US dollars an hour as a number, or zones with such numbers",
        "line 7: us-east-1[5]: expected a mapping of keys to values, not 'm7i.large'",
        "line 8: moon: unknown key; expected a region like us-east-1, or * for all",
        "line 9: eu-west-1: expected a list of instance types",
    ]


@pytest.mark.parametrize("text", ["[1]", "a: [", "{,}"])
def test_what_is_no_such_file_at_all(write: Write, text: str) -> None:
    with pytest.raises(ConfigError):
        of(write(text), "us-east-1")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        of(tmp_path / "none.yaml", "us-east-1")
