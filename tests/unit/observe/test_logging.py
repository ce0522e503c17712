"""What a log line looks like."""

from __future__ import annotations

import io
import json
import logging
import warnings
from typing import Any

import pytest
import structlog

from kip.observe.logging import configure


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_json_line() -> None:
    out = io.StringIO()
    configure("json", "info", stream=out)
    structlog.get_logger("kip.cells").info("launched", cell="kip-1", attempt=2)
    (line,) = lines(out)
    assert list(line)[:4] == ["time", "level", "message", "logger"]
    assert line.pop("time").endswith("Z")
    assert line == {
        "message": "launched",
        "level": "info",
        "logger": "kip.cells",
        "cell": "kip-1",
        "attempt": 2,
    }


def test_auto_is_json_where_nobody_looks_and_text_on_a_terminal() -> None:
    pipe, terminal = io.StringIO(), Terminal()
    configure("auto", stream=pipe)
    structlog.get_logger("kip").info("started")
    assert lines(pipe)[0]["message"] == "started"
    configure("auto", stream=terminal)
    structlog.get_logger("kip").info("started", node="kip-0")
    text = terminal.getvalue()
    assert "started" in text
    assert "kip-0" in text
    assert "\x1b[" in text
    assert not text.startswith("{")


def test_text_without_a_terminal_has_no_colours() -> None:
    out = io.StringIO()
    configure("text", stream=out)
    structlog.get_logger("kip").info("started", node="kip-0")
    assert "\x1b" not in out.getvalue()
    assert "node=kip-0" in out.getvalue()


def test_the_level() -> None:
    out = io.StringIO()
    configure("json", "warning", stream=out)
    structlog.get_logger("kip").info("quiet")
    logging.getLogger("kip").info("quiet")
    structlog.get_logger("kip").warning("loud")
    assert [line["message"] for line in lines(out)] == ["loud"]


def test_a_logger_made_before_is_configured_too() -> None:
    log = structlog.get_logger("kip.early")
    first, second = io.StringIO(), io.StringIO()
    configure("json", stream=first)
    log.info("one")
    configure("json", stream=second)
    log.info("two")
    assert [line["message"] for line in lines(first)] == ["one"]
    assert [line["message"] for line in lines(second)] == ["two"]


def test_libraries_come_out_in_the_same_form() -> None:
    out = io.StringIO()
    configure("json", stream=out)
    logging.getLogger("aiohttp.server").error("failed on %s", "/x")
    (line,) = lines(out)
    assert (line["message"], line["level"], line["logger"]) == ("failed on /x", "error", "aiohttp.server")


@pytest.mark.parametrize(
    "name", ["kopf.objects", "asyncssh", "botocore.auth", "kubernetes_asyncio.client.rest"]
)
def test_talkative_libraries_are_quiet_even_when_we_are_not(name: str) -> None:
    out = io.StringIO()
    configure("json", "debug", stream=out)
    logging.getLogger(name).debug("a key")
    logging.getLogger(name).info("an event")
    logging.getLogger(name).warning("a problem")
    assert [line["message"] for line in lines(out)] == ["a problem"]


def test_kopf_says_what_it_is_about() -> None:
    out = io.StringIO()
    configure("json", stream=out)
    reference = {"kind": "Pod", "namespace": "shop", "name": "web"}
    logging.getLogger("kopf.objects").warning("slow", extra={"k8s_ref": reference})
    assert lines(out)[0]["object"] == "Pod shop/web"


def test_a_traceback_has_no_local_variables() -> None:
    for form in ("json", "text"):
        out = io.StringIO()
        configure("json" if form == "json" else "text", stream=out)
        try:
            password = "hunter2"
            raise RuntimeError(f"{len(password)} characters")
        except RuntimeError:
            structlog.get_logger("kip").exception("broken")
        assert "RuntimeError: 7 characters" in out.getvalue()
        assert "'hunter2'" not in out.getvalue()


def test_context_is_in_every_line() -> None:
    out = io.StringIO()
    configure("json", stream=out)
    with structlog.contextvars.bound_contextvars(node="kip-0"):
        structlog.get_logger("kip").info("inside")
    structlog.get_logger("kip").info("outside")
    assert [line.get("node") for line in lines(out)] == ["kip-0", None]


def test_warnings_are_lines() -> None:
    out = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure("json", stream=out)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(False)
    assert "DeprecationWarning: old" in lines(out)[0]["message"]


def test_what_json_cannot_hold_is_written_as_text() -> None:
    out = io.StringIO()
    configure("json", stream=out)
    structlog.get_logger("kip").info("x", error=ValueError("no"), where={"b", "a"} - {"b"}, what=object)
    (line,) = lines(out)
    assert (line["error"], line["where"], line["what"]) == ("no", ["a"], "<class 'object'>")


def test_secrets_do_not_come_out() -> None:
    out = io.StringIO()
    configure("json", stream=out)
    structlog.get_logger("kip").warning("refused", token="abc", header="Bearer abc.def", body=b"abc")
    assert "abc" not in out.getvalue()
