"""Which instance types there are for pods: `cells.instanceTypes`, and one type by its name."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from kip.config.schema.section import Section
from kip.config.types import parsed, words
from kip.model.patterns import INSTANCE_TYPE, INSTANCE_TYPE_GLOB, UNUSABLE_FAMILY


def _instance_type(value: Any) -> str:
    if not INSTANCE_TYPE.fullmatch(value) or value.startswith(UNUSABLE_FAMILY):
        raise ValueError(value)
    return str(value)


InstanceTypeName = Annotated[str, parsed(_instance_type, "an instance type like t3.small, of no t1 family")]


def _instance_patterns(value: Any) -> tuple[str, ...]:
    patterns = words(value)
    if not all(INSTANCE_TYPE_GLOB.fullmatch(pattern) for pattern in patterns):
        raise ValueError(value)
    return patterns


_Patterns = Annotated[
    tuple[str, ...],
    parsed(_instance_patterns, "a list of families, types or patterns, like [m7i, c7i.large, r*]"),
]


class InstanceTypes(Section):
    """Which instance types pods may get. Whatever a pod asks for by name, these hold."""

    allowed: Annotated[
        _Patterns,
        Field(
            description="Families (`m7i`), types (`m7i.large`) or patterns (`c7*`, `*.metal`): no others are "
            "chosen. Without it all are."
        ),
    ] = ()
    excluded: Annotated[
        _Patterns, Field(description="Likewise: these are never chosen, though they be allowed above.")
    ] = ()
