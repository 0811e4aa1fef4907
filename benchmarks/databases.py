"""Table 3: SQLite in one process beside more workers, and beside PostgreSQL."""

import gc
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.seed import seed
from benchmarks.servers import Client, Community, memory
from benchmarks.shares import ACCOUNT, CASES, Case, Load, Numbers, Receiver, drive_each
from tests.support.databases import MISSING, POSTGRESQL, Cluster, Database
from tests.support.server import flask

ACCOUNTS = 10_000
PATHS = {ACCOUNT, "/accounts/search", "/accounts/search?q=ann&page=3", "/standings", "/"}
"""The paths whose rows of table 1 are in this one, too."""


def measure(load: Load) -> None:
    """Measure the same requests on all of them, and print the table."""
    if not POSTGRESQL:
        sys.exit(f"Table 3 {MISSING}.")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        cluster = Cluster(durable=True)
        stack.callback(cluster.remove)
        postgresql = stack.enter_context(cluster.new())
        auth = seed(folder / "sqlite.db", ACCOUNTS)
        gc.collect()  # the app that made it uses it until then
        flask(folder / "sqlite.db", "move", postgresql)
        databases: Sequence[tuple[str, Database, Sequence[int]]] = (
            ("SQLite", folder / "sqlite.db", (1, 2)),
            ("PostgreSQL", postgresql, (1, 2, 4)),
        )
        receiver = stack.enter_context(Receiver())
        servers = {
            f"{name} {workers}": stack.enter_context(
                Community(database, ACCOUNTS, auth, WORKERS=str(workers))
            )
            for name, database, counts in databases
            for workers in counts
        }
        for _, database, _ in databases:
            server = next(one for one in servers.values() if one.database == database)
            with Client(server) as client:
                body = json.dumps({"url": receiver.url, "secret": "s"})
                client.send("PUT", "/callback/account_team_update", body)
        print(f"{ACCOUNTS:,} accounts, {load.connections} connections; workers; req/s, p50 in ms\n")
        print(f"{'':56}", *(f"{name:>18}" for name in servers))
        for case in (case for case in CASES if case.path in PATHS):
            runs = [(server, case) for server in servers.values()]
            _show(case, [drive_each(runs, load, receiver) for _ in range(load.rounds)])
        print(
            f"{'PSS of master and workers, MiB':56}",
            *(f"{memory(one):18.0f}" for one in servers.values()),
        )


def _show(case: Case, rounds: Sequence[list[Numbers]]) -> None:
    """Print the row of a case: for each server its median rate, and its median latency."""
    cells = [
        f"{median(one['rate'] for one in each):9.0f}, {median(one['p50'] for one in each):7.1f}"
        for each in zip(*rounds, strict=True)
    ]
    print(f"{case.name:56}", *cells, flush=True)
