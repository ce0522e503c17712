"""deploy/observability/alerts.yaml: each alert fires when it should, and only then; and people are told what to do."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "doubles"))

import prometheus_program

from kip.observe.definitions import DEFINITIONS, IMAGE_CACHE

PROJECT = Path(__file__).parents[2]
RULES = PROJECT / "deploy" / "observability" / "alerts.yaml"
RUNBOOKS = PROJECT / "docs" / "runbooks"
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
}

Series = dict[str, str]
"""Of a minute each, in promtool's notation: `0x9` is ten times 0, `0+2x9` is 0 2 4 … 18."""

SERVED: Series = {
    'kip_leader{job="kip",node="n",instance="a"}': "1x90",
    'kip_leader{job="kip",node="n",instance="b"}': "0x90",
}


@dataclass(frozen=True)
class Case:
    """Series with which the alert fires, and such with which all is well; looked at after so many minutes."""

    fires: Series
    quiet: Series = field(default_factory=lambda: SERVED)
    minutes: int = 60


def aws(result: str, values: str, action: str = "RunInstances") -> Series:
    return {f'kip_aws_calls_total{{job="kip",action="{action}",result="{result}"}}': values}


def launches(result: str, reason: str, values: str) -> Series:
    return {f'kip_cell_launches_total{{job="kip",result="{result}",reason="{reason}"}}': values}


def started(fast: str, all_: str) -> Series:
    name, labels = "kip_pod_start_seconds", 'job="kip",stage="running"'
    return {
        f'{name}_bucket{{{labels},le="10"}}': fast,
        f'{name}_bucket{{{labels},le="600"}}': all_,
        f'{name}_bucket{{{labels},le="+Inf"}}': all_,
        f"{name}_count{{{labels}}}": all_,
    }


