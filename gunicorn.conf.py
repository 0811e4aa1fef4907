"""How gunicorn serves the API: one process with threads, at the configured address."""

import gc
from typing import Any

from gunicorn.util import close_graceful
from gunicorn.workers.gthread import ThreadWorker

from config import Settings

_settings = Settings.load()
_host = f"[{_settings.host}]" if ":" in _settings.host else _settings.host

bind = f"{_host}:{_settings.port}"
wsgi_app = "app:create_app()"
threads = 32  # threads wait for Discord and for receivers, who may call back meanwhile
preload_app = (
    True  # what keeps the app from starting stops the server, not one worker after another
)
control_socket_disable = True
forwarded_allow_ips = ""  # what a proxy says is believed in app.py alone, as TRUSTED_PROXIES says
loglevel = _settings.log_level.lower()


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's worker with threads, which also close connections."""

    def handle(self, conn: Any) -> Any:
        """Handle a request, then close the connection if it was the last one.

        gunicorn gives the client 2 s to read the answer and to hang up, in the thread that accepts
        connections: nobody else is served meanwhile. What the client still sends is read, since it
        may read the answer only after that, and the answer is lost if it cannot send.
        """
        goes_on = super().handle(conn)
        if not goes_on:
            close_graceful(conn.sock, max_drain=2**24)
            conn.close = lambda **_: None
        return goes_on


worker_class = Worker


def pre_request(_worker: object, request: Any) -> None:
    """Let the app end a connection with its answer, which WSGI has no way to ask for."""
    request.body.end_connection = request.force_close


def pre_fork(_server: object, _worker: object) -> None:
    """Keep what was loaded so far in pages that master and worker share."""
    gc.collect()
    gc.freeze()
