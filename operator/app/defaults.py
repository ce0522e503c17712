"""Annotations that pods have without having them: those of their namespace, then those of the configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kip.pods.annotations import PREFIX, Layer

CONFIGURATION = "the configuration (cells.defaultAnnotations)"


class PodDefaults:
    """Looks namespaces up by name; the look-up table is made anew when one of them has changed."""

    def __init__(
        self, namespaces: Callable[[], Iterable[Mapping[str, Any]]], configured: Mapping[str, str]
    ) -> None:
        self._namespaces = namespaces
        self._configured = (Layer(CONFIGURATION, dict(configured)),) if configured else ()
        self._by_name: dict[str, tuple[Layer, ...]] | None = None

    def changed(self) -> None:
        """A namespace was added, changed or deleted."""
        self._by_name = None

    def of(self, pod: Mapping[str, Any]) -> tuple[Layer, ...]:
        """What counts for annotations that this pod lacks, the stronger first."""
        if self._by_name is None:
            self._by_name = {ns["metadata"]["name"]: _layers(ns) for ns in self._namespaces()}
        return (*self._by_name.get(pod["metadata"]["namespace"], ()), *self._configured)


def _layers(namespace: Mapping[str, Any]) -> tuple[Layer, ...]:
    metadata = namespace["metadata"]
    ours = {k: v for k, v in (metadata.get("annotations") or {}).items() if k.startswith(PREFIX)}
    return (Layer(f"namespace {metadata['name']}", ours),) if ours else ()
