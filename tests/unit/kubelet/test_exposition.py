from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kip.kubelet.exposition import Merged, families, value_of, with_label

CADVISOR = b"""\
# HELP cadvisor_version_info A metric with a constant '1' value
# TYPE cadvisor_version_info gauge
cadvisor_version_info{kernelVersion="6.1"} 1
# HELP container_cpu_usage_seconds_total Cumulative cpu time consumed in seconds.
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="",id="/",image="",name="",namespace="",pod=""} 12.5 1700000000000
container_cpu_usage_seconds_total{container="app",id="/kubepods/x",namespace="ns",pod="%b"} 2.5 1700000000000
# HELP machine_cpu_cores Number of logical CPU cores.
# TYPE machine_cpu_cores gauge
machine_cpu_cores 2
"""


def merged(**answers: bytes) -> str:
    result = Merged()
    for cell, text in answers.items():
        result.add(cell, text)
    return result.encode().decode()


def test_one_head_per_metric_and_no_two_series_alike() -> None:
    text = merged(a=CADVISOR % b"web-0", b=CADVISOR % b"web-1")
    assert text.count("# TYPE container_cpu_usage_seconds_total counter") == 1
    assert text.count("# HELP machine_cpu_cores") == 1
    parsed = list(text_string_to_metric_families(text))
    series = [
        (sample.name, tuple(sorted(sample.labels.items()))) for family in parsed for sample in family.samples
    ]
    assert len(series) == len(set(series)) == 8


def test_only_series_of_no_pod_get_the_cell() -> None:
    text = merged(a=CADVISOR % b"web-0")
    assert 'machine_cpu_cores{cell="a"} 2' in text
    assert 'container_cpu_usage_seconds_total{cell="a",container="",id="/"' in text
    assert (
        'container_cpu_usage_seconds_total{container="app",id="/kubepods/x",namespace="ns",pod="web-0"} 2.5'
        in text
    )


def test_histograms_stay_together() -> None:
    text = b"""\
# HELP prober_probe_duration_seconds Duration
# TYPE prober_probe_duration_seconds histogram
prober_probe_duration_seconds_bucket{pod="p",le="1"} 1
prober_probe_duration_seconds_bucket{pod="p",le="+Inf"} 1
prober_probe_duration_seconds_sum{pod="p"} 0.5
prober_probe_duration_seconds_count{pod="p"} 1
process_start_time_seconds 5
"""
    assert [(family.name, len(family.samples)) for family in families(text)] == [
        (b"prober_probe_duration_seconds", 4),
        (b"process_start_time_seconds", 1),
    ]
    assert merged(a=text, b=text).count("# TYPE prober_probe_duration_seconds histogram") == 1


def test_comments_and_blank_lines_are_dropped() -> None:
    assert merged(a=b"\n# a comment\nup 1\n\n# EOF\n") == 'up{cell="a"} 1\n'


def test_nothing_of_nobody() -> None:
    assert Merged().encode() == b""


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (b"up 1", b'up{cell="a"} 1'),
        (b"up{} 1", b'up{cell="a"} 1'),
        (b'up{x="y"} 1 5', b'up{cell="a",x="y"} 1 5'),
        (b'up{x="} {"} 1', b'up{cell="a",x="} {"} 1'),
    ],
)
def test_with_label(sample: bytes, expected: bytes) -> None:
    assert with_label(sample, b"cell", "a") == expected


def test_label_values_are_escaped() -> None:
    assert with_label(b"up 1", b"cell", 'a"\\\n') == b'up{cell="a\\"\\\\\\n"} 1'


def test_a_pod_label_inside_a_value_is_none() -> None:
    assert 'cell="a"' in merged(a=b'up{x="y,pod=\\"z\\""} 1\n')


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (b"up 1", (1.0, None)),
        (b'up{x="} 5 5"} 2.5e3 1700', (2500.0, 1700)),
        (b"up NaN-ish", None),
        (b"up", None),
        (b"", None),
    ],
)
def test_value_of(sample: bytes, expected: tuple[float, int | None] | None) -> None:
    assert value_of(sample) == expected
