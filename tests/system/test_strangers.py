"""Strangers on the real server that are slow, silent or large."""

import json
import os
import re
import resource
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path

import pytest
import requests
from flask import Flask

from api.parsing import MAX_BODY
from database import db, transaction
from models import Account
from permissions import Permission
from tests.support.community import Community
from tests.support.databases import Database
from tests.support.proxies import PROXIES, Write, proxy
from tests.support.server import BIN, ROOT, Server, environment

HEALTH = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n"
PIECE_OF_BODY = (
    b"POST /auth/discord HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999\r\n\r\n" + bytes(9999)
)
LARGE_PAGE = b"GET /accounts/search?per_page=1000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
USUAL_FILES, TEST_FILES = 1024, 4096
THREADS = 32


class Hasty(Server):
    """The server, with a kernel that hands over a connection at once, not after a minute."""

    def configure(self, configuration: Path) -> None:
        usual = (ROOT / "gunicorn.conf.py").read_text()
        configuration.write_text(f"from api import worker\nworker.DEFERRED = 0\n{usual}")
        self.arguments = ("--config", str(configuration))


@pytest.fixture
def start(database: Database, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers, which may open as many files as usual; this process may open more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as servers:

        def make(kind: type[Server] = Server) -> Server:
            resource.setrlimit(resource.RLIMIT_NOFILE, (USUAL_FILES, hard))
            server = kind(database)
            if isinstance(server, Hasty):
                server.configure(tmp_path / "gunicorn.conf.py")
            servers.enter_context(server)
            resource.setrlimit(resource.RLIMIT_NOFILE, (TEST_FILES, hard))
            return server

        yield make
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def server(start: Callable[..., Server]) -> Server:
    """Start the real server."""
    return start()


@pytest.fixture
def connect() -> Iterator[Callable[..., list[socket.socket]]]:
    """Make connections, send the same on each, and nothing more until the test ends."""
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
    ("kind", "count", "sent"),
    [
        (Server, 1100, b""),
        (Hasty, 320, b""),
        (Server, 1100, HEALTH + b"\r\n"),
        (Server, 100, HEALTH + b"Connection: close\r\n\r\n"),
    ],
    ids=["idle", "handed over idle", "kept", "answered for the last time"],
)
def test_silent_connections(
    start: Callable[..., Server],
    connect: Callable[..., list[socket.socket]],
    kind: type[Server],
    count: int,
    sent: bytes,
) -> None:
    """They hold no thread, and leave room for others."""
    server = start(kind)
    for connection in connect(server.port, count, sent):
        if sent:
            connection.settimeout(3)
            assert connection.recv(12) == b"HTTP/1.1 200"
    assert seconds_to_serve(server.port) < 2
    log = Path(server.log.name).read_text()
    assert "Error" not in log
    assert log.count("Booting worker") == 1


@pytest.mark.parametrize(
    ("sent", "answered", "seconds"),
    [
        (HEALTH, b"", 13),
        (PIECE_OF_BODY, b"HTTP/1.1 400", 13),
        (LARGE_PAGE, b"HTTP/1.1 200", 20),  # making so many takes some seconds
    ],
    ids=["headers", "body", "answer"],
)
def test_clients_that_fall_silent(
    server: Server,
    connect: Callable[..., list[socket.socket]],
    make_app: Callable[..., Flask],
    *,
    sent: bytes,
    answered: bytes,
    seconds: float,
) -> None:
    """In the middle of headers, body or answer: each holds a thread for 10 s, and no longer."""
    url = f"http://x/{'x' * 2000}"  # so that a page is more than the kernel accepts
    app = make_app()
    with app.app_context(), transaction(write=True):
        db.session.add_all(
            Account(id=key, discriminator="0", permissions=0, name="Ann", avatar_url=url)
            for key in range(1, 1001)
        )
    connections = connect(server.port, THREADS, sent, window=1024)
    time.sleep(2)  # until threads are waiting for all of them
    assert seconds_to_serve(server.port) < seconds
    for connection in connections:
        assert connection.recv(12) == answered
    log = Path(server.log.name).read_text()
    assert "Error" not in log


