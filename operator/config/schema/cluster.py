"""Section `cluster`: the Kubernetes cluster that the virtual nodes belong to."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from kip.config.schema.section import Section
from kip.config.types import Address, DnsLabel, DnsName, Flag, matching, one_or_many


class Cluster(Section):
    """The Kubernetes cluster that the virtual nodes belong to."""

    name: Annotated[
        str | None,
        matching(
            r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,98}[A-Za-z0-9])?", "a name of letters, digits, dashes and dots"
        ),
        Field(
            description="Tells the instances of one cluster from those of another: two clusters in one account "
            "must never have the same. Without it the UID of the namespace kube-system. Not to be changed "
            "while there are cells."
        ),
    ] = None
    namespace: Annotated[
        str,
        DnsLabel,
        Field(description="Namespace of Kip's own objects (leases, secrets). Without it POD_NAMESPACE."),
    ] = "kip"
    dns: Annotated[
        tuple[Address, ...],
        BeforeValidator(one_or_many),
        Field(
            description="Addresses of the cluster's DNS. Without it those of the Service kube-system/kube-dns."
        ),
    ] = ()
    domain: Annotated[str, DnsName, Field(description="DNS domain of the cluster.")] = "cluster.local"
    impersonate_node: Annotated[
        Flag,
        Field(
            description="Make a cell's requests to the API server as the virtual node, so that the Node "
            "authorizer limits Kip as it limits a kubelet. Where that is not allowed, false uses Kip's own "
            "rights, which then have to include reading secrets and configMaps."
        ),
    ] = True
