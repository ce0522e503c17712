"""The keys that Helm lets through below `config`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kip.config import obsolete
from kip.config.keyschema import keys
from kip.config.problems import dotted, known_paths
from kip.config.schema.settings import Settings


def paths(schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, inner in schema.get("items", schema).get("properties", {}).items():
        yield prefix + key
        yield from paths(inner, f"{prefix}{key}.")


def test_every_key_and_no_other() -> None:
    accepted = {dotted(path) for path in (*known_paths(Settings), *obsolete.WITHOUT_EFFECT, *obsolete.MOVED)}
    assert set(paths(keys())) == accepted


def test_a_section_of_several_is_a_list() -> None:
    pools = keys()["properties"]["cells"]["properties"]["standbyCells"]
    assert pools["type"] == "array"
    assert pools["items"]["additionalProperties"] is False


def test_the_chart_has_them(project: Path) -> None:
    schema = json.loads((project / "charts" / "kip" / "values.schema.json").read_text())
    assert schema["properties"]["config"] == keys(), "run tools/make_chart_schema"
