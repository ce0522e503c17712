"""`kip choose` as people and programs use it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from click.testing import CliRunner, Result

from kip import cli

Invoke = Callable[..., Result]

WEB = """\
kind: Pod
metadata: {name: web}
spec:
  containers: [{name: app, image: i, resources: {requests: {cpu: 1500m, memory: 3Gi}}}]
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    def to_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(dedent(text))
        return path

    return to_file


@pytest.fixture
def invoke() -> Invoke:
    def run(*arguments: object, stdin: str | None = None) -> Result:
        return CliRunner().invoke(cli.main, ["choose", *map(str, arguments)], input=stdin)

    return run


def test_a_ranking_with_prices_and_what_the_machine_keeps(invoke: Invoke) -> None:
    result = invoke("-f", "-", "--region", "eu-west-1", stdin=WEB)
    assert result.exit_code == 0, result.output
    assert "eu-west-1, zones a b c; on-demand prices of 2025-05-28" in result.output
    assert "Pod web: 1500m CPU, 3Gi memory" in result.output
    assert "  chose " in result.output
    assert "the machine keeps 70m CPU" in result.output
    assert "types that do not fit" not in result.output


def test_explanations(invoke: Invoke) -> None:
    result = invoke("-f", "-", "--explain", stdin=WEB)
    assert "container app: 1500m CPU, 3Gi memory" in result.output
    assert "with GPUs, not asked for: g4dn.12xlarge" in result.output
    assert "leaves 0.94 of 1 CPU" in result.output


def test_for_programs(invoke: Invoke) -> None:
    found = json.loads(invoke("-f", "-", "-o", "json", "--explain", "--max", "2", stdin=WEB).output)
    assert (found["region"], found["pricesAsOf"]) == ("us-east-1", "2026-07-20")
    (web,) = found["workloads"]
    assert web["needs"]["cpuMillis"] == 1500
    assert len(web["ranking"]) == 2
    first = web["ranking"][0]
    assert first["usdPerHour"] == first["onDemandUSDPerHour"]
    assert (
        first["left"]["memoryBytes"]
        + sum(
            first["reserve"][key]
            for key in ("hypervisorAndKernelBytes", "kubeletAndSystemBytes", "evictionBytes")
        )
        == first["memoryMiB"] * 2**20
    )
    reasons = {entry["reason"]: entry["types"] for entry in web["rejected"]}
    assert {"instanceType": "t2.small", "has": "leaves 0.94 of 1 CPU"} in reasons[
        "less than 1.5 CPUs for the pod"
    ]
    assert web["fitting"] + sum(map(len, reasons.values())) == 1375


def test_a_pod_that_fits_nothing_makes_the_command_fail(invoke: Invoke) -> None:
    result = invoke("-f", "-", stdin=WEB.replace("1500m", "5000"))
    assert result.exit_code == 1
    assert "no instance type has 5000 CPUs for a pod" in result.output


def test_wrong_annotations_are_said(invoke: Invoke) -> None:
    text = WEB.replace("name: web", "name: web, annotations: {pod.elotl.co/launch-type: cheap}")
    result = invoke("-f", "-", stdin=text)
    assert result.exit_code == 1
    assert "annotation pod.elotl.co/launch-type: 'cheap' is not allowed" in result.output
    found = json.loads(invoke("-f", "-", "-o", "json", stdin=text).output)
    assert "cheap" in found["workloads"][0]["refused"]


def test_without_any_price_a_small_pod_gets_a_small_machine(invoke: Invoke) -> None:
    found = json.loads(invoke("-f", "-", "-o", "json", "--region", "us-west-9", stdin=WEB).output)
    first = found["workloads"][0]["ranking"][0]
    assert first["usdPerHour"] is None
    assert (first["vcpus"], first["memoryMiB"]) == (2, 4096)


def test_an_annotation_that_nobody_knows_is_said(invoke: Invoke) -> None:
    text = WEB.replace("name: web", "name: web, annotations: {pod.elotl.co/lauch-type: spot}")
    result = invoke("-f", "-", stdin=text)
    assert result.exit_code == 0
    warning = "annotation pod.elotl.co/lauch-type has no effect: did you mean pod.elotl.co/launch-type?"
    assert f"  warning: {warning}\n  chose " in result.output
    found = json.loads(invoke("-f", "-", "-o", "json", stdin=text).output)
    assert found["workloads"][0]["warnings"] == [warning]


