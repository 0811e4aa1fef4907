"""A receiver of events, and a stand-in for Discord: real servers on sockets."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any, Self

from standardwebhooks import Webhook

SECRET = "a secret"  # a test's


class HttpServer:
    """A server on a free port, which can be stopped and started again on the same one."""

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler], None]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with suppress(ConnectionError):
                    answer(self)

            do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - http.server's names

            def log_message(self, *_: Any) -> None:
                """Keep quiet."""

        self.handler = Handler
        self.port = 0
        self.server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), self.handler)
        self.port = self.server.server_port
        Thread(target=self.server.serve_forever, args=[0.01], daemon=True).start()
        return self

    def stop(self) -> None:
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def __exit__(self, *_: object) -> None:
        self.stop()


class Receiver(HttpServer):
    """A receiver: keeps what it is sent, and answers as it is told to.

    `mode` is a status, "hang", "drip" or "hang up"; `refuses` says which bodies get a 500.
    `before_answer` is called with each body. The headers that it keeps include the path.
    """

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.mode: int | str = 200
        self.refuses: Callable[[Any], bool] = lambda _: False
        self.before_answer: Callable[[Any], None] = lambda _: None
        self.attempts: list[tuple[dict[str, str], Any]] = []
        self.taken: list[Any] = []
        self.paths: list[str] = []
        self.lock = Lock()
        self.end = Event()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        self.paths.append(request.path)
        raw = request.rfile.read(int(request.headers["Content-Length"]))
        body = json.loads(raw)
        headers = {name.lower(): value for name, value in request.headers.items()}
        headers[":path"] = request.path
        assert headers["authorization"] == f"Bearer {SECRET}"
        assert headers["content-type"] == "application/json"
        Webhook(SECRET.encode()).verify(raw, headers)
        with self.lock:
            self.attempts.append((headers, body))
        self.before_answer(body)
        if self.mode == "hang":
            self.end.wait(60)
        elif self.mode == "drip":
            for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n":
                request.wfile.write(bytes([byte]))
                time.sleep(0.3)
        elif self.mode != "hang up":
            status = 500 if self.refuses(body) else int(self.mode)
            if 200 <= status < 300:
                with self.lock:
                    self.taken.append(body)
            request.send_response(status)
            request.send_header("Location", f"{self.url}/elsewhere")
            request.send_header("Content-Length", "0")
            request.end_headers()

    @property
    def ids(self) -> list[str]:
        """Return the webhook-id of each attempt."""
        return [headers["webhook-id"] for headers, _ in self.attempts]

    def stop(self) -> None:
        self.end.set()
        super().stop()


class Discord(HttpServer):
    """A stand-in for Discord: answers `replies`, by token."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.replies: dict[str, Any] = {}
        self.requests: list[dict[str, str]] = []
        self.end = Event()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append(headers)
        assert (request.command, request.path) == ("GET", "/api/oauth2/@me")
        reply = self.replies.get(headers["authorization"].removeprefix("Bearer "), 401)
        if reply == "hang":
            self.end.wait(60)
            return
        status, body = (reply, b"{}") if isinstance(reply, int) else (200, reply)
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        request.send_response(status)
        if status == 429:
            request.send_header("Retry-After", "7.2")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def member(self, user_id: int, token: str, **user: Any) -> None:
        """Make a token good for a member."""
        user = {"id": str(user_id), "username": "ann", "discriminator": "0", "avatar": None} | user
        self.replies[token] = {
            "application": {"id": "77", "name": "site"},
            "scopes": ["identify"],
            "expires": "2030-01-01T00:00:00",
            "user": user,
        }

    def stop(self) -> None:
        self.end.set()
        super().stop()
