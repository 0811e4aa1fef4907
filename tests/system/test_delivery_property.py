"""Whatever happens, the receiver's view of the teams ends up as the API's."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial

import pytest
import requests
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.support.databases import Database, NewDatabase
from tests.support.receiver import Receiver
from tests.support.server import Server, command
from tests.system.test_delivery_server import Bot

ACCOUNTS = st.integers(1, 3)
DELIVER = ("callbacks", "deliver")


class Community(RuleBasedStateMachine):
    """A server and a receiver, to both of which anything may happen."""

    new_database: Callable[[], AbstractContextManager[Database]]

    @initialize()
    def start(self) -> None:
        self.stack = ExitStack()
        database = self.stack.enter_context(self.new_database())
        self.server = Server(database, CALLBACK_TIMEOUT="1s").__enter__()
        self.receiver = Receiver().__enter__()
        self.bot = Bot(self.server)
        self.bot.populate(3)
        self.bot.register(self.receiver)

    @rule(account=ACCOUNTS, team=st.integers(0, 2))
    def move(self, account: int, team: int) -> None:
        self.bot("PATCH", f"/account/{account}", {"team": team})

    @rule(account=ACCOUNTS, team=st.integers(0, 2))
    def move_and_kill(self, account: int, team: int) -> None:
        """Kill the server while the receiver is told, if it is told."""
        self.receiver.before_answer = lambda _: self.server.kill()
        try:
            self.bot("PATCH", f"/account/{account}", {"team": team})
        except requests.ConnectionError:
            self.server.__exit__(None, None, None)
            self.server.__enter__()
        self.receiver.before_answer = lambda _: None

    @rule()
    def delete_a_team_and_make_another(self) -> None:
        teams = self.bot("GET", "/teams/search")["data"]
        if len(teams) > 2:
            self.bot("DELETE", f"/team/{teams[-1]['id']}")
        else:
            team = self.bot("POST", "/teams/new", {"name": "z"})["id"]
            self.bot("PATCH", "/account/1", {"team": team})

    @rule(account=ACCOUNTS)
    def refuse(self, account: int) -> None:
        self.receiver.refuses = lambda body: body["account"]["id"] == str(account)

    @rule()
    def go_down(self) -> None:
        self.receiver.stop()

    @rule()
    def recover(self) -> None:
        self.receiver.refuses = lambda _: False
        if self.receiver.server is None:
            self.receiver.__enter__()

    @rule(everything=st.booleans())
    def run_the_command(self, everything: bool) -> None:
        command(self.server.database, *DELIVER, *(["--all"] if everything else []))

    @rule()
    def ask_for_all_that_waits(self) -> None:
        self.bot("POST", "/callback/account_team_update/deliver")

    def teardown(self) -> None:
        """Recover, run the command, and compare."""
        if not hasattr(self, "bot"):
            return
        self.recover()
        assert command(self.server.database, *DELIVER, "--all").exit_code == 0
        told: dict[str, int | None] = {}
        for body in self.receiver.taken:
            told[body["account"]["id"]] = body["team"] and body["team"]["id"]
        for account in self.bot("GET", "/accounts/search")["data"]:
            team = account["team"] and account["team"]["id"]
            assert told.get(account["id"]) == team
        self.bot.http.close()
        self.receiver.stop()
        self.server.__exit__(None, None, None)
        self.stack.close()


def test_the_receiver_ends_up_with_the_truth(
    new_database: NewDatabase, empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = partial(new_database, empty_database)
    monkeypatch.setattr(Community, "new_database", copy, raising=False)
    run_state_machine_as_test(
        Community,
        settings=settings(
            max_examples=4, stateful_step_count=10, deadline=None, database=None, derandomize=False
        ),
    )
