"""Section `cloud`: where in AWS, and as whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from kip.config.schema.section import Section
from kip.config.types import Flag, Url, matching, one_or_many, parsed, whole_number, wrong


def _tags(value: Any) -> Mapping[str, str]:
    """EC2's tags; a `*` in a filter's value would match any text, and is not meant."""
    if not isinstance(value, Mapping):
        raise TypeError(value)
    for key, text in value.items():
        if not isinstance(text, str) or not key or "*" in text or "?" in text:
            raise ValueError(value)
    return dict(value)


Subnet = Annotated[str, matching(r"subnet-[0-9a-z]+", "the id of a subnet, like subnet-0123abcd")]


class Marketplace(Section):
    """Only for those who bought Kip on AWS Marketplace: how its use is told."""

    product_code: Annotated[
        str | None,
        matching(r"[-a-zA-Z0-9/=:_.@]{1,255}", "a product code of AWS Marketplace"),
        Field(
            description="Code of the product. With it each process registers at its start (RegisterUsage), and the "
            "hours that cells have run are told each hour (MeterUsage). Pods do not depend on either."
        ),
    ] = None
    public_key_version: Annotated[
        int,
        whole_number(at_least=1),
        Field(description="Version of the product's public key, given by AWS Marketplace."),
    ] = 1
    dimension: Annotated[
        str,
        matching(r"[^\s]{1,255}", "the API name of a dimension of the product"),
        Field(description="Dimension of the product that counts hours of cells."),
    ] = "CellHours"
    endpoint_url: Annotated[
        Url | None, Field(description="Address of the metering service, for private endpoints and for tests.")
    ] = None


class Aws(Section):
    """Where in AWS, and as whom."""

    region: Annotated[
        str | None,
        matching(r"[a-z]{2,4}(-[a-z]+)+-[0-9]+", "a region like us-east-1"),
        Field(description="Region of the cells. Without it AWS_REGION, then the instance's own region."),
    ] = None
    access_key_id: Annotated[
        str | None,
        matching(r"\S+", "an access key id, text in quotes"),
        Field(
            description="Access key, together with secretAccessKey. Without both the usual sources are asked: "
            "environment, role of the service account, instance profile."
        ),
    ] = None
    secret_access_key: Annotated[
        SecretStr | None,
        matching(r"\S+", "a secret access key, text in quotes"),
        Field(description="Belongs to accessKeyID. Better left out: a role needs no secret in a file."),
    ] = None
    vpc_id: Annotated[
        str | None,
        matching(r"vpc-[0-9a-z]+|default", "the id of a VPC, like vpc-0123abcd, or default"),
        Field(
            description="VPC of the cells; `default` is the account's. Without it that of the subnets, or "
            "the one Kip runs in."
        ),
    ] = None
    subnet_ids: Annotated[
        tuple[Subnet, ...],
        BeforeValidator(one_or_many),
        Field(
            alias="subnetID",
            description="Subnet of the cells, or a list of them, all in one VPC. Without it subnetTags, else the VPC's, "
            "else the one Kip runs in.",
        ),
    ] = ()
    subnet_tags: Annotated[
        Mapping[str, str],
        parsed(_tags, "tags, like {kip-cells: 'true'}, their values as text"),
        Field(
            description="The subnets of the cells are those that have all of these tags, in vpcID or wherever they are. "
            "Instead of subnetID; read again every minute."
        ),
    ] = {}
    endpoint_url: Annotated[
        Url | None, Field(description="Address of the EC2 API, for private endpoints and for tests.")
    ] = None
    insecure_tls_skip_verify: Annotated[
        Flag, Field(description="Accept any certificate from endpointURL. For tests only.")
    ] = False
    marketplace: Annotated[Marketplace, Field(description="Use told to AWS Marketplace.")] = Marketplace()

    @model_validator(mode="after")
    def _keys_belong_together(self) -> Aws:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise wrong("accessKeyID and secretAccessKey together, or neither")
        return self

    @model_validator(mode="after")
    def _one_way_to_the_subnets(self) -> Aws:
        if self.subnet_ids and self.subnet_tags:
            raise wrong("subnetID or subnetTags, not both")
        return self


class Cloud(Section):
    """The cloud that has the cells."""

    aws: Annotated[Aws, Field(description="Amazon Web Services.")] = Aws()
