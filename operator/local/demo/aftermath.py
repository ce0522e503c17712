"""What can be seen when the story went wrong."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from kip.local import lifecycle
from kip.local.demo.stage import CommandFailed, Stage
from kip.local.demo.story import NAMESPACE
from kip.local.world import World

_LINES = 15
_SECONDS = 10.0  # for each command: what is broken may not answer at all


def tell(stage: Stage, world: World) -> None:
    """Shows what of the world is not ready, pods, events, cells, and the last lines of the logs that matter most."""
    stage.say()
    for part in lifecycle.status(world):
        if part.started and part.missing:
            stage.say(f"{part.name}: {part.missing}", "bold red")
    for command in (
        f"kubectl -n {NAMESPACE} get pods -o wide",
        f"kubectl -n {NAMESPACE} get events --sort-by=.lastTimestamp",
        "kubectl get cells -o yaml | grep -v 'f:' | tail -n 60",
    ):
        with suppress(CommandFailed):
            stage.run(command, seconds=_SECONDS)
    for name in ("operator", "room"):
        log = world.logs / f"{name}.log"
        stage.say()
        stage.say(f"Last lines of {log}:", "bold")
        for line in last_lines(log):
            stage.say(line)


def last_lines(log: Path, count: int = _LINES) -> list[str]:
    """The log's end, lines of JSON made readable."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-count:]
    except OSError as error:
        return [f"(it cannot be read: {error.strerror})"]
    return [readable(line) for line in lines] or ["(it is empty)"]


def readable(line: str) -> str:
    """A structured log line as text: time, level, message, then the rest; any other line as it is."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    if not isinstance(entry, dict):
        return line
    first = [str(entry.pop(key)) for key in ("time", "level", "message") if key in entry]
    entry.pop("logger", None)
    return " ".join([*first, *(f"{key}={value}" for key, value in entry.items())])
