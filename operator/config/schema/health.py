"""Section `health`: probes and metrics."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kip.config.schema.section import Section
from kip.config.types import Address, Port


class Health(Section):
    """Probes and metrics, over plain HTTP."""

    listen_address: Annotated[
        Address, Field(description="Address on which /healthz, /readyz and /metrics listen.")
    ] = "0.0.0.0"  # noqa: S104 - probes come from the kubelet of the host
    port: Annotated[Port, Field(description="Their port.")] = 8080
