"""provider.yaml as a whole."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kip.config.schema.cells import Cells
from kip.config.schema.cloud import Cloud
from kip.config.schema.cluster import Cluster
from kip.config.schema.health import Health
from kip.config.schema.kubelet import Kubelet
from kip.config.schema.log import Log
from kip.config.schema.registries import Registries
from kip.config.schema.section import Section


class Settings(Section):
    """All of provider.yaml."""

    api_version: Annotated[Literal["v1"], Field(description="Version of this file's format.")] = "v1"
    kind: Annotated[Literal["serverConfig"], Field(description="Kind of this file.")] = "serverConfig"
    cloud: Annotated[Cloud, Field(description="The cloud that has the cells.")] = Cloud()
    cells: Annotated[Cells, Field(description="The machines that pods run on.")] = Cells()
    kubelet: Annotated[Kubelet, Field(description="The virtual nodes: what the cluster sees.")] = Kubelet()
    cluster: Annotated[Cluster, Field(description="The cluster that the virtual nodes belong to.")] = (
        Cluster()
    )
    registries: Annotated[Registries, Field(description="Where images come from.")] = Registries()
    health: Annotated[Health, Field(description="Probes and metrics.")] = Health()
    log: Annotated[Log, Field(description="What Kip says while it works.")] = Log()