def test_an_amount_that_is_none_is_told_with_its_resource(invoke: Invoke) -> None:
    result = invoke("-f", "-", stdin=WEB.replace("1500m", "1x"))
    assert "would get no cell: cpu: '1x' is not a quantity" in result.output


def test_a_daemon_set_gets_no_cell_unless_it_is_allowed(
    invoke: Invoke, write: Callable[[str, str], Path]
) -> None:
    text = "{kind: DaemonSet, metadata: {name: a}, spec: {template: {spec: {containers: [{name: c}]}}}}"
    assert "would get no cell: pods of DaemonSets" in invoke("-f", "-", stdin=text).output
    allowed = write("provider.yaml", "cells: {allowDaemonSets: true}")
    result = invoke("-f", "-", "--config", allowed, stdin=text)
    assert result.exit_code == 0
    assert "would get no cell" not in result.output


def test_the_configuration_counts(invoke: Invoke, write: Callable[[str, str], Path]) -> None:
    write("own.yaml", "eu-west-1: [{instanceType: m7i.large, price: 0.01, spotPrice: 0.002}]")
    provider = write(
        "provider.yaml",
        """\
        cloud: {aws: {region: eu-west-1}}
        cells:
          instanceTypes: {allowed: [m7i, m6i]}
          instanceData: own.yaml
          defaultVolumeSize: 50Gi
        """,
    )
    result = invoke("-f", "-", "--config", provider, stdin=WEB)
    assert "chose m7i.large in eu-west-1a, on-demand $0.01/h" in result.output
    assert "root volume 50Gi" in result.output
    spot = WEB.replace("name: web", "name: web, annotations: {pod.elotl.co/launch-type: spot}")
    assert "spot $0.002/h" in invoke("-f", "-", "--config", provider, stdin=spot).output


def test_zones_by_their_ids_leave_out_what_they_do_not_have(invoke: Invoke) -> None:
    oldest = invoke("-f", "-", "--zones", "us-east-1a=use1-az3", "-o", "json", stdin=WEB)
    newer = invoke("-f", "-", "--zones", "us-east-1a=use1-az4", "-o", "json", stdin=WEB)
    first, second = (json.loads(result.output)["workloads"][0] for result in (oldest, newer))
    assert 0 < first["fitting"] < second["fitting"] / 5


def test_the_region_of_the_environment(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert invoke("-f", "-", stdin=WEB).output.startswith("eu-north-1, zones a b c;")


def test_a_region_that_nobody_knows_yet(invoke: Invoke) -> None:
    result = invoke("-f", "-", "--region", "xx-moon-1", stdin=WEB)
    assert result.exit_code == 0
    assert "prices unknown" in result.output
    assert "price unknown" in result.output


def test_several_files_and_what_is_passed_over(invoke: Invoke, write: Callable[[str, str], Path]) -> None:
    web, other = write("web.yaml", WEB), write("other.yaml", "{kind: Service, metadata: {name: s}}")
    result = invoke("-f", web, "-f", other)
    assert result.exit_code == 0
    assert "Service s has no pods: passed over" in result.output


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        (("-f", "none.yaml"), None, "none.yaml: cannot be read: No such file or directory"),
        (("-f", "-"), "kind: [", "-: line 1: is not YAML"),
        (("-f", "-"), "", "-: no pod in it, and nothing that makes pods"),
        (("-f", "-"), "{kind: Service, metadata: {name: s}}", "nothing that makes pods: Service s"),
        (("-f", "-", "--region", "moon"), WEB, "--region: expected a region like us-east-1, not 'moon'"),
        (("-f", "-", "--zones", "eu-west-1a"), WEB, "--zones: expected zones of us-east-1, like us-east-1a"),
        (("-f", "-", "--config", "none.yaml"), WEB, "none.yaml"),
    ],
)
def test_what_is_wrong_is_one_line_and_status_1(
    invoke: Invoke, arguments: tuple[str, ...], stdin: str | None, said: str
) -> None:
    result = invoke(*arguments, stdin=stdin)
    assert result.exit_code == 1
    assert said in result.output
    assert "Traceback" not in result.output