@pytest.mark.parametrize(("write", "site"), PROXIES)
def test_bodies_that_do_not_end_behind_a_proxy(
    server: Server,
    connect: Callable[..., list[socket.socket]],
    tmp_path: Path,
    write: Write,
    site: str,
) -> None:
    """The server does not see them, and Caddy ends them."""

    def in_a_hurry(site: str, port: int, folder: Path) -> list[str]:
        return write(site.replace("read_body 30s", "read_body 4s"), port, folder)

    in_a_hurry.__name__ = write.__name__
    with proxy(in_a_hurry, site, tmp_path, server.port) as port:
        bodies = connect(port, 2 * THREADS, PIECE_OF_BODY)
        assert seconds_to_serve(port) < 2
        if site == "Caddyfile":
            for connection in bodies:
                assert b"Connection: close" in connection.recv(2**16)
    assert "/teams/new" not in Path(server.log.name).read_text()


def test_a_connection_is_kept(server: Server) -> None:
    """For longer than clients' pools keep it (aiohttp's for 15 s)."""
    assert "keepalive = 75" in (ROOT / "gunicorn.conf.py").read_text()
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        for pause in (0, 3.5):
            time.sleep(pause)
            connection.request("GET", "/health")
            assert connection.getresponse().read() == b'{"status":"ok"}\n'


def test_a_connection_is_not_kept_for_ever(server: Server) -> None:
    """Its client is told so, and may reach another worker, or another server, with the next one."""
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        kept = []
        for _ in range(201):
            connection.request("GET", "/health")
            with connection.getresponse() as response:
                assert response.read() == b'{"status":"ok"}\n'
                kept.append(response.getheader("Connection"))
    assert kept == [*["keep-alive"] * 99, "close"] * 2 + ["keep-alive"]


@pytest.mark.sqlite
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


class Worker:
    """A server's worker, and the memory and time that it takes from now on."""

    def __init__(self, server: Server) -> None:
        (worker,) = server.workers
        self.folder = Path(f"/proc/{worker}")
        (self.folder / "clear_refs").write_text("5")  # forgets the peak
        self.before = self._taken()

    def _taken(self) -> tuple[float, float]:
        status = (self.folder / "status").read_text()
        (kibibytes,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
        user, system = (self.folder / "stat").read_text().rsplit(")")[1].split()[11:13]
        ticks = os.sysconf("SC_CLK_TCK")
        return int(kibibytes) / 1024, (int(user) + int(system)) / ticks

    def taken(self) -> tuple[float, float]:
        """Return by how many MiB it grew at most, and the seconds of a processor that it took.

        On an idle machine, everybody had to wait for those seconds.
        """
        (memory, seconds), (memory_before, seconds_before) = self._taken(), self.before
        return memory - memory_before, seconds - seconds_before


def award_for(accounts: Iterable[str]) -> str:
    """Return the body of a new award for many accounts."""
    ids = ",".join(accounts)
    return f'{{"title":"T","image_url":"http://x","team":1,"accounts":[{ids}]}}'


MANY = 90_000
BAD = "/awards/new", award_for(["0"] * MANY), MANY
ABSENT = "/awards/new", award_for(map(str, range(10**6, 10**6 + MANY))), MANY
UNKNOWN = "/auth/discord", "{" + ",".join(f'"{key}":0' for key in range(MANY)) + "}", MANY + 1
NESTED = "/auth/discord", json.dumps({"token": [[]] * MANY * 2}), 1


@pytest.mark.parametrize(
    ("permissions", "count", "request_", "status"),
    [
        (None, 8, BAD, 401),
        (Permission(0), 8, BAD, 403),
        (Permission.MANAGE_AWARDS, 8, BAD, 422),
        (Permission.MANAGE_AWARDS, 2, ABSENT, 422),
        (None, 16, UNKNOWN, 422),
        (None, 16, NESTED, 422),
    ],
    ids=["nobody", "may not", "bad ids", "ids of nobody", "unknown fields", "nested"],
)
def test_large_bodies(
    server: Server,
    make_app: Callable[..., Flask],
    *,
    permissions: Permission | None,
    count: int,
    request_: tuple[str, str, int],
    status: int,
) -> None:
    """Many at once take little more memory than one, and hold up nobody for long."""
    path, body, issues = request_
    body = body.ljust(MAX_BODY)
    community = Community(make_app())
    community.team()
    auth = None if permissions is None else community.user(1, permissions)

    def send(_: int) -> requests.Response:
        return requests.post(server.url + path, body, auth=auth, timeout=60)

    worker = Worker(server)
    with ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(send, range(count)))
    growth, seconds = worker.taken()
    assert [answer.status_code for answer in answers] == [status] * count
    for answer in answers:
        if status == 422 and issues > 1:
            *listed, last = answer.json()["detail"]
            message = f"There are {issues - 99} more issues."
            assert last == {"loc": ["body"], "msg": message, "type": "too_many"}
            assert len(listed) == 99
    assert growth < 75
    assert seconds < 2
