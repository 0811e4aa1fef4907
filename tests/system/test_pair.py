"""A community that outgrew one process: two servers of two workers each, on one PostgreSQL."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Condition, Event
from typing import NamedTuple, Self

import pytest
import requests

from tests.support.databases import Cluster, connected
from tests.support.proxies import Pair
from tests.support.receiver import SECRET, Receiver
from tests.support.server import create_bot, flask
from tests.system.test_client import SCENARIOS, play

pytestmark = pytest.mark.postgresql

CLIENTS = 6


@pytest.fixture(scope="module")
def running_pair(postgresql: Cluster) -> Iterator[Pair]:
    """Start both servers behind their proxy."""
    with postgresql.new() as database:
        flask(database, "db", "upgrade")
        with Pair(database) as pair:
            yield pair


@pytest.fixture
def pair(running_pair: Pair) -> Pair:
    """Return both servers behind their proxy, on an empty database."""
    with connected(running_pair.database) as connection:
        connection.exec_driver_sql("TRUNCATE accounts, apps, awards, events, teams CASCADE")
    return running_pair


class Answer(NamedTuple):
    """The answer to a request: when that was sent, the status, and the id of a new team or None."""

    sent_at: float
    method: str
    status: int
    team: int | None


class Load:
    """Clients that read and create teams for as long as the block lasts."""

    def __init__(self, pair: Pair) -> None:
        self.url, self.auth = pair.url, create_bot(pair.database, "--all", name="load")
        self.answers: list[Answer] = []
        self.more, self.over = Condition(), Event()

    def __enter__(self) -> Self:
        self.pool = ThreadPoolExecutor(CLIENTS)
        self.clients = [self.pool.submit(self._ask, client) for client in range(CLIENTS)]
        return self

    def _ask(self, client: int) -> None:
        with requests.Session() as http:
            http.auth = self.auth
            for turn in count():
                sent_at, team = time.monotonic(), None
                if turn % 2:
                    answer = http.get(f"{self.url}/teams/search", timeout=60)
                else:
                    body = {"name": f"{client} {turn}"}
                    answer = http.post(f"{self.url}/teams/new", json=body, timeout=60)
                    team = answer.json()["id"] if answer.ok else None
                with self.more:
                    method, status = str(answer.request.method), answer.status_code
                    self.answers.append(Answer(sent_at, method, status, team))
                    self.more.notify_all()
                if self.over.is_set():
                    break

    def wait_for(self, answers: int) -> None:
        """Wait for a number of answers that are still to come."""
        with self.more:
            wanted = len(self.answers) + answers
            assert self.more.wait_for(lambda: len(self.answers) >= wanted, 60)

    def wait_until_well(self) -> None:
        """Wait until a hundred answers in a row are good."""
        self.wait_for(100)
        with self.more:
            assert self.more.wait_for(
                lambda: {answer.status for answer in self.answers[-100:]} <= {200, 201}, 60
            )

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.pool.shutdown()
        for client in self.clients:
            client.result()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_published_client(pair: Pair, scenario: str) -> None:
    play(pair, scenario)


def test_callbacks(pair: Pair) -> None:
    with Receiver() as receiver:
        play(pair, "callbacks", RECEIVER=f"{receiver.url}/", SECRET=SECRET)
        play(pair, "handler", BODIES=json.dumps(receiver.taken))


def test_a_restart_of_the_database(pair: Pair, postgresql: Cluster) -> None:
    """Requests during it are 503, later ones succeed, and no acknowledged change is lost."""
    with Load(pair) as load:
        load.wait_for(50)
        postgresql.stop()
        load.wait_for(20)
        postgresql.start()
        load.wait_until_well()
        well_at = time.monotonic()
        load.wait_for(100)
    assert {answer.status for answer in load.answers} == {200, 201, 503}
    assert {one.status for one in load.answers if one.sent_at > well_at} == {200, 201}
    assert {one.team for one in load.answers if one.team} <= teams(pair)


def test_a_restart_of_each_server(pair: Pair) -> None:
    """The other one takes over, and no acknowledged change is lost."""
    with Load(pair) as load:
        for server in pair.servers:
            load.wait_for(50)
            server.process.terminate()
            server.process.wait()
            load.wait_until_well()
            server.__exit__()
            server.__enter__()
            load.wait_until_well()
    by_caddy = {502, 503}  # until it knows which of them are well
    assert {one.status for one in load.answers} <= {200, 201} | by_caddy
    assert {one.team for one in load.answers if one.team} <= teams(pair)


def teams(pair: Pair) -> set[int]:
    """Return the ids of all teams."""
    found, url = set[int](), f"{pair.url}/teams/search?per_page=1000&page="
    for page in count():
        data = requests.get(f"{url}{page}", timeout=60).json()["data"]
        found |= {team["id"] for team in data}
        if not data:
            break
    return found
