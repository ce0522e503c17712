"""Which keys provider.yaml has, as a JSON schema: for the chart, whose `config` Helm checks before anything is installed.

Keys only: what a value may be is told better, with line and example, by Kip itself (`kip config check`).
"""

from __future__ import annotations

from typing import Any, get_origin

from pydantic import BaseModel

from kip.config import obsolete
from kip.config.problems import section_of
from kip.config.schema.settings import Settings

Schema = dict[str, Any]


def keys() -> Schema:
    """Those of today and those of the first Kip, which are accepted with a warning; no others."""
    found = _section(Settings)
    for *parents, key in (*obsolete.WITHOUT_EFFECT, *obsolete.MOVED):
        place = found
        for parent in parents:
            place = place["properties"][parent]
        place["properties"][key] = {}
    return found


def _section(model: type[BaseModel]) -> Schema:
    properties: Schema = {}
    for field in model.model_fields.values():
        inner = section_of(field.annotation)
        schema = {} if inner is None else _section(inner)
        if inner is not None and get_origin(field.annotation) is tuple:
            schema = {"type": "array", "items": schema}
        properties[field.alias or ""] = schema
    return {"type": "object", "additionalProperties": False, "properties": properties}
