"""Table 3: SQLite in one process beside more workers, and beside PostgreSQL."""

import gc
import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.seed import seed
from benchmarks.servers import Client, Community, memory
from benchmarks.shares import ACCOUNT, Case, Load, Numbers, Receiver, drive
from tests.support.databases import Cluster, Database
from tests.support.server import flask

ACCOUNTS = 10_000
CASES = [
    Case(ACCOUNT),
    Case("/accounts/search"),
    Case("/accounts/search?q=ann&page=3"),
    Case("/standings"),
    Case("/", note="standings"),
    Case(ACCOUNT, method="PATCH", body='{"name": "Ann {turn}"}', authorized=True, note="name"),
    Case(
        ACCOUNT, method="PATCH", body='{"team": {turn}}', authorized=True, note="team, one receiver"
    ),
]


def measure(load: Load) -> None:
    """Measure the same requests on all of them, and print the table."""
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
        print(f"{'':46}", *(f"{name:>18}" for name in servers))
        for case in CASES:
            rounds = [
                _round(list(servers.values()), case, load, receiver) for _ in range(load.rounds)
            ]
            _show(case, rounds)
        print(
            f"{'PSS of master and workers, MiB':46}",
            *(f"{memory(one):18.0f}" for one in servers.values()),
        )


def _round(
    servers: Sequence[Community], case: Case, load: Load, receiver: Receiver
) -> list[Numbers]:
    numbers = []
    for server in servers:
        numbers.append(drive(server, case, load))
        receiver.wait_until_quiet()
    return numbers


def _show(case: Case, rounds: Sequence[list[Numbers]]) -> None:
    """Print the row of a case: for each server its median rate, and its median latency."""
    cells = [
        f"{median(one['rate'] for one in each):9.0f}, {median(one['p50'] for one in each):7.1f}"
        for each in zip(*rounds, strict=True)
    ]
    print(f"{case.name:46}", *cells, flush=True)
