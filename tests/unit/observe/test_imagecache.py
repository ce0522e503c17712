"""What the image cache controller tells Prometheus."""

from __future__ import annotations

from prometheus_client import generate_latest

from kip.observe.definitions import IMAGE_CACHE
from kip.observe.imagecache import ImageCacheMetrics


def test_there_is_what_is_defined_and_nothing_else() -> None:
    there = {
        m.name: m for m in ImageCacheMetrics().registry.collect() if m.name.startswith("kip_image_cache_")
    }
    assert {d.name.removesuffix("_total"): d.kind for d in IMAGE_CACHE} == {
        m.name: m.type for m in there.values()
    }
    assert all(there[d.name.removesuffix("_total")].documentation == d.help for d in IMAGE_CACHE)


def test_what_happens_is_counted() -> None:
    metrics = ImageCacheMetrics()
    metrics.volume_is(images=2, layers=5, layers_bytes=100, temporary_bytes=7, free_bytes=9)
    metrics.looked_at("ImageDenied")
    metrics.fetched(50, 3.0)
    metrics.evicted("layer", 3)
    metrics.blocked("fetching", by="the volume is full")
    metrics.queue_is({"running": 1})
    text = generate_latest(metrics.registry).decode()
    for line in (
        "kip_image_cache_images 2.0",
        'kip_image_cache_bytes{kind="layers"} 100.0',
        "kip_image_cache_volume_free_bytes 9.0",
        'kip_image_cache_fetches_total{result="ImageDenied"} 1.0',
        'kip_image_cache_fetches_total{result="cached"} 0.0',
        "kip_image_cache_fetched_bytes_total 50.0",
        'kip_image_cache_evictions_total{what="layer"} 3.0',
        'kip_image_cache_blocked{what="fetching"} 1.0',
        'kip_image_cache_blocked{what="evicting"} 0.0',
        'kip_image_cache_queue{state="running"} 1.0',
        'kip_image_cache_queue{state="waiting"} 0.0',
    ):
        assert line in text.splitlines()
