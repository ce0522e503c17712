"""docs/performance.md, from what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.bench.computing import Rules, Selection
from tests.bench.conversion import Conversion
from tests.bench.crowd import Crowd
from tests.bench.footprint import Footprint
from tests.bench.images import FAR, PART, Images
from tests.bench.launches import Launches
from tests.bench.starts import Start
from tests.bench.summary import median, percentile

GOAL_LAUNCH_MS = 150, 500  # p50, p99
GOAL_CROWD_S = 15
GOAL_START_S = 2.5
GOAL_KUBELET_S = 0.75
GOAL_FASTER = 10
GOAL_READ = 0.15
GOAL_NOTHING_MS = 300
_NOISE_S = 0.1


@dataclass(frozen=True)
class Results:
    """All of one run."""

    date: str
    commit: str
    machine: str
    busy: tuple[float, float]
    """Processors that other work kept busy before and after."""
    launches: Launches
    crowd: Crowd
    single: Sequence[Start]
    together: Sequence[Start]
    footprints: Sequence[Footprint]
    selection: Selection
    rules: Rules
    conversions: Sequence[Conversion]
    images: Images


def markdown(results: Results) -> str:
    """The whole page."""
    return "\n".join(
        (
            *_head(results),
            *_launches(results.launches),
            *_crowd(results.crowd),
            *_starts(results.single, results.together),
            *of_images(results.images),
            *_footprints(results.footprints),
            *_computing(results.selection, results.rules, results.conversions),
            *_method(results),
        )
    )


def _head(results: Results) -> Iterable[str]:
    yield "# Performance"
    yield ""
    before, after = results.busy
    yield (
        f"Written by `make bench` on {results.date} at commit {results.commit}; do not edit. Machine: {results.machine}. "
        "Control plane, EC2 endpoint, operator and all cells share its processors; other work kept "
        f"{before:.1f} of them busy before the run and {after:.1f} after it."
    )
    yield ""
    yield "    make bench                                # as root; a few minutes"
    yield "    .venv/bin/python -m tests.bench --help    # fewer or more pods, another file"
    yield ""


def _launches(found: Launches) -> Iterable[str]:
    p50, p99 = percentile(found.single_ms, 50), percentile(found.single_ms, 99)
    goal50, goal99 = GOAL_LAUNCH_MS
    yield "## Pod created → RunInstances received"
    yield ""
    yield from _table(
        ("", "measured", "goal"),
        (
            (f"one pod at a time ({len(found.single_ms)}), p50", _ms(p50), _goal(p50, goal50, "ms")),
            ("p99", _ms(p99), _goal(p99, goal99, "ms")),
            (
                f"{found.burst_pods} pods at once, until the last instance is asked for",
                _ms(found.burst_last_ms),
                "",
            ),
            ("calls of RunInstances for these", str(found.burst_calls), ""),
        ),
    )


def _crowd(found: Crowd) -> Iterable[str]:
    yield f"## {found.pods} pods at once"
    yield ""
    yield "Seconds since the first pod was created. The EC2 endpoint throttles as EC2's documents say."
    yield ""
    yield from _table(
        ("", "measured", "goal"),
        (
            ("all created", _s(found.created_s), ""),
            ("all bound by the scheduler", _s(found.bound_s), ""),
            ("**all instances asked for**", _s(found.asked_s), _goal(found.asked_s, GOAL_CROWD_S, "s")),
            ("calls of RunInstances", str(found.calls), ""),
            ("of these throttled", str(found.throttled), ""),
            ("by one call for each pod it would be at least, by arithmetic", _s(found.one_by_one_s), ""),
        ),
    )


_STEPS = (
    ("created", "pod created"),
    ("launched", "RunInstances received"),
    ("init", "the machine's init runs"),
    ("sshd", "**sshd listens**"),
    ("reachable", "SSH session of the operator"),
    ("connected", "tunnel and Services' rules in place"),
    ("shown", "pod may be seen by the kubelet"),
    ("asked", "first request of the kubelet"),
    ("watching", "kubelet asks for pods and sees its own"),
    ("started", "container started"),
    ("Running", "**pod Running** at the API server"),
    ("Ready", "pod Ready"),
)
_PARTS = (
    ("sshd", "kubelet", "boot script, containerd's start"),
    ("kubelet", "kubelet talks", "kubelet's program is loaded"),
    ("kubelet talks", "node wanted", "kubelet looks at the machine"),
    (
        "node wanted",
        "watching",
        "kubelet waits for its Node: it looks once a second, for the first time too early (`WaitForAPIServerSyncPeriod`)",
    ),
    (
        "watching",
        "volumes",
        "kubelet mounts the token's volume: it looks each 0.3 s (`podAttachAndMountRetryInterval`)",
    ),
    ("volumes", "sandbox", "sandbox: network (CNI) and the pause container"),
    ("sandbox", "started", "container created and started"),
    ("started", "Running", "status through the cell API to the API server"),
)


def _starts(single: Sequence[Start], together: Sequence[Start]) -> Iterable[str]:
    many = len(together)
    yield "## A cell's start"
    yield ""
    yield "Seconds since sshd listens; the image is on the cell."
    yield ""
    yield from _table(
        ("", f"one at a time ({len(single)}), p50", "worst", f"{many} at once, p50", "worst"),
        ((text, *_both(single, "sshd", step), *_both(together, "sshd", step)) for step, text in _STEPS),
    )
    yield from _table(
        ("", "p50", "goal"),
        (
            ("sshd listens → Running", _s(p := _p50(single, "sshd", "Running")), _goal(p, GOAL_START_S, "s")),
            (
                "kubelet sees the pod → Running",
                _s(p := _p50(single, "watching", "Running")),
                _goal(p, GOAL_KUBELET_S, "s"),
            ),
        ),
    )
    yield "Where the time from sshd to Running goes, one at a time:"
    yield ""
    yield from _table(
        ("", "p50"), ((text, _s(_p50(single, earlier, later))) for earlier, later, text in _PARTS)
    )


def of_images(found: Images) -> Iterable[str]:
    """The section on images from the cache."""
    base = median(found.present)
    yield "## Images from the cache"
    yield ""
    yield (
        "From the operator's connection to the cell until the container is started, so the kubelet's start is in it, and "
        f"for cached images all that Kip does. An image that the machine brings takes {base:.2f} s (p50 of "
        f"{len(found.present)}): *beyond that* is what is left of the others. The images have 1 GB of files, of which each "
        f"container reads {PART:.1%}. *Far*: each call to the volume takes {FAR.latency_ms:g} ms, and the cell gets "
        f"{FAR.mib_per_s:g} MiB/s of it; the registry is on this machine in any case, so pulls are faster here "
        "than elsewhere."
    )
    yield ""
    each = found.compared
    yield from _table(
        ("", *(f"{c.what}, {c.image_bytes / 1e6:.0f} MB compressed" for c in each), "goal"),
        (
            ("pulled", *(_s(c.pulled.seconds) for c in each), ""),
            ("**cached**", *(_s(c.cached.seconds) for c in each), ""),
            ("cached, far", *(_s(c.cached_far.seconds) for c in each), ""),
            ("pulled : cached", *(_times(c.pulled.seconds, c.cached.seconds) for c in each), ""),
            ("pulled, beyond that", *(_s(c.pulled.seconds - base) for c in each), ""),
            ("cached, beyond that", *(_s(c.cached.seconds - base) for c in each), ""),
            (
                "pulled : cached, beyond that",
                *(_times(c.pulled.seconds - base, c.cached.seconds - base) for c in each),
                f"≥ {GOAL_FASTER:g}",
            ),
            ("downloaded by the pull", *(_mb(c.pulled.bytes) for c in each), ""),
            ("read of the volume", *(_mb(c.cached.bytes) for c in each), ""),
            (
                "of what the pull downloads",
                *(f"{c.cached.bytes / c.pulled.bytes:.1%}" for c in each),
                f"≤ {GOAL_READ:.0%}",
            ),
            ("caching it, once", *(_s(c.caching_s) for c in each), ""),
        ),
    )
    worst = max(found.held_ms)
    yield from _table(
        ("nothing cached: the kubelet asks for its pod and is not shown it yet", "measured", "goal"),
        (
            (f"p50 of {len(found.held_ms)}", _ms(median(found.held_ms)), ""),
            ("worst", _ms(worst), _goal(worst, GOAL_NOTHING_MS, "ms")),
        ),
    )


def _times(slow: float, fast: float) -> str:
    """Starts differ by some tenths of a second: of what takes less than one, it cannot be said how much faster it is."""
    if fast < _NOISE_S:
        return f"> {slow / _NOISE_S:.0f}"
    return f"{slow / fast:.0f}" if slow >= 10 * fast else f"{slow / fast:.1f}"


def _mb(count: int) -> str:
    return f"{count / 1e6:.0f} MB"


def _footprints(found: Sequence[Footprint]) -> Iterable[str]:
    yield "## The operator's process"
    yield ""
    yield from _table(
        ("cells", "RSS", "PSS", "idle, of one processor"),
        (
            (str(f.cells), f"{f.rss_mib:.0f} MiB", f"{f.pss_mib:.0f} MiB", f"{f.cpu_percent:.1f} %")
            for f in found
        ),
    )


def _computing(selection: Selection, rules: Rules, conversions: Sequence[Conversion]) -> Iterable[str]:
    p50, p99 = percentile(selection.each_ms, 50), percentile(selection.each_ms, 99)
    load = "not possible here" if rules.load_ms is None else _ms(rules.load_ms)
    yield "## Computing"
    yield ""
    yield from _table(
        ("", "measured"),
        (
            (
                f"choice of a machine among {selection.types} types ({len(selection.each_ms)} pods), p50",
                f"{p50:.2f} ms",
            ),
            ("p99", f"{p99:.2f} ms"),
            (f"rules of {rules.services} Services from their objects", _ms(rules.compute_ms)),
            (f"as text ({rules.size_bytes / 1000:.0f} kB)", _ms(rules.render_ms)),
            ("loaded by `nft`", load),
            (
                f"one of them changed: objects → text for a cell ({rules.change_bytes} bytes)",
                _ms(rules.change_ms),
            ),
            *(
                (
                    f"a layer of {each.files} files, {each.tar_bytes / 1e6:.0f} MB, gzip → file of the image cache "
                    f"({each.file_bytes / 1e6:.0f} MB), for each second of a processor",
                    f"{each.mb_per_cpu_s:.0f} MB",
                )
                for each in conversions
            ),
        ),
    )


def _method(results: Results) -> Iterable[str]:
    yield "## How it is measured"
    yield ""
    yield (
        "A world of its own (`kip local up`) is made and taken down: real control plane, the local EC2 endpoint, machines "
        "really booted. All times are of one clock."
    )
    yield ""
    yield (
        "- *Pod created* is when the request is sent that creates it, so the API server's and the scheduler's time is in "
        "every number. *Received* is the arrival at the EC2 endpoint. For the launches instances are left pending, so that "
        "no boot takes processor time; one at a time they come no faster than EC2 admits calls, two a second. p99 is by "
        "nearest rank: of fewer than 100 samples, the worst."
    )
    yield (
        "- For the pods at once the operator works with a second EC2 endpoint, whose network has room for so many "
        "instances and whose token buckets are those of "
        "[EC2's documents](https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html). Here, too, "
        "instances stay pending."
    )
    yield (
        "- *init runs* is told by the machine room; *sshd listens* and what containerd and kubelet do by the cell's "
        "journal; *SSH session* to *first request* by the operator's log; "
        "*Running* and *Ready* by a watch at the API server."
    )
    yield (
        "- *kubelet sees the pod → Running* is the kubelet alone: from the line `Watching apiserver` in its log, which "
        "it prints before it first asks for pods."
    )
    yield (
        "- The operator is looked at after standing still; RSS and PSS are the kernel's (`smaps_rollup`), "
        "processor time is that of the process while nothing is asked of it. The last line: with all cells gone again."
    )
    yield (
        "- Computing runs in the benchmark's process on one processor; each Service has one port and three endpoints. "
        "`nft` loads into an empty network namespace of this machine, its start included."
    )
    yield ""


def _both(starts: Sequence[Start], earlier: str, later: str) -> tuple[str, str]:
    samples = [start.between(earlier, later) for start in starts]
    return _s(median(samples)), _s(max(samples, key=abs))


def _p50(starts: Sequence[Start], earlier: str, later: str) -> float:
    return median([start.between(earlier, later) for start in starts])


def _goal(value: float, goal: float, unit: str) -> str:
    return f"≤ {goal:g} {unit}{'' if value <= goal else ' (missed)'}"


def _ms(value: float) -> str:
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def _s(value: float) -> str:
    return f"{value:.2f} s"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'|'.join('---' for _ in header)}|"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""
