"""Every request's id and line in the log, and the headers that keep browsers careful."""

import logging
import re
import time
from collections.abc import Callable, Iterable
from logging import Formatter, LogRecord
from secrets import token_hex
from typing import Any

from flask import Flask, has_request_context, request
from flask.logging import default_handler

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

REQUEST_ID = "X-Request-ID"
"""The header with a request's id: the client's or the proxy's, or one made here."""

_GOOD_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
_UNPRINTABLE = re.compile(r"[^!-~]")
_READ_BY_GUNICORN = 2**16
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def init_app(app: Flask) -> None:
    """Give each request of the app an id and a line in the log, and guard each response."""
    default_handler.addFilter(_add_request_id)
    default_handler.setFormatter(
        Formatter(
            "[%(asctime)s] %(levelname)s [%(request_id)s] %(message)s", "%Y-%m-%d %H:%M:%S %z"
        )
    )
    logging.getLogger("werkzeug").addFilter(_is_no_request)
    inner = app.wsgi_app

    def wsgi_app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        begun_at = time.perf_counter()
        offered = environ.get("HTTP_X_REQUEST_ID", "")
        request_id = offered if _GOOD_ID.fullmatch(offered) else token_hex(8)
        environ["laurels.request_id"] = request_id

        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            # The query is left out of the log, since people put secrets there.
            app.logger.info(
                "%s %s %s, %.1f ms, %s at %s",
                environ["REQUEST_METHOD"],
                _UNPRINTABLE.sub("?", environ["PATH_INFO"]),
                status[:3],
                (time.perf_counter() - begun_at) * 1000,
                environ.get("REMOTE_USER", "nobody"),
                environ.get("REMOTE_ADDR"),
                extra={"request_id": request_id},
            )
            _end_connection(environ, status)
            given = dict(headers)
            if given.get("Content-Length") == "0" or status.startswith("204"):
                headers = [header for header in headers if header[0] != "Content-Type"]
            guards = ((name, value) for name, value in _HEADERS.items() if name not in given)
            return start_response(status, [*headers, (REQUEST_ID, request_id), *guards], *exc_info)

        return inner(environ, start)

    app.wsgi_app = wsgi_app  # type: ignore[method-assign]


def _end_connection(environ: Environ, status: str) -> None:
    """Have gunicorn announce that it closes the connection if an error leaves a body unread.

    It reads up to 64 KiB of the rest of a body, and nothing after a bad chunk.
    """
    end = getattr(environ["wsgi.input"], "end_connection", None)
    if end and status >= "4":
        chunked = "HTTP_TRANSFER_ENCODING" in environ
        if chunked or int(environ.get("CONTENT_LENGTH") or 0) >= _READ_BY_GUNICORN:
            end()


def _is_no_request(record: LogRecord) -> bool:
    """Return whether a line of the development server is about anything but a request."""
    return '"%s" %s %s' not in record.msg


def _add_request_id(record: LogRecord) -> bool:
    if not hasattr(record, "request_id"):
        environ = request.environ if has_request_context() else {}
        record.request_id = environ.get("laurels.request_id", "-")
    return True
