"""Metrics of the image cache controller, as `kip.observe.definitions` has them."""

from __future__ import annotations

from collections.abc import Mapping

from kip.observe import definitions as of
from kip.observe.metrics import counter, gauge, histogram, new_registry


class ImageCacheMetrics:
    """All metrics of one process of `kip image-cache run`, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = new_registry()
        self._images = gauge(of.CACHE_IMAGES, registry)
        self._layers = gauge(of.CACHE_LAYERS, registry)
        self._bytes = gauge(of.CACHE_BYTES, registry)
        self._free = gauge(of.CACHE_FREE, registry)
        self._blocked = gauge(of.CACHE_BLOCKED, registry)
        self._queue = gauge(of.CACHE_QUEUE, registry)
        self._fetches = counter(of.CACHE_FETCHES, registry)
        self._fetched = counter(of.CACHE_FETCHED_BYTES, registry)
        self._seconds = histogram(of.CACHE_SECONDS, registry)
        self._evictions = counter(of.CACHE_EVICTIONS, registry)
        for result in of.FETCH_RESULTS:
            self._fetches.labels(result)
        for what in ("image", "layer", "temporary"):
            self._evictions.labels(what)
        for what in ("fetching", "evicting"):
            self._blocked.labels(what)
        self.queue_is({})

    def volume_is(
        self, *, images: int, layers: int, layers_bytes: int, temporary_bytes: int, free_bytes: int
    ) -> None:
        """What is on the volume."""
        self._images.set(images)
        self._layers.set(layers)
        self._bytes.labels("layers").set(layers_bytes)
        self._bytes.labels("temporary").set(temporary_bytes)
        self._free.set(free_bytes)

    def blocked(self, what: str, *, by: str) -> None:
        """Whether `fetching` or `evicting` cannot go on; `by` is empty if it can."""
        self._blocked.labels(what).set(bool(by))

    def queue_is(self, states: Mapping[str, int]) -> None:
        """How many wanted images are in each of `definitions.FETCH_STATES`."""
        for state in of.FETCH_STATES:
            self._queue.labels(state).set(states.get(state, 0))

    def looked_at(self, result: str) -> None:
        """One of `definitions.FETCH_RESULTS`, or an error's reason."""
        self._fetches.labels(result).inc()

    def fetched(self, blob_bytes: int, seconds: float) -> None:
        """Something of an image was missing, and is there now."""
        self._fetched.inc(blob_bytes)
        self._seconds.observe(seconds)

    def evicted(self, what: str, number: int = 1) -> None:
        """An `image`, `layer` or `temporary` file was taken away."""
        self._evictions.labels(what).inc(number)
