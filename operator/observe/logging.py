"""Logs: one line for each thing that happens, JSON for machines, columns for a terminal, never a secret.

Modules log with `structlog.get_logger(__name__)` and pass facts as keywords. What libraries log through the
standard library comes out in the same form.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor

from kip.observe.redact import redact

Format = Literal["auto", "json", "text"]
Level = Literal["debug", "info", "warning", "error"]

# What each library may say at most. On DEBUG, asyncssh, the SDK and the Kubernetes client print keys, signatures and
# whole Secrets; on INFO, kopf tells every event that it sees and asyncssh every channel.
_LIBRARIES: Mapping[str, int] = {
    "aiobotocore": logging.WARNING,
    "aiohttp": logging.WARNING,
    "asyncssh": logging.WARNING,
    "boto3": logging.WARNING,
    "botocore": logging.WARNING,
    "kopf": logging.WARNING,
    # It warns at each start that it leaves signals alone, which is what is wanted of it in its thread.
    "kopf._core.reactor.running": logging.ERROR,
    "kubernetes_asyncio": logging.WARNING,
    "urllib3": logging.WARNING,
}


def configure(format: Format = "auto", level: Level = "info", *, stream: TextIO | None = None) -> None:  # noqa: A002
    """Set up logging for the whole process; may be called again. Writes to stderr unless `stream` is given.

    `auto` means text on a terminal and JSON elsewhere.
    """
    out = stream or sys.stderr
    minimum = logging.getLevelNamesMapping()[level.upper()]
    as_text = format == "text" or (format == "auto" and out.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if as_text else "iso", utc=not as_text, key="time"),
        _object_of_kopf,
    ]
    structlog.configure(
        processors=[
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(minimum),
        logger_factory=structlog.stdlib.LoggerFactory(),
        # Modules make their loggers before this is called.
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(as_text=as_text, colors=out.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(minimum)
    for name, quietest in _LIBRARIES.items():
        logging.getLogger(name).setLevel(max(quietest, minimum))
    logging.captureWarnings(True)


def _renderers(*, as_text: bool, colors: bool) -> list[Processor]:
    # Tracebacks without local variables: those hold secrets.
    if as_text:
        return [
            structlog.processors.format_exc_info,
            redact,
            structlog.dev.ConsoleRenderer(
                timestamp_key="time",
                colors=colors,
                pad_event_to=36,
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ]
    return [
        structlog.processors.format_exc_info,
        redact,
        structlog.processors.EventRenamer("message"),
        _as_read,
        structlog.processors.JSONRenderer(default=str),
    ]


def _as_read(_logger: object, _method: str, event: EventDict) -> EventDict:
    """When, how bad, what: people read JSON lines too."""
    first = {key: event[key] for key in ("time", "level", "message", "logger") if key in event}
    return {**first, **event}


def _object_of_kopf(_logger: object, _method: str, event: EventDict) -> EventDict:
    """kopf says which object a line is about beside the message."""
    record = event.get("_record")
    reference = getattr(record, "k8s_ref", None)
    if isinstance(reference, Mapping):
        place = "/".join(filter(None, (reference.get("namespace"), reference.get("name"))))
        event["object"] = f"{reference.get('kind', 'object')} {place}"
    return event
