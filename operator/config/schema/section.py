"""What all sections of provider.yaml have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel

_ACRONYMS = re.compile(r"(?<=[a-z])(Id|Ip|Iam|Url|Tls|Dns)(?=[A-Z]|s?$)|(?<=[a-z])Cidr(?=s?$)")


def key_of(field: str) -> str:
    """The key in the file for a field here: `vpc_id` is `vpcID`, as Go writes acronyms."""
    return _ACRONYMS.sub(lambda match: match[0].upper(), to_camel(field))


class Section(BaseModel):
    """A mapping in the file. A key without a value, or with an empty text, counts as not given."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=key_of, populate_by_name=True, validate_default=False
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_is_absent(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        return {key: value for key, value in data.items() if value is not None and value != ""}
