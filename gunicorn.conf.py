"""How gunicorn serves the API: one process with threads, at the configured address."""

import gc
from typing import Any

from api.worker import Worker
from config import Settings

_settings = Settings.load()
_host = f"[{_settings.host}]" if ":" in _settings.host else _settings.host

bind = f"{_host}:{_settings.port}"
wsgi_app = "app:create_app()"
worker_class = Worker
threads = 32  # threads wait for Discord and for receivers, who may call back meanwhile
worker_connections = 800  # below the usual limit of 1,024 open files, with room for our own
keepalive = 75  # longer than clients keep a connection, so that none sends on one just closed
preload_app = (
    True  # what keeps the app from starting stops the server, not one worker after another
)
control_socket_disable = True
forwarded_allow_ips = ""  # what a proxy says is believed in app.py alone, as TRUSTED_PROXIES says
loglevel = _settings.log_level.lower()


def pre_request(_worker: object, request: Any) -> None:
    """Let the app end a connection with its answer, which WSGI has no way to ask for."""
    request.body.end_connection = request.force_close


def pre_fork(_server: object, _worker: object) -> None:
    """Keep what was loaded so far in pages that master and worker share."""
    gc.collect()
    gc.freeze()
