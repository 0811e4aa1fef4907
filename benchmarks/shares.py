"""Table 1: requests per second, as shares of those of a view that does nothing."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any, Self

from sqlalchemy import event

from app import create_app
from benchmarks.seed import seed
from benchmarks.servers import Bare, Client, Community, memory
from config import Settings
from database import db
from tests.support.databases import url_of

SIZES = (10_000, 100_000)
MEMORY = 75
"""The MiB that master and worker are wanted to take at most."""
SCRIPT = Path(__file__).with_name("wrk.lua")
ACCOUNT = "/account/100000000000000042"

Numbers = dict[str, float]


@dataclass(frozen=True)
class Load:
    """How much is sent: so many rounds of so many seconds, over so many connections."""

    rounds: int
    seconds: int
    connections: int


@dataclass(frozen=True)
class Case:
    """One endpoint to measure, and the share that is wanted of it.

    `{last}` in its path is the last page; `{turn}` in its body is 1 and 2 in turn, so that each
    write changes something.
    """

    path: str
    wanted: float | None = None
    method: str = "GET"
    body: str = ""
    authorized: bool = False
    note: str = ""

    @property
    def name(self) -> str:
        """What stands in the table."""
        return f"{self.method} {self.path}{self.note and ', '}{self.note}"


BARE = Case("/")
PAGE = 0.25
"""The share that is wanted of a page for people."""
RAW = Case(ACCOUNT, note="raw sqlite3 row")
CASES = [
    Case(ACCOUNT, 0.75),
    Case("/auth/me", 0.70, authorized=True),
    Case("/accounts/search", 0.50),
    Case("/accounts/search?page={last}"),
    Case("/accounts/search?q=ann&page=3", 0.30),
    Case("/teams/search", 0.55),
    Case("/award/7", 0.60, note="5 awardees"),
    Case("/standings", 0.30),
    Case("/standings?page=49", note="last page"),
    Case("/awards/search"),
    Case("/awards/search?q=99&page=3"),
    Case("/", PAGE, note="standings"),
    Case("/teams/7", PAGE),
    Case("/members/100000000000000042", PAGE),
    Case("/awards", PAGE),
    Case("/awards/7", PAGE),
    Case("/search?q=ann", PAGE),
    Case("/numbers", PAGE),
    Case(ACCOUNT, 0.40, "PATCH", '{"name": "Ann {turn}"}', authorized=True, note="name"),
    Case("/auth/create_session", 0.50, "POST", '{"account": 100000000000000042}', authorized=True),
    Case(ACCOUNT, 0.15, "PATCH", '{"team": {turn}}', authorized=True, note="team, one receiver"),
]


class Receiver:
    """A receiver of events that takes everything, as fast as it can."""

    taken = 0

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
                    while (part := connection.recv(65536)) and not part.endswith(b"}"):
                        pass  # the body is an object: it ends there
                    connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                self.taken += 1

    def wait_until_quiet(self) -> None:
        """Wait for what is still sent after a load, so that it does not slow down the next one."""
        before = -1
        while before < self.taken:
            before = self.taken
            time.sleep(0.2)

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def measure(load: Load, only: str) -> None:
    """Measure the cases whose names contain some text, and print the table."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        receiver = stack.enter_context(Receiver())
        servers = [_serve(stack, folder, size, receiver) for size in SIZES]
        bare = stack.enter_context(Bare(servers[0].database, SIZES[0], servers[0].auth))
        idle = max(map(memory, servers))
        print(f"{SIZES[0]:,} accounts, {load.connections} connections; shares of a bare view\n")
        print(f"{'':54}  share  wanted    req/s  p50 ms  p99 ms  SQL  x10 accounts")
        for case in [RAW, *CASES]:
            if only in case.name:
                asked = [bare] if case is RAW else servers
                runs = [(bare, BARE), *((server, case) for server in asked)]
                rounds = [drive_each(runs, load, receiver) for _ in range(load.rounds)]
                _show(case, rounds, asked[0])
        print(f"\nPSS of master and worker, MiB: wanted {MEMORY},", end=" ")
        print(f"idle {idle:.0f}, after the load {max(map(memory, servers)):.0f}\n", flush=True)


