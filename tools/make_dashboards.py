"""Writes deploy/observability/dashboards/*.json for Grafana; a test says when that is due.

What a dashboard shows is data here: rows of panels, each with its queries. What Grafana needs beyond that follows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OUT = Path(__file__).resolve().parent.parent / "deploy" / "observability" / "dashboards"

# Grafana's grid is 24 wide. Schema 39 is that of Grafana 10 and 11; newer ones migrate it when they load it.
WIDTH, SCHEMA = 24, 39
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
#: Which processes: all that one scrape job finds.
JOB = 'job=~"$job"'


@dataclass(frozen=True)
class Query:
    """A PromQL query, and how its series are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One picture. `unit` as Grafana names it; `text` is what people read at its (i)."""

    title: str
    text: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    unit: str = "short"
    stack: bool = False


@dataclass(frozen=True)
class Row:
    """Panels beside each other."""

    panels: tuple[Panel, ...]
    height: int = 8


@dataclass(frozen=True)
class Dashboard:
    """A page."""

    uid: str
    title: str
    rows: tuple[Row, ...]


def panel(title: str, text: str, *queries: tuple[str, str] | str, **more: Any) -> Panel:
    """Queries as (PromQL, legend), or PromQL alone. `JOB` goes in at each `@`."""
    pairs = [(query, "") if isinstance(query, str) else query for query in queries]
    return Panel(title, text, tuple(Query(expr.replace("@", JOB), legend) for expr, legend in pairs), **more)


def start(quantile: float, stage: str) -> str:
    """So much of the pods reached that stage within so many seconds."""
    window = f'rate(kip_pod_start_seconds_bucket{{@, stage="{stage}"}}[$__rate_interval])'
    return f"histogram_quantile({quantile}, sum by (le) ({window}))"


OVERVIEW = Dashboard(
    "kip-overview",
    "Kip / Overview",
    (
        Row(
            (
                panel(
                    "Virtual nodes served",
                    "Each needs exactly one process that serves it.",
                    "sum(max by (node) (kip_leader{@}))",
                    kind="stat",
                ),
                panel(
                    "Cells running",
                    "Pods that run on a machine of their own now.",
                    'sum(kip_cells{@, phase="Running"})',
                    kind="stat",
                ),
                panel(
                    "Cells on their way",
                    "From the pod's binding until it runs.",
                    'sum(kip_cells{@, phase=~"Pending|Launching|Booting|Connecting|Starting"})',
                    kind="stat",
                ),
                panel(
                    "Cells without a machine",
                    "EC2 has refused what they need; their pods' events say why.",
                    'sum(kip_cells{@, phase="Failed"})',
                    kind="stat",
                ),
                panel(
                    "Cost now",
                    "US dollars an hour by list price, of all running instances.",
                    "sum(kip_cells_price_usd_per_hour{@})",
                    kind="stat",
                    unit="currencyUSD",
                ),
                panel(
                    "Cost in this time",
                    "US dollars by list price, in the time that this page shows.",
                    "sum(increase(kip_cells_cost_usd_total{@}[$__range]))",
                    kind="stat",
                    unit="currencyUSD",
                ),
            ),
            height=4,
        ),
        Row(
            (
                panel(
                    "Cells by phase",
                    "Where cells are between their pod's binding and their instance's end.",
                    ("sum by (phase) (kip_cells{@})", "{{phase}}"),
                    stack=True,
                ),
                panel(
                    "Cost an hour by namespace",
                    "List prices of running instances; those of unknown price are not in it.",
                    ("sum by (namespace) (kip_cells_price_usd_per_hour{@})", "{{namespace}}"),
                    unit="currencyUSD",
                    stack=True,
                ),
            )
        ),
        Row(
            (
                panel(
                    "Pod start: until Running",
                    "From a pod's creation, which is known to the second only, until its containers run.",
                    (start(0.5, "running"), "half of them"),
                    (start(0.99, "running"), "99 of 100"),
                    unit="s",
                ),
                panel(
                    "Pod start by stage, half of them",
                    "What takes how long: each stage is measured from the pod's creation.",
                    (
                        "histogram_quantile(0.5, sum by (le, stage) "
                        "(rate(kip_pod_start_seconds_bucket{@}[$__rate_interval])))",
                        "{{stage}}",
                    ),
                    unit="s",
                ),
            )
        ),
        Row(
            (
                panel(
                    "Launches",
                    "Offers that EC2 was asked for, once for each cell; a refused one is followed by the next offer.",
                    (
                        "sum by (result, reason) (increase(kip_cell_launches_total{@}[$__rate_interval])) > 0 or "
                        'sum by (result) (increase(kip_cell_launches_total{@, result="ok"}[$__rate_interval]))',
                        "{{result}} {{reason}}",
                    ),
                    stack=True,
                ),
                panel(
                    "Machines given up",
                    "Ended before their pod ran on them; the pod gets another one.",
                    (
                        "sum by (reason) (increase(kip_cells_given_up_total{@}[$__rate_interval]))",
                        "{{reason}}",
                    ),
                    stack=True,
                ),
            )
        ),
        Row(
            (
                panel(
                    "Instances by type",
                    "What is running.",
                    ("sum by (instance_type) (kip_instances{@})", "{{instance_type}}"),
                    stack=True,
                ),
                panel(
                    "Instances by zone and market",
                    "Spot, on-demand and dedicated, in each availability zone.",
                    ("sum by (zone, market) (kip_instances{@})", "{{zone}} {{market}}"),
                    stack=True,
                ),
                panel(
                    "Instances of unknown price",
                    "They are missing in all costs.",
                    "sum(kip_cells_of_unknown_price{@})",
                ),
                panel(
                    "Longest without a change",
                    "Seconds since anything changed about a cell on its way; a machine boots for a minute at most.",
                    ('max by (phase) (kip_cells_oldest_seconds{@, phase!="Running"})', "{{phase}}"),
                    unit="s",
                ),
            )
        ),
    ),
)

OPERATOR = Dashboard(
    "kip-operator",
    "Kip / Operator",
    (
        Row(
            (
                panel(
                    "Who serves which node",
                    "1 for the process that holds the node's Lease. All others stand by.",
                    ("kip_leader{@}", "{{node}} {{instance}}"),
                ),
                panel(
                    "Nodes ready",
                    "Whether the virtual node is Ready, as its process last said.",
                    ("max by (node) (kip_node_ready{@})", "{{node}}"),
                ),
                panel(
                    "Versions",
                    "Processes by version of Kip.",
                    ("count by (version) (kip_build_info{@})", "{{version}}"),
                    stack=True,
                ),
            ),
        ),
        Row(
            (
                panel(
                    "Calls of AWS",
                    "A second, by action.",
                    ("sum by (action) (rate(kip_aws_calls_total{@}[$__rate_interval]))", "{{action}}"),
                    unit="reqps",
                    stack=True,
                ),
                panel(
                    "Calls of AWS that failed",
                    "A second, by action and AWS's code.",
                    (
                        "sum by (action, code) "
                        '(rate(kip_aws_calls_total{@, result!="ok"}[$__rate_interval])) or vector(0)',
                        "{{action}} {{code}}",
                    ),
                    unit="reqps",
                    stack=True,
                ),
                panel(
                    "Duration of AWS calls",
                    "99 of 100 took no longer.",
                    (
                        "histogram_quantile(0.99, sum by (le, action) "
                        "(rate(kip_aws_call_seconds_bucket{@}[$__rate_interval])))",
                        "{{action}}",
                    ),
                    unit="s",
                ),
                panel(
                    "Calls that may be made at once",
                    "Kip keeps below AWS's limits: below 0, calls wait for their turn.",
                    ("min by (action) (kip_aws_bucket_tokens{@})", "{{action}}"),
                ),
            )
        ),
        Row(
            (
                panel(
                    "Work queue",
                    "Pods that are worked on, and those that wait because so many are.",
                    ('sum by (state) (kip_queue_depth{@, state!="scheduled"})', "{{state}}"),
                    stack=True,
                ),
                panel(
                    "Passes over cells",
                    "A second, by how they ended.",
                    ("sum by (result) (rate(kip_reconciles_total{@}[$__rate_interval]))", "{{result}}"),
                    unit="ops",
                    stack=True,
                ),
                panel(
                    "Connections to cells",
                    "Open ones, and cells that are being dialled.",
                    ("sum by (state) (kip_tunnels{@})", "{{state}}"),
                    stack=True,
                ),
            )
        ),
        Row(
            (
                panel(
                    "Requests of cells' kubelets",
                    "A second, by the rule that decided.",
                    (
                        "sum by (rule, verdict) (rate(kip_cellapi_requests_total{@}[$__rate_interval]))",
                        "{{rule}} {{verdict}}",
                    ),
                    unit="reqps",
                    stack=True,
                ),
                panel(
                    "Requests to the kubelet API",
                    "A second: logs, exec, metrics.",
                    (
                        "sum by (path, code) (rate(kip_kubelet_requests_total{@}[$__rate_interval]))",
                        "{{path}} {{code}}",
                    ),
                    unit="reqps",
                    stack=True,
                ),
                panel(
                    "Duration of kubelet API requests",
                    "Half of them took no longer; a stream's is its whole life.",
                    (
                        "histogram_quantile(0.5, sum by (le, path) "
                        "(rate(kip_kubelet_request_seconds_bucket{@}[$__rate_interval])))",
                        "{{path}}",
                    ),
                    unit="s",
                ),
                panel(
                    "Cells missing in node metrics",
                    "Cells that did not answer in time when the whole node was scraped.",
                    (
                        "sum by (path) (increase(kip_kubelet_cells_not_scraped_total{@}[$__rate_interval])) "
                        "or vector(0)",
                        "{{path}}",
                    ),
                    stack=True,
                ),
            )
        ),
        Row(
            (
                panel(
                    "CPU",
                    "Cores that each process uses.",
                    ("rate(process_cpu_seconds_total{@}[$__rate_interval])", "{{instance}}"),
                ),
                panel(
                    "Memory",
                    "Resident, of each process.",
                    ("process_resident_memory_bytes{@}", "{{instance}}"),
                    unit="bytes",
                ),
                panel(
                    "Age of what machines are chosen by",
                    "Prices that come with Kip are as old as its release; the rest is asked of AWS where that is allowed.",
                    ("time() - max by (source) (kip_catalogue_as_of_timestamp_seconds{@})", "{{source}}"),
                    unit="s",
                ),
                panel(
                    "Questions about machines and prices",
                    "In an hour; what AWS does not allow is asked again once an hour, and done without.",
                    (
                        "sum by (source, result) (increase(kip_catalogue_refreshes_total{@}[1h]))",
                        "{{source}} {{result}}",
                    ),
                    stack=True,
                ),
            )
        ),
    ),
)

METERING = Dashboard(
    "kip-metering",
    "Kip / AWS Marketplace",
    (
        Row(
            (
                panel(
                    "Use not told yet",
                    "Cell-hours that are counted and that AWS Marketplace does not know yet.",
                    ("max by (product) (kip_metering_untold_cell_hours{@})", "{{product}}"),
                ),
                panel(
                    "Last told",
                    "How long ago the hour ended of which AWS Marketplace knows the use; up to two hours is usual.",
                    ("time() - max by (product) (kip_metering_told_timestamp_seconds{@})", "{{product}}"),
                    unit="s",
                ),
                panel(
                    "Records",
                    "Calls in an hour; each hour is told once, and again only until AWS has it.",
                    ("sum by (result) (increase(kip_metering_records_total{@}[1h]))", "{{result}}"),
                    stack=True,
                ),
            )
        ),
    ),
)

IMAGE_CACHE = Dashboard(
    "kip-image-cache",
    "Kip / Image cache",
    (
        Row(
            (
                panel("Images", "On the volume.", "sum(kip_image_cache_images{@})", kind="stat"),
                panel(
                    "Layers",
                    "On the volume; images share them.",
                    "sum(kip_image_cache_layers{@})",
                    kind="stat",
                ),
                panel(
                    "Free",
                    "On the volume; EFS says 8 EiB.",
                    "min(kip_image_cache_volume_free_bytes{@})",
                    kind="stat",
                    unit="bytes",
                ),
                panel(
                    "Kept from its work",
                    "1 while something is; the controller's log says what.",
                    ("max by (what) (kip_image_cache_blocked{@})", "{{what}}"),
                    kind="stat",
                ),
            ),
            height=4,
        ),
        Row(
            (
                panel(
                    "Size",
                    "What the cache takes on the volume.",
                    ("sum by (kind) (kip_image_cache_bytes{@})", "{{kind}}"),
                    unit="bytes",
                    stack=True,
                ),
                panel(
                    "Images looked at",
                    "By how that ended; anything but cached and present is the reason of an error.",
                    (
                        "sum by (result) (increase(kip_image_cache_fetches_total{@}[$__rate_interval]))",
                        "{{result}}",
                    ),
                    stack=True,
                ),
                panel(
                    "Images wanted and not cached",
                    "Waiting for their turn, being fetched, and waiting after a failure.",
                    ("sum by (state) (kip_image_cache_queue{@})", "{{state}}"),
                    stack=True,
                ),
            )
        ),
        Row(
            (
                panel(
                    "What cells got",
                    "Images of pods for which the cache was asked, by what their cell got of them.",
                    (
                        "sum by (outcome) (increase(kip_image_cache_seeded_total{@}[$__rate_interval]))",
                        "{{outcome}}",
                    ),
                    stack=True,
                ),
                panel(
                    "Saved",
                    "Sizes in the registry of layers that cells had from the cache and did not download, a second.",
                    "sum(rate(kip_image_cache_saved_bytes_total{@}[$__rate_interval]))",
                    unit="Bps",
                ),
                panel(
                    "Pods held back",
                    "Time that a pod waited for the cache, on average; 0 where none did.",
                    "sum(rate(kip_image_cache_seeding_seconds_sum{@}[$__rate_interval])) / "
                    "(sum(rate(kip_image_cache_seeding_seconds_count{@}[$__rate_interval])) > 0) or vector(0)",
                    unit="s",
                ),
            )
        ),
        Row(
            (
                panel(
                    "Downloaded",
                    "From registries, a second.",
                    "sum(rate(kip_image_cache_fetched_bytes_total{@}[$__rate_interval]))",
                    unit="Bps",
                ),
                panel(
                    "Time to fetch an image",
                    "Download and conversion of what was missing; half of them took no longer.",
                    "histogram_quantile(0.5, sum by (le) (rate(kip_image_cache_fetch_seconds_bucket{@}[$__rate_interval])))",
                    unit="s",
                ),
                panel(
                    "Taken from the volume",
                    "Images and layers that nobody has used for long, and leftovers.",
                    (
                        "sum by (what) (increase(kip_image_cache_evictions_total{@}[$__rate_interval]))",
                        "{{what}}",
                    ),
                    stack=True,
                ),
            )
        ),
    ),
)

DASHBOARDS = (OVERVIEW, OPERATOR, IMAGE_CACHE, METERING)


def model(dashboard: Dashboard) -> dict[str, Any]:
    """As Grafana wants it."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["kip"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "annotations": {"list": []},
        "links": [_link_to_the_others()],
        "templating": {"list": [_source_variable(), _job_variable()]},
        "panels": list(_panels(dashboard)),
    }


