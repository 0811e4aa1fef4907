"""Delivery by the real server: kills, receivers that call back, and several senders at once."""

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import pairwise
from typing import Any

import pytest
import requests

from tests.support.databases import Database
from tests.support.receiver import SECRET, Receiver
from tests.support.server import BIN, ROOT, Server, create_bot, environment

Body = dict[str, Any]


class Bot:
    """An app that may do everything, with one server or several on the same database."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.auth = create_bot(server.database, "--all")
        self.http = requests.Session()
        self.http.auth = self.auth

    def __call__(self, method: str, path: str, body: Body | None = None, **options: Any) -> Any:
        """Do something that succeeds; return the answer."""
        url = options.get("server", self.server).url
        answer = self.http.request(method, url + path, json=body, timeout=60)
        assert answer.ok, answer.text
        return answer.json() if answer.content else None

    def register(self, receiver: Receiver) -> None:
        self("PUT", "/callback/account_team_update", {"url": receiver.url + "/", "secret": SECRET})

    def populate(self, accounts: int) -> None:
        """Make two teams, and accounts from 1 up."""
        for name in ("Red", "Blue"):
            self("POST", "/teams/new", {"name": name})
        for key in range(1, accounts + 1):
            self("POST", "/accounts/new", {"id": key, "name": "x", "discriminator": 0})


@pytest.fixture
def bot(server: Server) -> Iterator[Bot]:
    """Return an app on a server of its own."""
    bot = Bot(server)
    yield bot
    bot.http.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Return a receiver that listens."""
    with Receiver() as receiver:
        yield receiver


def deliver(database: Database, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [BIN / "flask", "callbacks", "deliver", *arguments],
        cwd=ROOT,
        env=environment(database),
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("by", ["command", "write"])
def test_killed_between_commit_and_delivery(bot: Bot, receiver: Receiver, by: str) -> None:
    bot.populate(2)
    bot.register(receiver)
    receiver.before_answer = lambda _: bot.server.kill()
    receiver.refuses = lambda _: len(receiver.attempts) == 1
    with suppress(requests.ConnectionError):
        bot("PATCH", "/account/1", {"team": 1})
    (first, body), receiver.before_answer = receiver.attempts[0], lambda _: None
    with Server(bot.server.database) as restarted:
        if by == "command":
            assert deliver(restarted.database).returncode == 0
        else:
            bot("PATCH", "/account/2", {"team": 1}, server=restarted)
    assert [taken["account"]["id"] for taken in receiver.taken] == ["1", "2"][: 1 + (by == "write")]
    assert receiver.taken[0] == body
    assert receiver.ids[1] == first["webhook-id"]


def test_a_receiver_that_calls_the_api_back(bot: Bot, receiver: Receiver) -> None:
    """It sees the change, and can make its own, while eight other clients write."""
    bot.populate(9)
    bot.register(receiver)
    seen = []

    def call_back(body: Body) -> None:
        key = body["account"]["id"]
        url = f"{bot.server.url}/account/{key}"
        account = requests.get(url, timeout=60).json()
        seen.append((account["team"], body["team"]))
        answer = requests.patch(url, json={"name": "seen"}, auth=bot.auth, timeout=60)
        assert answer.status_code == 200, answer.text

    receiver.before_answer = call_back

    def write(key: int) -> None:
        with requests.Session() as http:
            for turn in range(5):
                url = f"{bot.server.url}/account/{key}"
                answer = http.patch(url, json={"avatar_url": f"http://x/{turn}"}, auth=bot.auth)
                assert answer.status_code == 200, answer.text

    with ThreadPoolExecutor(9) as pool:
        writers = [pool.submit(write, key) for key in range(2, 10)]
        bot("PATCH", "/account/1", {"team": 1})
        for writer in writers:
            writer.result()
    assert len(seen) == 1
    assert seen[0][0]["id"] == seen[0][1]["id"] == 1
    assert bot("GET", "/account/1")["name"] == "seen"
    assert [body["account"]["name"] for body in receiver.taken] == ["x"]


def test_two_servers_and_two_commands_at_once(bot: Bot, receiver: Receiver) -> None:
    """Nothing is delivered twice, and nothing out of order."""
    accounts, turns = 8, 6
    bot.populate(accounts)
    bot.register(receiver)
    receiver.mode = 500
    for key in range(1, accounts + 1):
        bot("PATCH", f"/account/{key}", {"team": 1})  # something to begin with
    receiver.mode = 200
    refused = len(receiver.attempts)

    with ExitStack() as stack:
        servers = [bot.server, stack.enter_context(Server(bot.server.database))]
        pool = stack.enter_context(ThreadPoolExecutor(accounts + 2))

        def write(key: int) -> None:
            with requests.Session() as http:
                for turn in range(turns):
                    url = f"{servers[turn % 2].url}/account/{key}"
                    answer = http.patch(url, json={"team": 2 - turn % 2}, auth=bot.auth, timeout=60)
                    assert answer.status_code == 200, answer.text

        jobs = [pool.submit(write, key) for key in range(1, accounts + 1)]
        commands = [pool.submit(deliver, bot.server.database, "--all") for _ in range(2)]
        for job in jobs:
            job.result()
        for command in commands:
            assert "Traceback" not in command.result().stderr
    assert deliver(bot.server.database, "--all").returncode == 0
    ids = receiver.ids[refused:]
    assert len(ids) == len(set(ids)) == accounts * (turns + 1)
    for key in range(1, accounts + 1):
        teams = [body["team"]["id"] for body in receiver.taken if body["account"]["id"] == str(key)]
        assert teams == [1] + [2 - turn % 2 for turn in range(turns)]
        assert all(one != other for one, other in pairwise(teams))


def test_two_servers_deliver_at_once(bot: Bot, receiver: Receiver) -> None:
    """Asked for the same by four clients at once, they send nothing twice."""
    accounts = 20
    bot.populate(accounts)
    bot.register(receiver)
    receiver.mode = 500
    for key in range(1, accounts + 1):
        bot("PATCH", f"/account/{key}", {"team": 1})
    receiver.mode = 200
    refused = len(receiver.attempts)
    url = "/callback/account_team_update/deliver"
    with Server(bot.server.database) as other, ThreadPoolExecutor(4) as pool:

        def deliver_too(server: Server) -> Any:
            return requests.post(server.url + url, auth=bot.auth, timeout=60).json()

        answers = list(pool.map(deliver_too, [bot.server, other] * 2))
    assert sum(answer["delivered"] for answer in answers) == accounts
    assert min(answer["waiting"] for answer in answers) == 0
    assert len(set(receiver.ids[refused:])) == len(receiver.ids[refused:]) == accounts
