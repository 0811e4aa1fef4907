"""The real server: many clients at once, and a power cut."""

import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from threading import Barrier, Event

import pytest
import requests

from tests.support.databases import Database, connected
from tests.support.server import ROOT, Server, create_bot

THREADS = 8
ROUNDS = 25


@pytest.fixture
def bot(server: Server) -> Callable[[], requests.Session]:
    """Return a function that makes clients of an app that may do everything."""
    auth = create_bot(server.database, "--all")

    def session() -> requests.Session:
        client = requests.Session()
        client.auth = auth
        return client

    return session


def test_eight_clients_at_once(server: Server, bot: Callable[[], requests.Session]) -> None:
    """Nothing is refused because the database is busy, and no change is lost."""
    setup = bot()
    red, blue = (
        setup.post(f"{server.url}/teams/new", json={"name": name}).json()["id"]
        for name in ("Red", "Blue")
    )
    for key in (10, 11):
        body = {"id": key, "name": "Ann", "discriminator": 1}
        assert setup.post(f"{server.url}/accounts/new", json=body).status_code == 201
    start = Barrier(THREADS)

    def work(number: int) -> None:
        """Change a bit or a field that only this thread changes, of accounts that all change."""
        client = bot()
        start.wait()
        for turn in range(ROUNDS):
            on = turn % 2 == 0
            changes = [
                {"grant_permissions" if on else "revoke_permissions": 1},
                {"grant_permissions" if on else "revoke_permissions": 8},
                {"grant_permissions" if on else "revoke_permissions": 64},
                {"team": red if on else blue},
                {"name": f"name {turn}"},
                {"discriminator": turn},
                {"avatar_url": f"http://x/{turn}"},
                {"grant_permissions" if on else "revoke_permissions": 4},
            ][number]
            for key in (10, 11):
                response = client.patch(f"{server.url}/account/{key}", json=changes)
                assert response.status_code == 200, response.text
                assert client.get(f"{server.url}/accounts/search?q=name").status_code == 200
        client.close()

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))
    for key in (10, 11):
        account = setup.get(f"{server.url}/account/{key}").json()
        assert account["permissions"] == 1 | 4 | 8 | 64
        assert account["team"]["id"] == red
        assert (account["name"], account["discriminator"], account["avatar_url"]) == (
            f"name {ROUNDS - 1}",
            f"{ROUNDS - 1:04}",
            f"http://x/{ROUNDS - 1}",
        )
    setup.close()
    assert "locked" not in Path(server.log.name).read_text()


def test_power_cut(server: Server, bot: Callable[[], requests.Session]) -> None:
    """Every answered write is stored when the server is killed amid writes."""
    answered: list[str] = []
    enough = Event()
    ids = count(1)

    def write() -> None:
        client = bot()
        try:
            while True:
                body = {"id": next(ids), "name": "Ann", "discriminator": 1}
                response = client.post(f"{server.url}/accounts/new", json=body, timeout=60)
                assert response.status_code == 201, response.text
                answered.append(response.json()["id"])
                if len(answered) > 100:
                    enough.set()
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            client.close()  # the server is gone, before an answer or in the middle of one

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write) for _ in range(4)]
        assert enough.wait(120)
        server.kill()
        for writer in writers:
            writer.result()

    with Server(server.database) as restarted:
        url = f"{restarted.url}/accounts/search?per_page=1000&page="
        found = set()
        for page in count():
            data = requests.get(f"{url}{page}", timeout=60).json()["data"]
            if not data:
                break
            found |= {account["id"] for account in data}
    assert set(answered) <= found
    if isinstance(server.database, Path):
        with connected(server.database) as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").all() == [("ok",)]


@pytest.mark.sqlite
def test_the_database_is_safe_and_open_to_readers(server: Server) -> None:
    with connected(server.database) as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_clients_that_do_not_hang_up(server: Server) -> None:
    """Nobody waits for clients that ask to end a connection but keep their side open."""
    with ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            for _ in range(10)
        ]
        for client in clients:
            client.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        clients[0].recv(1)
        assert requests.get(f"{server.url}/health", timeout=60).status_code == 200


def test_a_stop_while_a_worker_starts(database: Database, tmp_path: Path) -> None:
    """A worker that has only just been forked does not miss that it is to stop."""
    configuration = tmp_path / "gunicorn.conf.py"
    usual = (ROOT / "gunicorn.conf.py").read_text()
    stop = f"worker.age == 1 and os.kill(worker.pid, {signal.SIGTERM:d})"
    configuration.write_text(f"{usual}\n\ndef post_fork(_, worker):\n    {stop}\n")
    server = Server(database)
    server.arguments = ("--config", str(configuration))
    with server:  # the second worker answers
        assert Path(server.log.name).read_text().count("Booting worker") == 2