CASES: dict[str, Case] = {
    "KipDown": Case({'something_else{job="kip"}': "1x90"}),
    "KipNodeNotServed": Case({'kip_leader{job="kip",node="n"}': "0x90"}),
    "KipNodeServedTwice": Case(
        {
            'kip_leader{job="kip",node="n",instance="a"}': "1x90",
            'kip_leader{job="kip",node="n",instance="b"}': "1x90",
        }
    ),
    "KipNodeNotReady": Case(
        {'kip_node_ready{job="kip",node="n"}': "0x90"}, {'kip_node_ready{job="kip",node="n"}': "1x90"}
    ),
    "KipCellsWithoutMachine": Case(
        {'kip_cells{job="kip",phase="Failed"}': "2x90"},
        {'kip_cells{job="kip",phase="Failed"}': "0 1 1 0x90", 'kip_cells{job="kip",phase="Running"}': "2x90"},
    ),
    "KipCellStuck": Case(
        {'kip_cells_oldest_seconds{job="kip",phase="Terminating"}': "0+60x90"},
        {
            'kip_cells_oldest_seconds{job="kip",phase="Running"}': "0+60x90",
            'kip_cells_oldest_seconds{job="kip",phase="Booting"}': "60x90",
        },
    ),
    "KipPodsStartSlowly": Case(started("0+1x90", "0+2x90"), started("0+2x90", "0+2x90")),
    "KipLaunchesRefused": Case(
        launches("error", "NotAuthorized", "0+1x90"), launches("error", "InsufficientCapacity", "0+1x90")
    ),
    "KipNoCapacity": Case(
        {**launches("error", "InsufficientCapacity", "0+3x90"), **launches("ok", "", "0+1x90")},
        {**launches("error", "InsufficientCapacity", "0+1x90"), **launches("ok", "", "0+1x90")},
    ),
    "KipMachinesGivenUp": Case(
        {'kip_cells_given_up_total{job="kip",reason="BootFailed"}': "0+1x90"},
        {'kip_cells_given_up_total{job="kip",reason="BootFailed"}': "0 1x90"},
    ),
    "KipCellsUnreachable": Case(
        {
            'kip_cells{job="kip",phase="Running"}': "3x90",
            'kip_tunnels{job="kip",state="open"}': "2x90",
            'kip_tunnels{job="kip",state="dialling"}': "1x90",
        },
        {
            'kip_cells{job="kip",phase="Running"}': "3x90",
            'kip_tunnels{job="kip",state="open"}': "3x90",
            'kip_tunnels{job="kip",state="dialling"}': "1x90",
        },
    ),
    "KipAwsUnreachable": Case(
        {**aws("CloudUnreachable", "0+3x90"), **aws("ok", "0+1x90")},
        {**aws("CloudUnreachable", "0+1x90"), **aws("ok", "0+9x90")},
    ),
    "KipAwsForbidden": Case(
        aws("NotAuthorized", "0+1x90", "DescribeAvailabilityZones"),
        aws("NotAuthorized", "0+1x90", "DescribeSpotPriceHistory"),  # only prices are worse without it
    ),
    "KipAwsThrottled": Case(aws("Throttled", "0+10x90"), aws("Throttled", "0+1x90")),
    "KipErrors": Case(
        {'kip_reconciles_total{job="kip",result="error"}': "0+2x90"},
        {
            'kip_reconciles_total{job="kip",result="error"}': "0 3x90",
            'kip_reconciles_total{job="kip",result="done"}': "0+9x90",
        },
    ),
    "KipQueueBacklog": Case(
        {'kip_queue_depth{job="kip",state="waiting"}': "5x90"},
        {
            'kip_queue_depth{job="kip",state="waiting"}': "0x90",
            'kip_queue_depth{job="kip",state="active"}': "9x90",
        },
    ),
    "KipImageCacheBlocked": Case(
        {'kip_image_cache_blocked{job="kip",what="fetching"}': "1x90"},
        {'kip_image_cache_blocked{job="kip",what="fetching"}': "0x90"},
    ),
    "KipImageCacheFailing": Case(
        {
            'kip_image_cache_fetches_total{job="kip",result="ImageDenied"}': "0+1x150",
            'kip_image_cache_queue{job="kip",state="failed"}': "1x150",
        },
        {
            'kip_image_cache_fetches_total{job="kip",result="present"}': "0+9x150",
            'kip_image_cache_queue{job="kip",state="failed"}': "1x150",
        },
        minutes=120,
    ),
    # Of promtool's time, which begins in 1970.
    "KipUseNotTold": Case(
        {'kip_metering_told_timestamp_seconds{job="kip",product="p"}': "0x600"},
        {'kip_metering_told_timestamp_seconds{job="kip",product="p"}': "0+60x600"},
        minutes=280,
    ),
    "KipPriceUnknown": Case(
        {'kip_cells_of_unknown_price{job="kip"}': "1x90"},
        {'kip_cells_of_unknown_price{job="kip"}': "0x90"},
        minutes=80,
    ),
}


@pytest.fixture(scope="module")
def promtool() -> str:
    return prometheus_program.find("promtool")


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def test_prometheus_takes_the_rules(promtool: str) -> None:
    run(promtool, "check", "rules", str(RULES))


@pytest.mark.parametrize("alert", ALERTS)
def test_it_fires_when_it_should_and_only_then(alert: str, promtool: str, tmp_path: Path) -> None:
    case = CASES[alert]
    firing = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)'
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": series, "values": values} for series, values in given.items()],
            "promql_expr_test": [
                {
                    "expr": firing,
                    "eval_time": f"{case.minutes}m",
                    "exp_samples": [{"labels": "{}", "value": expected}],
                }
            ],
        }
        for given, expected in ((case.fires, 1), (case.quiet, 0))
    ]
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    run(promtool, "test", "rules", str(file))


def test_each_has_a_page_that_says_what_to_do() -> None:
    assert {page.stem for page in RUNBOOKS.glob("Kip*.md")} == set(ALERTS)
    for alert, rule in ALERTS.items():
        assert rule["annotations"]["runbook_url"].endswith(f"/docs/runbooks/{alert}.md")
        text = (RUNBOOKS / f"{alert}.md").read_text()
        assert text.startswith(f"# {alert}\n")
        for heading in ("Meaning", "Impact", "What to do"):
            assert f"\n## {heading}\n" in text, f"{alert}: no {heading}"


def test_they_are_about_metrics_that_there_are() -> None:
    defined = {d.name for d in (*DEFINITIONS, *IMAGE_CACHE)}
    for alert, rule in ALERTS.items():
        used = set(re.findall(r"\bkip_\w+", rule["expr"]))
        assert used, alert
        assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in used} <= defined, alert
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
