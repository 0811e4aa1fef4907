"""The reverse proxies of docs/deploy.md, with their configuration from `deploy/`."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import pytest

from tests.support.databases import Database
from tests.support.server import ROOT, Server, free_port

GUIDE = ROOT / "docs/deploy.md"

Write = Callable[[str, int, Path], list[str]]
"""Writes the configuration of a proxy; returns the command that starts it."""


def nginx(site: str, port: int, folder: Path) -> list[str]:
    """Write a configuration with nginx's site; return the command that serves it."""
    site = site.replace("listen 80;", f"listen 127.0.0.1:{port};").replace("listen [::]:80;", "")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    (folder / "config").write_text(
        f"user root; daemon off; pid {folder}/pid; error_log stderr; events {{}}"
        f"http {{ access_log off; {folders} {site} }}"
    )
    return ["nginx", "-e", "stderr", "-c", str(folder / "config")]


def caddy(site: str, port: int, folder: Path) -> list[str]:
    """Write a configuration with Caddy's site; return the command that serves it."""
    site = site.replace("{$DOMAIN:laurels.example} {", f"http://127.0.0.1:{port} {{")
    (folder / "config").write_text(site.replace("\n{\n", "\n{\n\tadmin off\n", 1))
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "config")]


PROXIES = [(nginx, "nginx.conf"), (caddy, "Caddyfile")]


@contextmanager
def proxy(write: Write, site: str, folder: Path, *upstreams: int) -> Iterator[int]:
    """Run a proxy as documented in front of a server, or Caddy of several; return its port."""
    if not shutil.which(write.__name__):
        pytest.skip(f"needs {write.__name__}")
    port = free_port()
    text = (ROOT / "deploy" / site).read_text()
    if len(upstreams) > 1:
        (several,) = re.findall(r"^\treverse_proxy[^`]*", GUIDE.read_text(), re.MULTILINE)
        text = text.replace("\treverse_proxy {$UPSTREAM:127.0.0.1:8000} {\n", several)
    for usual, upstream in zip(("127.0.0.1:8000", "10.0.0.2:8000"), upstreams, strict=False):
        text = text.replace(usual, f"127.0.0.1:{upstream}")
    process = subprocess.Popen(
        write(text, port, folder),
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        stderr=subprocess.DEVNULL,
    )
    try:
        while not _is_open(port):
            assert process.poll() is None
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait()


def _is_open(port: int) -> bool:
    """Return whether somebody is listening."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Pair:
    """Two servers of two workers each, on one database and behind one Caddy."""

    def __init__(self, database: Database, **settings: str) -> None:
        self.database = database
        self.servers = [Server(database, WORKERS="2", **settings) for _ in range(2)]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            with ThreadPoolExecutor() as pool:
                list(pool.map(stack.enter_context, self.servers))
            folder = Path(stack.enter_context(TemporaryDirectory()))
            ports = (server.port for server in self.servers)
            port = stack.enter_context(proxy(caddy, "Caddyfile", folder, *ports))
            self.url = f"http://127.0.0.1:{port}"
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
