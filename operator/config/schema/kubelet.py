"""Section `kubelet`: the virtual nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from kip.config.schema.section import Section
from kip.config.types import Address, Amount, DnsLabel, DnsName, Labels, Port, matching, whole_number, wrong


class ServingCertificate(Section):
    """The certificate of the virtual node's kubelet API."""

    signer_name: Annotated[
        str,
        matching(r"[a-z0-9.-]+/[A-Za-z0-9./-]+", "a signer like kubernetes.io/kubelet-serving"),
        Field(
            description="Signer of the CertificateSigningRequest; on EKS beta.eks.amazonaws.com/app-serving."
        ),
    ] = "kubernetes.io/kubelet-serving"


#: What the virtual node offers unless told otherwise; cpu, memory and pods are the first Kip's numbers.
DEFAULT_CAPACITY: Mapping[str, str] = {
    "cpu": "20",
    "memory": "100Gi",
    "pods": "20",
    "ephemeral-storage": "400Gi",
}


class Kubelet(Section):
    """The virtual nodes: what the cluster sees."""

    node_name: Annotated[
        str | None, DnsName, Field(description="Name of the only virtual node, instead of nodeNamePrefix.")
    ] = None
    node_name_prefix: Annotated[
        str, DnsLabel, Field(description="Virtual nodes are called so, with -0, -1 and so on.")
    ] = "kip-provider"
    nodes: Annotated[
        int,
        whole_number(at_least=1),
        Field(
            description="Number of virtual nodes. Each is served by one process at a time. The permissions in "
            "deploy/kustomize/base/rbac.yaml are for four."
        ),
    ] = 1
    node_ip: Annotated[
        Address | None,
        Field(
            description="Address under which the cluster reaches the virtual node's kubelet API. Without it "
            "the environment variable NODE_IP, then POD_IP.",
        ),
    ] = None
    listen_address: Annotated[Address, Field(description="Address on which the kubelet API listens.")] = (
        "0.0.0.0"  # noqa: S104 - a kubelet does
    )
    port: Annotated[Port, Field(description="Port of the kubelet API.")] = 10250
    serving_certificate: Annotated[
        ServingCertificate, Field(description="Certificate of the kubelet API.")
    ] = ServingCertificate()
    capacity: Annotated[
        Mapping[str, Amount],
        BeforeValidator(lambda given: {**DEFAULT_CAPACITY, **given} if isinstance(given, Mapping) else given),
        Field(
            description="What each virtual node offers to the scheduler, which binds no more pods than fit. "
            "cpu, memory, pods and ephemeral-storage keep their default when not named here; no other resource "
            "is offered. Pods that request GPUs need `nvidia.com/gpu` here, those with huge pages "
            "`hugepages-2Mi` or `hugepages-1Gi`."
        ),
    ] = DEFAULT_CAPACITY
    labels: Annotated[
        Labels,
        Field(
            description="Labels added to the virtual nodes. One that is taken out here goes from the nodes too."
        ),
    ] = {}  # noqa: RUF012 - pydantic copies it

    @model_validator(mode="after")
    def _one_name_is_for_one_node(self) -> Kubelet:
        if self.node_name is not None and self.nodes > 1:
            raise wrong("nodeName with one node only; for several use nodeNamePrefix")
        return self

    @property
    def node_names(self) -> tuple[str, ...]:
        """Every virtual node of this installation."""
        if self.node_name is not None:
            return (self.node_name,)
        return tuple(f"{self.node_name_prefix}-{index}" for index in range(self.nodes))
