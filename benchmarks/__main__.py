"""Measure requests per second of the real server and of a bare Flask view, in turn.

The machine is shared and noisy, so only the shares are worth comparing: each is the median over
rounds in which both were driven one after the other.
"""

import argparse
import base64
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Self

import requests
from sqlalchemy import event

from app import create_app
from benchmarks.seed import seed
from config import Settings
from database import db
from tests.support.server import ROOT, Server, flask

SIZES = (10_000, 100_000)
SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True)
class Case:
    """One endpoint to measure; `{last}` in its path is the last page.

    `{turn}` in its body is 1 and 2 in turn, so that each write changes something. There is a live
    receiver of accounts' moves to another team.
    """

    path: str
    method: str = "GET"
    body: str = ""
    authorized: bool = False


CASES = [
    Case("/account/100000000000000042"),
    Case("/auth/me", authorized=True),
    Case("/accounts/search"),
    Case("/accounts/search?page={last}"),
    Case("/accounts/search?q=ann&page=3"),
    Case("/teams/search"),
    Case("/award/7"),
    Case("/account/100000000000000042", "PATCH", '{"name": "Ann {turn}"}', authorized=True),
    Case("/auth/create_session", "POST", '{"account": 100000000000000042}', authorized=True),
    Case("/account/100000000000000042", "PATCH", '{"team": {turn}}', authorized=True),
]


class Receiver:
    """A receiver of events that takes everything, as fast as it can."""

    def __enter__(self) -> Self:
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/"
        Thread(target=self._serve, daemon=True).start()
        return self

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    def __exit__(self, *_: object) -> None:
        self.socket.close()


class Bare(Server):
    """The bare view, under the gunicorn settings of the server."""

    arguments = ("benchmarks.bare:app",)
    health = "/"


@contextmanager
def _community(accounts: int, folder: Path, receiver: "Receiver") -> Iterator[tuple[Server, str]]:
    """Serve a community of a size; give the server and an app's Authorization header."""
    path = folder / f"{accounts}.db"
    flask(path, "db", "upgrade")
    app = create_app(Settings(database_url=f"sqlite:///{path}"))
    with app.app_context():
        credentials = ":".join(seed(accounts))
        authorization = "Basic " + base64.b64encode(credentials.encode()).decode()
        db.engine.dispose()
    with Server(path) as server:
        requests.put(
            f"{server.url}/callback/account_team_update",
            json={"url": receiver.url, "secret": "s"},
            headers={"Authorization": authorization},
            timeout=5,
        ).raise_for_status()
        yield server, authorization


def _drive(
    url: str, case: Case, authorization: str, seconds: int, connections: int
) -> dict[str, float]:
    """Send requests for some seconds."""
    environment = {
        "METHOD": case.method,
        "BODY": case.body,
        "AUTHORIZATION": authorization if case.authorized else "",
    }
    run = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", SCRIPT, url],  # noqa: S607 - Debian's
        env=os.environ | environment,
        check=True,
        capture_output=True,
        text=True,
    )
    numbers: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    if numbers["errors"]:
        sys.exit(f"{case.method} {url}: {numbers['errors']:.0f} errors")
    return numbers


def _statements(server: Server, case: Case, path: str, authorization: str) -> int:
    """Count the SQL statements of one request."""
    app = create_app(Settings(database_url=f"sqlite:///{server.database}"))
    count = most = 0

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        nonlocal count
        count += not statement.startswith("BEGIN")

    with app.app_context():
        event.listen(db.engine, "before_cursor_execute", note)
        headers = {"Authorization": authorization} if case.authorized else {}
        for turn in "12":  # one of them changes something
            count = 0
            body = case.body.replace("{turn}", turn)
            app.test_client().open(path, method=case.method, data=body, headers=headers)
            most = max(most, count)
        db.engine.dispose()
    return most


def _memory(server: Server) -> float:
    """Give the memory of master and worker together (PSS), in MiB."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    total = 0
    for pid in [server.process.pid, *map(int, children.split())]:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def main() -> None:
    """Measure every case at every size and print one table."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--connections", type=int, default=8, help="how many at once")
    parser.add_argument("--only", default="", help="measure only the cases that contain this")
    options = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("This needs wrk: `apt install wrk`.")

    load = (options.seconds, options.connections)
    with ExitStack() as stack:
        receiver = stack.enter_context(Receiver())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bare = stack.enter_context(Bare(folder / "bare.db"))
        servers = {size: stack.enter_context(_community(size, folder, receiver)) for size in SIZES}
        print("PSS idle:", *(f"{_memory(server):.0f} MiB" for server, _ in servers.values()))
        print(f"{'':46}   req/s  share    p50    p99  SQL  x10 accounts")
        for case in CASES:
            name = f"{case.method} {case.path}" + (" team" if "team" in case.body else "")
            if options.only not in name:
                continue
            rates: dict[int, list[dict[str, float]]] = {size: [] for size in SIZES}
            shares = []
            for _ in range(options.rounds):
                floor = _drive(f"{bare.url}/", Case("/"), "", *load)
                for size, (server, authorization) in servers.items():
                    path = case.path.format(last=(size - 1) // 20)
                    numbers = _drive(server.url + path, case, authorization, *load)
                    rates[size].append(numbers)
                shares.append(rates[SIZES[0]][-1]["rate"] / floor["rate"])
            server, authorization = servers[SIZES[0]]
            path = case.path.format(last=(SIZES[0] - 1) // 20)
            first = {
                key: statistics.median(numbers[key] for numbers in rates[SIZES[0]])
                for key in ("rate", "p50", "p99")
            }
            growth = statistics.median(
                small["p50"] and large["p50"] / small["p50"]
                for small, large in zip(*rates.values(), strict=True)
            )
            print(
                f"{name:46}{first['rate']:8.0f}{statistics.median(shares):7.2f}"
                f"{first['p50']:7.1f}{first['p99']:7.1f}"
                f"{_statements(server, case, path, authorization):5}{growth:10.2f}",
                flush=True,
            )
        print("PSS after:", *(f"{_memory(server):.0f} MiB" for server, _ in servers.values()))


if __name__ == "__main__":
    os.chdir(ROOT)
    main()
