"""Section `log`: what Kip says while it works."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kip.config.schema.section import Section


class Log(Section):
    """What Kip says while it works."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="The least that is told.")
    ] = "info"
    format: Annotated[
        Literal["auto", "json", "text"],
        Field(description="`auto` is text on a terminal and JSON lines elsewhere."),
    ] = "auto"
