"""`kip config check`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kip.config import check
from kip.config.types import format_seconds


def test_what_will_be_used_and_where_it_is_from(write: Callable[[str], Path]) -> None:
    path = write(
        """\
        cloud: {aws: {accessKeyID: AKIA, secretAccessKey: s3cr3t}}
        cells:
          defaultVolumeSize: 20Gi
          deadManSwitch: 90m
          bootImageSpec: {owners: amazon, filters: name=x-*}
          standbyCells: [{instanceType: t3.small}]
        kubelet:
          cpu: 64
        testing: {controllerID: x}
        """
    )
    report = check(path, {"POD_IP": "10.0.0.4"})
    assert report.ok
    text = str(report).splitlines()
    assert text[:4] == [
        "warning: line 6: cells.standbyCells: checked, but without effect: this version keeps no standby cells",
        "warning: line 8: kubelet.cpu: now written kubelet.capacity.cpu",
        "warning: line 9: testing: ignored; the cluster is named by cluster.name, AWS's address given by "
        "cloud.aws.endpointURL",
        f"{path}: ok; what will be used:",
    ]
    lines = {line.split(":")[0].strip(): " ".join(line.split()) for line in text[4:]}
    assert lines["cloud.aws.secretAccessKey"] == "cloud.aws.secretAccessKey: (secret) # line 1"
    assert lines["cells.defaultVolumeSize"] == "cells.defaultVolumeSize: 20Gi # line 3"
    assert lines["cells.deadManSwitch"] == "cells.deadManSwitch: 1h30m # line 4"
    assert lines["cells.bootImageSpec.filters"] == "cells.bootImageSpec.filters: {name: [x-*]} # line 5"
    assert lines["cells.standbyCells"] == (
        "cells.standbyCells: [{instanceType: t3.small, count: 0, spot: false, dedicated: false}] # line 6"
    )
    assert lines["kubelet.nodeIP"] == "kubelet.nodeIP: 10.0.0.4 # environment variable POD_IP"
    assert lines["kubelet.capacity"] == (
        "kubelet.capacity: {cpu: 64, memory: 100Gi, pods: 20, ephemeral-storage: 400Gi} # line 8"
    )
    assert lines["cluster.name"] == "cluster.name: (none) # default"
    assert "s3cr3t" not in str(report)


def test_what_is_ignored_has_no_part_in_it(write: Callable[[str], Path]) -> None:
    report = check(write("cells: {bootImageSpec: {owners: '689494258501'}}"), {})
    owners = next(line for line in report.lines if line.path[-1] == "owners")
    assert (owners.value, owners.origin) == ("[]", "default")


def test_a_wrong_file(write: Callable[[str], Path]) -> None:
    path = write("a: 1")
    report = check(path, {})
    assert not report.ok
    assert str(report) == (
        f"{path}: 1 problem\n  line 1: a: unknown key; known here: apiVersion, kind, cloud, cells, kubelet, "
        "cluster, registries, health, log"
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (90, "1m30s"), (7200, "2h"), (1.5, "1s500ms"), (0.25, "250ms")]
)
def test_durations_are_written_as_they_are_read(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