def _panels(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    number, y = 0, 0
    for row in dashboard.rows:
        width = WIDTH // len(row.panels)
        for column, one in enumerate(row.panels):
            number += 1
            position = {"x": column * width, "y": y, "w": width, "h": row.height}
            yield {"id": number, "gridPos": position, **_panel(one)}
        y += row.height


def _panel(one: Panel) -> dict[str, Any]:
    return {
        "title": one.title,
        "description": one.text,
        "type": one.kind,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": one.unit, **_custom(one)}, "overrides": []},
        "options": _options(one),
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": query.expr,
                "legendFormat": query.legend or "__auto",
            }
            for index, query in enumerate(one.queries)
        ],
    }


def _custom(one: Panel) -> dict[str, Any]:
    if one.kind != "timeseries":
        return {}
    filled = {"fillOpacity": 25, "stacking": {"mode": "normal"}} if one.stack else {"fillOpacity": 0}
    return {"min": 0, "custom": filled} if one.stack else {"custom": filled}


def _options(one: Panel) -> dict[str, Any]:
    if one.kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}
    return {
        "legend": {"displayMode": "list", "placement": "bottom"},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _link_to_the_others() -> dict[str, Any]:
    return {"type": "dashboards", "title": "Kip", "tags": ["kip"], "asDropdown": False, "keepTime": True}


def _source_variable() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _job_variable() -> dict[str, Any]:
    question = "label_values(kip_build_info, job)"
    return {
        "name": "job",
        "label": "Job",
        "type": "query",
        "datasource": SOURCE,
        "definition": question,
        "query": {"query": question, "refId": "job"},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".+",
        "current": {"text": "All", "value": "$__all"},
    }


def main() -> None:
    """Writes them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for dashboard in DASHBOARDS:
        text = json.dumps(model(dashboard), indent=2, ensure_ascii=False)
        (out / f"{dashboard.uid}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
