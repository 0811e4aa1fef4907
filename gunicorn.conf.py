"""How gunicorn serves the API: processes with threads, at the configured address."""

import errno
import gc
import os
import signal
import socket
import time
from functools import partial
from typing import Any

from api.worker import STOPS, Worker
from config import Settings
from database import close_database

REQUESTS_OF_A_CONNECTION = 100
"""After that many a connection ends, or a proxy would never ask a server that started later."""

_settings = Settings.load()

bind = _settings.address
wsgi_app = "app:create_app()"
worker_class = Worker
workers = _settings.workers
threads = 32  # threads wait for Discord and for receivers, which may call back meanwhile
worker_connections = 800  # below the usual limit of 1,024 open files, with room for our own
keepalive = 75  # longer than clients keep a connection, so that none sends on one just closed
preload_app = True  # an app that cannot start stops the server, not one worker after another
control_socket_disable = True
forwarded_allow_ips = ""  # only app.py believes a proxy, as TRUSTED_PROXIES says
loglevel = _settings.log_level.lower()


def on_starting(server: Any) -> None:
    """Exit with one line if the server cannot listen on the address."""
    inherited = os.environ.keys() & {"GUNICORN_FD", "LISTEN_FDS"}
    if inherited or server.cfg.bind != [bind]:  # it is listening already, or elsewhere
        return
    family = socket.AF_INET6 if ":" in _settings.host else socket.AF_INET
    for _ in range(10):
        try:
            socket.create_server((_settings.host, _settings.port), family=family).close()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise SystemExit(
                    f"Bad configuration: HOST or PORT: cannot listen on {bind}: "
                    f"{os.strerror(error.errno or 0)}."
                ) from None
            time.sleep(0.1)  # a killed server lingers for a moment
        else:
            return
    raise SystemExit(
        f"Port {_settings.port} is taken, perhaps by a Laurels that is already running. "
        f"`make run PORT={_settings.port + 1}` serves on another."
    )


def when_ready(server: Any) -> None:
    """Tell people where to look."""
    server.log.info("Laurels is at %s", _settings.local_url)


def pre_request(_worker: object, request: Any) -> None:
    """Let the app end a connection with its answer, which WSGI has no way to ask for."""
    request.body.end_connection = request.force_close
    if request.req_number >= REQUESTS_OF_A_CONNECTION:
        request.force_close()


def pre_fork(_server: object, _worker: object) -> None:
    """Keep everything loaded so far in memory that master and worker share, and hold signals."""
    gc.collect()
    gc.freeze()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # until worker and master can handle them


os.register_at_fork(after_in_parent=partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, STOPS))


def on_exit(server: Any) -> None:
    """Leave the database in one file, after all workers have ended."""
    with server.app.wsgi().app_context():
        close_database()
