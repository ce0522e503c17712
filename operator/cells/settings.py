"""The values that the stages of a cell's life need; durations in seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CellSettings:
    """From provider.yaml, see kip.config for what each means to its user."""

    node_name: str
    cluster: str
    connect_timeout_s: float = 300.0
    """From launched to the first SSH contact; then the machine is given up."""
    start_timeout_s: float = 300.0
    """From connected to the kubelet's first request; then the machine is given up."""
    devices_timeout_s: float = 300.0
    """From connected to the kubelet's report of the GPUs that the pod requests; then the machine is given up."""
    max_attempts: int = 3
    """Machines tried in quick succession for one pod; after that one every `retry_s`."""
    retry_s: float = 300.0
    drain_timeout_s: float = 45.0
    """For keeping the logs of an ended pod; fetching them ends by itself after 30 s (kip.kubelet.logs)."""
