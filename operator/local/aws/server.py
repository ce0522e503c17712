"""The server: control API, then throttle, faults and the log of calls, then moto."""

from __future__ import annotations

import io
import json
import re
import socket
import time
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server
from werkzeug.test import run_wsgi_app
from werkzeug.wrappers import Response

from kip.local.aws import answers, ec2, efs, metering
from kip.local.aws.account import Account
from kip.local.aws.backend import Site
from kip.local.aws.calls import Calls
from kip.local.aws.control import PREFIX, Control
from kip.local.aws.faults import DROP, TIMEOUT, Fault, Faults
from kip.local.aws.throttle import Throttle

#: Actions that change nothing, and need no saving.
_READS = re.compile(r"^(Describe|Get|List|Search)")
_ERROR_CODE = re.compile(rb"<Code>([^<]+)</Code>")


class LocalAws:
    """AWS as a WSGI application."""

    def __init__(self, account: Account) -> None:
        answers.install()
        ec2.install(account)
        metering.install()
        self._account = account
        self._faults = Faults()
        self._calls = Calls()
        self._throttle = Throttle()
        self._control = Control(account, self._faults, self._calls, self._throttle)
        self._moto = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith(PREFIX):
            answer: Iterable[bytes] = self._control(environ, start_response)
            return answer
        received, parameters = time.time(), _parameters(environ)
        action = parameters.get("Action") or _action_by_path(environ)
        if "Action" in parameters and not self._throttle.admits(action, parameters):
            fault: Fault | None = Fault(action=action, error="RequestLimitExceeded")
        else:
            fault = self._faults.take(action, parameters)
        response = self._answer(environ, action, fault)
        if response is None:
            error = fault.error if fault else None
            self._calls.record(action, parameters, received=received, status=None, error=error)
            _hang_up(environ)
            return []
        self._calls.record(
            action, parameters, received=received, status=response.status_code, error=_error_code(response)
        )
        return response(environ, start_response)

    def _answer(self, environ: dict[str, Any], action: str, fault: Fault | None) -> Response | None:
        """What to answer; None for nothing at all."""
        if fault is None:
            return self._serve(environ, action)
        if fault.when == "before":
            self._faults.hold(fault.hold_s)
        response = self._serve(environ, action, fault.max_grant) if fault.takes_effect else None
        if fault.when == "after":
            self._faults.hold(fault.hold_s)
        if fault.error in (TIMEOUT, DROP):
            return None
        if not fault.error:
            return response
        return _error_response(fault.error, fault.text, fault.status, _speaks_json(environ))

    def _serve(self, environ: dict[str, Any], action: str, max_grant: int | None = None) -> Response:
        """One call at a time: moto's objects know no threads, and a saved state has to be a whole one."""
        with self._account.serving(changes=not _READS.match(action)):
            self._account.max_grant = max_grant
            try:
                body, status, headers = run_wsgi_app(self._moto, environ, buffered=True)
            except Exception as error:
                # What moto does not know ends here; an SDK needs an answer that it can read.
                traceback.print_exc()
                return _error_response(
                    "InternalError",
                    f"the local AWS failed at {action}: {error!r}",
                    500,
                    _speaks_json(environ),
                )
        return Response(b"".join(body), status=status, headers=headers)


class AwsServer:
    """The application behind a port."""

    def __init__(self, host: str, port: int, site: Site, state: Path | None) -> None:
        """Listens at once; port 0 takes a free one. `state` is the directory that keeps everything.

        Raises:
            StateError: the kept state cannot be used.
            OSError: the port is taken.
        """
        file = state / "aws.state" if state else None
        app = LocalAws(Account(site, file))
        # `make_server` ends the process when the port is taken; an open socket makes it the caller's error.
        listener = socket.create_server((host, port))
        self._server = make_server(
            host,
            listener.getsockname()[1],
            app,
            threaded=True,
            request_handler=_QuietHandler,
            fd=listener.detach(),
        )
        self.address: tuple[str, int] = (host, self._server.port)

    def serve(self) -> None:
        """Until the process ends."""
        self._server.serve_forever(poll_interval=0.1)


class _QuietHandler(MotoRequestHandler):
    """No line per request; errors are still told."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


def _parameters(environ: dict[str, Any]) -> dict[str, str]:
    """The call's parameters, of body and query; the body is put back for moto."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    query = parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    if _speaks_json(environ):
        return {**_texts(body), **dict(query)}
    form = environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded")
    return dict((parse_qsl(body.decode(), keep_blank_values=True) if form else []) + query)


def _texts(body: bytes) -> dict[str, str]:
    """The texts of a JSON object, for faults that look at them."""
    try:
        found = json.loads(body or b"{}")
    except ValueError:
        return {}
    return {key: value for key, value in found.items() if isinstance(value, str)}


def _action_by_path(environ: dict[str, Any]) -> str:
    """For what is no query API; the path itself, if it is not known."""
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        return str(target).rpartition(".")[2]
    return efs.action_of(environ["REQUEST_METHOD"], environ["PATH_INFO"]) or environ["PATH_INFO"]


def _speaks_json(environ: dict[str, Any]) -> bool:
    by_path = efs.action_of(environ["REQUEST_METHOD"], environ["PATH_INFO"])
    return by_path is not None or "HTTP_X_AMZ_TARGET" in environ


def _error_code(response: Response) -> str | None:
    if response.status_code < 400:
        return None
    if name := response.headers.get("X-Amzn-ErrorType"):
        return name
    code = _ERROR_CODE.search(response.get_data())
    return code[1].decode() if code else str(response.status_code)


def _error_response(code: str, message: str, status: int, as_json: bool = False) -> Response:
    """In the form of EC2's query API, or of APIs that speak JSON."""
    if as_json:
        headers = {"X-Amzn-ErrorType": code}
        body = json.dumps({"__type": code, "ErrorCode": code, "message": message})
        return Response(body, status=status, headers=headers, content_type="application/json")
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Response><Errors><Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error></Errors>"
        "<RequestID>00000000-0000-0000-0000-000000000000</RequestID></Response>"
    )
    return Response(text, status=status, content_type="text/xml")


def _hang_up(environ: dict[str, Any]) -> None:
    """Close the connection without a byte of an answer."""
    connection: socket.socket = environ["werkzeug.socket"]
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # the client was faster
