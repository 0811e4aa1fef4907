"""What strangers can do to the real server by being slow or silent."""

import resource
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import requests
from flask import Flask

from database import db, transaction
from models import Account
from tests.support.server import BIN, ROOT, Server, environment
from tests.system.test_deploy import PROXIES, proxy

HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n"
PIECE_OF_BODY = b"POST /teams/new HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
LARGE_PAGE = b"GET /accounts/search?per_page=1000 HTTP/1.1\r\nHost: x\r\n\r\n"
USUAL_FILES, TEST_FILES = 1024, 4096
THREADS = 32


@pytest.fixture
def server(database: Path) -> Iterator[Server]:
    """Give the real server, which may open as many files as usual; this process may open more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (USUAL_FILES, hard))
    with Server(database) as server:
        resource.setrlimit(resource.RLIMIT_NOFILE, (TEST_FILES, hard))
        yield server
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def connect() -> Iterator[Callable[..., list[socket.socket]]]:
    """Make connections on which the same is sent, and nothing more, until the test ends."""
    with ExitStack() as connections:

        def make(port: int, count: int, sent: bytes, window: int = 2**16) -> list[socket.socket]:
            made = []
            for _ in range(count):
                connection = connections.enter_context(socket.socket())
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
                connection.settimeout(20)
                connection.connect(("127.0.0.1", port))
                connection.sendall(sent)
                made.append(connection)
            return made

        yield make


def seconds_to_serve(port: int) -> float:
    """Return how long somebody else has to wait."""
    begun_at = time.monotonic()
    assert requests.get(f"http://127.0.0.1:{port}/health", timeout=60).ok
    return time.monotonic() - begun_at


@pytest.mark.parametrize(
    ("count", "sent"),
    [(1100, b""), (1100, HEALTH + b"\r\n"), (100, HEALTH + b"Connection: close\r\n\r\n")],
    ids=["idle", "kept", "answered for the last time"],
)
def test_silent_connections(
    server: Server, connect: Callable[..., list[socket.socket]], count: int, sent: bytes
) -> None:
    """They hold no thread, and leave room for others."""
    for connection in connect(server.port, count, sent):
        if sent:
            assert connection.recv(12) == b"HTTP/1.1 200"
    assert seconds_to_serve(server.port) < 2
    log = Path(server.log.name).read_text()
    assert "Error" not in log
    assert log.count("Booting worker") == 1


def test_clients_that_fall_silent(
    server: Server,
    connect: Callable[..., list[socket.socket]],
    make_app: Callable[..., Flask],
) -> None:
    """In the middle of the headers, of the body, or of the answer: a thread waits 10 s for them."""
    name, url = "\N{GRINNING FACE}" * 255, f"http://x/{'x' * 2000}"  # more than a kernel takes
    app = make_app()
    with app.app_context(), transaction(write=True):
        db.session.add_all(
            Account(id=key, discriminator="0", permissions=0, name=name, avatar_url=url)
            for key in range(1, 1001)
        )
    bodies = connect(server.port, 12, PIECE_OF_BODY)
    connect(server.port, 10, HEALTH)
    connect(server.port, 10, LARGE_PAGE, window=1024)
    time.sleep(0.5)
    assert 2 < seconds_to_serve(server.port) < 15
    for connection in bodies:
        answer = b"".join(iter(lambda: connection.recv(2**16), b""))  # noqa: B023 - read at once
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.endswith(b'{"detail": "The body cannot be read."}')
    log = Path(server.log.name).read_text()
    assert "Error" not in log


@pytest.mark.parametrize(("write", "site"), PROXIES)
def test_bodies_that_do_not_end_behind_a_proxy(
    server: Server,
    connect: Callable[..., list[socket.socket]],
    tmp_path: Path,
    write: Callable[[str, int, Path], list[str]],
    site: str,
) -> None:
    """The server does not hear of them, and Caddy ends them."""

    def in_a_hurry(site: str, port: int, folder: Path) -> list[str]:
        return write(site.replace("read_body 30s", "read_body 1s"), port, folder)

    in_a_hurry.__name__ = write.__name__
    with proxy(in_a_hurry, site, server.port, tmp_path) as port:
        bodies = connect(port, 2 * THREADS, PIECE_OF_BODY)
        assert seconds_to_serve(port) < 2
        if site == "Caddyfile":
            for connection in bodies:
                assert b"Connection: close" in connection.recv(2**16)
    assert "/teams/new" not in Path(server.log.name).read_text()


def test_a_connection_is_kept(server: Server) -> None:
    """For longer than the pools of clients keep it: aiohttp's for 15 s."""
    assert "keepalive = 75" in (ROOT / "gunicorn.conf.py").read_text()
    with socket.create_connection(("127.0.0.1", server.port), timeout=9) as connection:
        for pause in (0, 3.5):
            time.sleep(pause)
            connection.sendall(HEALTH + b"\r\n")
            assert connection.recv(2**16).startswith(b"HTTP/1.1 200 ")


def test_the_database_is_for_its_owner_alone(tmp_path: Path) -> None:
    """It holds the secrets of callbacks, and others may be on the machine."""
    database = tmp_path / "laurels.sqlite3"
    subprocess.run(
        [BIN / "flask", "db", "upgrade"],
        cwd=ROOT,
        env=environment(database),
        umask=0o022,
        check=True,
        capture_output=True,
    )
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("SELECT count(*) FROM accounts").fetchall()
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(
        ["laurels.sqlite3", "laurels.sqlite3-shm", "laurels.sqlite3-wal"], 0o600
    )