def _serve(stack: ExitStack, folder: Path, size: int, receiver: Receiver) -> Community:
    """Serve a community of a size, with the receiver registered for moves to another team."""
    path = folder / f"{size}.db"
    server = stack.enter_context(Community(path, size, seed(path, size)))
    with Client(server) as client:
        callback = json.dumps({"url": receiver.url, "secret": "s"})
        client.send("PUT", "/callback/account_team_update", callback)
    return server


def drive_each(
    runs: Sequence[tuple[Community, Case]], load: Load, receiver: Receiver
) -> list[Numbers]:
    """Send each server its requests, one server after the other."""
    numbers = []
    for server, case in runs:
        numbers.append(drive(server, case, load))
        receiver.wait_until_quiet()
    return numbers


def _show(case: Case, rounds: Sequence[list[Numbers]], server: Community) -> None:
    """Print the row of a case."""
    floors, ours, *larger = zip(*rounds, strict=True)
    rate, p50, p99 = (median(numbers[key] for numbers in ours) for key in ("rate", "p50", "p99"))
    share = median(our["rate"] / floor["rate"] for our, floor in zip(ours, floors, strict=True))
    wanted = f"{case.wanted:.2f}" if case.wanted else ""
    line = f"{case.name:54}{share:7.2f}{wanted:>8}{rate:9.0f}{p50:8.1f}{p99:8.1f}"
    if larger:
        pairs = zip(ours, larger[0], strict=True)
        growth = median(large["p50"] / small["p50"] for small, large in pairs)
        line += f"{_statements(server, case):5}{growth:14.2f}"
    print(line, flush=True)


def drive(server: Community, case: Case, load: Load) -> Numbers:
    """Send requests for some seconds."""
    url = server.url + _path(server, case)
    environment = {
        "METHOD": case.method,
        "BODY": case.body,
        "AUTHORIZATION": server.authorization if case.authorized else "",
    }
    run = subprocess.run(
        ["wrk", "-t1", f"-c{load.connections}", f"-d{load.seconds}s", "-s", SCRIPT, url],  # noqa: S607 - Debian's
        env=os.environ | environment,
        check=True,
        capture_output=True,
        text=True,
    )
    numbers: Numbers = json.loads(run.stdout.splitlines()[-1])
    if numbers["errors"]:
        sys.exit(f"{case.method} {url}: {numbers['errors']:.0f} errors")
    return numbers


def _path(server: Community, case: Case) -> str:
    return case.path.format(last=(server.accounts - 1) // 20)


def _statements(server: Community, case: Case) -> int:
    """Count the SQL statements of one request, as the driver sees them."""
    app = create_app(Settings(database_url=url_of(server.database), log_level="ERROR"))
    seen: list[str] = []

    def watch(driver_connection: Any, _record: object) -> None:
        driver_connection.set_trace_callback(seen.append)

    headers = {"Authorization": server.authorization} if case.authorized else {}
    most = 0
    with app.app_context():
        event.listen(db.engine, "connect", watch)
        for turn in "12":  # one of them changes something
            seen.clear()
            body = case.body.replace("{turn}", turn)
            app.test_client().open(
                _path(server, case), method=case.method, data=body, headers=headers
            )
            most = max(most, _count(seen))
        db.engine.dispose()
    return most


def _count(seen: Sequence[str]) -> int:
    """Count statements; one that fires triggers is seen once more for each."""
    around = ("BEGIN", "COMMIT", "ROLLBACK", "PRAGMA")
    return sum(not statement.startswith(around) for statement, _ in groupby(seen))
