"""Whatever happens, the receiver's view of the community ends up the same as the API's."""

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any

import pytest
import requests
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from models import EventType
from tests.support.databases import Database, NewDatabase
from tests.support.receiver import SECRET, Receiver
from tests.support.server import Server, command
from tests.system.test_delivery_server import Bot

ACCOUNTS = st.integers(1, 3)
NAMES = st.sampled_from(["Ann", "Bob"])
DELIVER = ("callbacks", "deliver")

View = dict[tuple[Any, ...], Any]
"""The name of each team and award, the name, permissions and team of each account, and 1 for each
award that one holds."""


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
        for event in EventType:
            callback = {"url": f"{self.receiver.url}/{event}", "secret": SECRET}
            self.bot("PUT", f"/callback/{event}", callback)
        self.bot.populate(3)
        self.made = 3

    @rule(account=ACCOUNTS, team=st.integers(0, 2))
    def move(self, account: int, team: int) -> None:
        self.bot("PATCH", f"/account/{account}", {"team": team})

    @rule(account=ACCOUNTS, team=st.integers(0, 2))
    def move_and_kill(self, account: int, team: int) -> None:
        """Kill the server during a delivery, if there is one."""
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

    @rule(account=ACCOUNTS, name=NAMES, permissions=st.integers(0, 3))
    def edit(self, account: int, name: str, permissions: int) -> None:
        changes = {"grant_permissions": permissions, "revoke_permissions": 3 - permissions}
        self.bot("PATCH", f"/account/{account}", changes | {"name": name})
        self.bot("PATCH", "/team/1", {"name": name})

    @rule(account=ACCOUNTS, name=NAMES)
    def give_or_take_an_award(self, account: int, name: str) -> None:
        """Rename, delete, give or take an award, or make one."""
        awards = self.bot("GET", "/awards/search")["data"]
        if not awards:
            new = {"title": name, "image_url": "http://x", "team": 1, "accounts": [1, account]}
            self.bot("POST", "/awards/new", new)
            return
        key = awards[0]["award"]["id"]
        path = f"/account/{account}/award/{key}"
        held = self.bot("GET", f"/award/{key}")["awardees"]
        if str(account) in {one["id"] for one in held}:
            self.bot("DELETE", path)
            self.bot("PATCH", f"/award/{key}", {"title": name})
        elif len(held) > 1:
            self.bot("DELETE", f"/award/{key}")
        else:
            self.bot("PUT", path)

    @rule(team=st.integers(0, 1))
    def make_or_delete_an_account(self, team: int) -> None:
        if len(self.bot("GET", "/accounts/search")["data"]) > 3:
            self.bot("DELETE", f"/account/{self.made}")
        else:
            self.made += 1
            new = {"id": self.made, "name": "new", "discriminator": 0, "team": team}
            self.bot("POST", "/accounts/new", new)

    @rule(account=ACCOUNTS)
    def refuse(self, account: int) -> None:
        self.receiver.refuses = lambda body: body.get("account", {}).get("id") == str(account)

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
        assert self.told() == self.shown()
        self.bot.http.close()
        self.receiver.stop()
        self.server.__exit__(None, None, None)
        self.stack.close()

    def shown(self) -> View:
        """Return the community as the API shows it."""
        view: View = {}
        for account in self.bot("GET", "/accounts/search")["data"]:
            key = account["id"]
            team = account["team"] and account["team"]["id"]
            view["account", key] = (account["name"], account["permissions"], team)
            view |= {("held", key, award["id"]): 1 for award in account["awards"]}
        for team in self.bot("GET", "/teams/search")["data"]:
            view["team", team["id"]] = team["name"]
        for entry in self.bot("GET", "/awards/search")["data"]:
            view["award", entry["award"]["id"]] = entry["award"]["title"]
        return view

    def told(self) -> View:
        """Return the same as the receiver knows it: only events of one type come in order."""
        told: dict[str, list[Any]] = {event.value: [] for event in EventType}
        attempts = {
            headers["webhook-id"]: (headers, body) for headers, body in self.receiver.attempts
        }
        for headers, body in attempts.values():
            told[headers[":path"][1:]].append(body)
        latest = {
            (kind, body[kind]["id"]): body[kind]
            for kind in ("account", "team", "award")
            for event in (f"{kind}_create", f"{kind}_update")
            for body in told[event]
        }
        for kind in ("account", "team", "award"):
            for body in told[f"{kind}_delete"]:
                del latest[kind, body[kind]["id"]]
        teams = {
            body["account"]["id"]: body["team"] and body["team"]["id"]
            for body in told["account_team_update"]
        }
        view: View = {}
        for (kind, key), one in latest.items():
            if kind == "account":
                view[kind, key] = (one["name"], one["permissions"], teams.get(key))
            else:
                view[kind, key] = one["title" if kind == "award" else "name"]
        held = Counter((body["account"]["id"], body["award"]["id"]) for body in told["award_give"])
        held.subtract((body["account"]["id"], body["award"]["id"]) for body in told["award_take"])
        return view | {
            ("held", account, award): number
            for (account, award), number in held.items()
            if number and ("account", account) in latest
        }


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
