"""Table 2: what large teams cost, in a community of two teams where everybody has one award."""

import json
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from itertools import count, cycle
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.seed import FIRST, SMALL_TEAM, seed, seed_large
from benchmarks.servers import Client, Community, memory, peak_memory, reset_peak
from benchmarks.shares import MEMORY

WAITING = 100_000
PEAK = 300
"""The MiB that the worker is wanted to take at most, with 50,000 accounts."""

Call = Callable[[], object]


def measure(accounts: int, rounds: int, seconds: int) -> None:
    """Measure all of it and print the table."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        auth = seed_large(folder / "large.db", accounts)
        server = stack.enter_context(Community(folder / "large.db", accounts, auth))
        callback = json.dumps({"url": stack.enter_context(_down()), "secret": "s"})
        with Client(server) as client:
            client.send("PUT", "/callback/award_give", callback)

        print(f"{accounts:,} accounts in two teams; one award that everybody has\n")
        print(f"{'':56}measured  wanted")
        _show("PSS of master and worker, idle", memory(server), MEMORY, "MiB")
        _measure_reads(server, rounds)
        _measure_award(server, rounds, rounds * seconds)
        _measure_giving(server)
        twin = Community(_copy(folder / "large.db", folder / "twin.db"), accounts, auth)
        with twin, Client(twin) as client:
            client.send("DELETE", "/callback/award_give")  # and with it all that waits
            client.send("PUT", "/callback/award_give", callback)
            _measure_waiting(server, twin, rounds)
        _show("PSS of master and worker, after the load", memory(server), MEMORY, "MiB")
        _measure_standings(folder / "teams.db", rounds)


@contextmanager
def _down() -> Iterator[str]:
    """Return the URL of a receiver that refuses connections."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/"


def _show(name: str, measured: float, wanted: float, unit: str) -> None:
    print(f"{name:56}{measured:8.2f}{wanted:8g}  {unit}", flush=True)


def _measure_reads(server: Community, rounds: int) -> None:
    """Measure a page of accounts, and one account of a large team beside one of a small team."""
    with Client(server) as client:
        _show_dumps(client, "page of 1,000 accounts", "/accounts/search?per_page=1000", rounds * 5)
        in_large, in_small = f"/account/{FIRST + 1}", f"/account/{FIRST + server.accounts + 1}"
        ratio, floor = _compare(
            rounds * 50,
            lambda: client.send("GET", in_large),
            lambda: client.send("GET", in_small),
        )
        unit = f"× one of a team of {SMALL_TEAM} ({floor * 1000:.1f} ms)"
        _show(f"one account of a team of {server.accounts // 2:,}", ratio, 1.1, unit)


def _measure_award(server: Community, rounds: int, seconds: float) -> None:
    """Measure reading the award, what that does to others, and the memory that it takes."""
    reset_peak(server)
    with Client(server) as client, Client(server) as other:
        _show_dumps(client, "award that everybody has", "/award/1", rounds)
        until = time.monotonic() + seconds

        def read_award() -> None:
            while time.monotonic() < until:
                client.send("GET", "/award/1")

        longest = _longest(lambda: other.send("GET", "/health"), meanwhile=read_award)
    _show("longest GET /health meanwhile", longest, 0.2, "s")
    _show("peak memory of the worker, reading it", peak_memory(server), PEAK, "MiB")


def _measure_giving(server: Community) -> None:
    """Measure another write beside giving awards to all, until enough deliveries wait."""
    everybody = [FIRST + key for key in range(1, server.accounts + 1)]
    award = {"title": "A", "image_url": "http://x.example", "team": 1, "accounts": everybody}
    body = json.dumps(award, separators=(",", ":"))  # as small as can be: 1 MiB is the limit
    renamed = f"/account/{FIRST + 1}"
    names = (json.dumps({"name": f"Ann {number}"}) for number in count())
    reset_peak(server)
    with Client(server) as client, Client(server) as other:

        def give() -> None:
            for _ in range(-(-WAITING // server.accounts)):
                client.send("POST", "/awards/new", body)

        longest = _longest(lambda: other.send("PATCH", renamed, next(names)), meanwhile=give)
    _show(f"longest PATCH beside POST /awards/new for {server.accounts:,}", longest, 1, "s")
    _show("peak memory of the worker, giving it", peak_memory(server), PEAK, "MiB")


def _measure_waiting(server: Community, twin: Community, rounds: int) -> None:
    """Measure a write with an event beside the same where no deliveries wait."""
    moved = f"/account/{FIRST + server.accounts + 1}"
    with Client(server) as client, Client(twin) as other:
        bodies, same = cycle(('{"team": 0}', '{"team": 3}')), cycle(('{"team": 0}', '{"team": 3}'))
        ratio, floor = _compare(
            rounds * 20,
            lambda: client.send("PATCH", moved, next(bodies)),
            lambda: other.send("PATCH", moved, next(same)),
        )
    unit = f"× none waiting ({floor * 1000:.1f} ms)"
    _show(f"PATCH team, {WAITING:,} deliveries waiting", ratio, 2, unit)


def _measure_standings(database: Path, rounds: int) -> None:
    """Measure the page that shows who leads, in a community of many teams."""
    auth = seed(database, 100_000, teams=1000)
    with Community(database, 100_000, auth) as server, Client(server) as client:
        times = [_seconds(lambda: client.send("GET", "/")) for _ in range(rounds * 20)]
    _show("GET / of 1,000 teams and 100,000 accounts", median(times) * 1000, 30, "ms")


def _show_dumps(client: Client, name: str, path: str, times: int) -> None:
    """Compare a read with making JSON of the same in this process."""
    shown = json.loads(client.send("GET", path))
    ratio, floor = _compare(times, lambda: client.send("GET", path), lambda: json.dumps(shown))
    _show(name, ratio, 4, f"× json.dumps of it ({floor * 1000:.1f} ms)")


def _compare(times: int, call: Call, floor: Call) -> tuple[float, float]:
    """Return the median time of a call in multiples of another's, made in turn, and the other's."""
    pairs = [(_seconds(call), _seconds(floor)) for _ in range(times)]
    ours, theirs = map(median, zip(*pairs, strict=True))
    return ours / theirs, theirs


def _longest(call: Call, *, meanwhile: Call) -> float:
    """Return the longest time of a call that is made again and again while another runs."""
    longest = 0.0
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(meanwhile)
        while not running.done():
            longest = max(longest, _seconds(call))
            time.sleep(0.01)  # leaves the other its turn
        running.result()
    return longest


def _seconds(call: Call) -> float:
    begun_at = time.perf_counter()
    call()
    return time.perf_counter() - begun_at


def _copy(database: Path, to: Path) -> Path:
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)
    return to
