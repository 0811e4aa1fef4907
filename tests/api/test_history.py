"""Every change has its line in the log, and programs can read it."""

import json
from collections.abc import Callable, Iterator, Mapping
from threading import Event as Flag
from threading import Thread
from typing import Any

import click
import pytest
from flask import Flask

from api.endpoints import Endpoint
from commands import COMMANDS
from database import connection, db, transaction
from models import Account, App, Award, Awardee, Callback, Event, EventType, LogType, Session, Team
from permissions import ACCOUNT_PERMISSIONS, APP_PERMISSIONS, Permission
from tests.support.community import As, Community, issue, issues, refusal
from tests.support.receiver import SECRET

Row = Mapping[Any, Any]
Do = Callable[..., Any]

LOGGED: dict[Any, set[str]] = {
    Account: {"name", "discriminator", "avatar_url", "team_id", "permissions"},
    Team: {"name"},
    Award: {"title", "image_url", "team_id", "points"},
    Awardee: set(),
    App: {"name", "permissions", "token_digest"},
    Callback: {"url", "secret"},
    Session: {"token_digest"},
}
"""The records and columns in the log; other columns follow from these, or are times."""

READ_ONLY = {"apps list", "apps view", "callbacks list", "events list", "sessions list"}
SENDS_ONLY = {"callbacks deliver"}
NOT_OF_THE_COMMUNITY = {"backup", "doctor", "export", "move", "restore"}
SESSIONS_THAT_END_BY_THEMSELVES = {"sessions prune"}
SIGN_INS = {"POST /auth/create_session", "POST /auth/discord"}
"""They create sessions, which are not in the log; a first sign-in's account is."""


def rows(community: Community, model: Any) -> dict[Any, Row]:
    """Return the rows of a table, by their keys."""
    with community.app.app_context(), transaction(write=False):
        found = connection().execute(db.select(model.__table__)).mappings().all()
    keys = [column.name for column in model.__table__.primary_key]
    return {tuple(row[key] for key in keys): row for row in found}


class Watcher:
    """Does things, and compares the changes in the database with the log's lines about them."""

    def __init__(self, community: Community, as_: As) -> None:
        self.community, self.as_ = community, as_
        self.done: set[str] = set()

    def snapshot(self) -> dict[Any, dict[Any, Row]]:
        return {model: rows(self.community, model) for model in LOGGED}

    def request(self, auth: Any, method: str, rule: str, body: Any = None, **path: Any) -> Any:
        """Make a request that succeeds, and check that the log has its changes."""
        author = f"app {auth[0][1:]}" if auth and auth[0][0] == "A" else ""
        if auth and auth[0][0] == "S":
            sessions = rows(self.community, Session)
            author = f"account {sessions[int(auth[0][1:]),]['account_id']}"

        def act() -> Any:
            url = rule.replace("<", "{").replace(">", "}").format(**path)
            response = self.as_(auth)(method, url, body)
            assert response.status_code < 300, response.text
            return response.get_json() if response.data else None

        return self.check(f"{method} {rule}", author, act)

    def command(self, *arguments: str) -> str:
        """Run a command that succeeds, and check the same."""

        def act() -> str:
            ran = self.community.app.test_cli_runner().invoke(args=list(arguments))
            assert ran.exit_code == 0, ran.output
            return str(ran.stdout)

        self.done.add(arguments[0])
        return str(self.check(" ".join(arguments[:2]), "command line", act))

    def check(self, name: str, author: str, act: Do) -> Any:
        before, events_before = self.snapshot(), len(rows(self.community, Event))
        result = act()
        after = self.snapshot()
        lines = list(rows(self.community, Event).values())[events_before:]
        assert {line["author"] for line in lines} <= {author}, name
        for what, ids, changed, bits in differences(before, after):
            if name in SIGN_INS and what is Session:
                continue
            told = [line for line in lines if ids.items() <= line.items()]
            assert told, (name, what, ids, lines)
            assert changed <= set().union(*map(attributes, told)), (name, changed, told)
            granted = [line["granted"] for line in told]
            revoked = [line["revoked"] for line in told]
            assert (max(granted), max(revoked)) == bits, (name, told)
        self.done.add(name)
        return result


def attributes(line: Row) -> set[str]:
    """Return the attributes that a line says were changed."""
    named = set(json.loads(line["changed"] or "[]"))
    if line["type"] == EventType.ACCOUNT_TEAM_UPDATE:
        named.add("team")
    if line["type"] == EventType.TEAM_UPDATE:
        named.add("name")
    if line["type"] == LogType.TOKEN_RESET:
        named.add("token")
    return named


def differences(
    before: dict[Any, dict[Any, Row]], after: dict[Any, dict[Any, Row]]
) -> Iterator[tuple[Any, dict[str, Any], set[str], tuple[int, int]]]:
    """Return the differences: the table, the id that the log must name, attributes, permissions."""
    for model, columns in LOGGED.items():
        for key in before[model].keys() | after[model].keys():
            old, new = before[model].get(key), after[model].get(key)
            row = new or old
            assert row
            changed = {name for name in columns if old and new and old[name] != new[name]}
            if old and new and not changed:
                continue
            if model in {Session, Awardee} and (row["account_id"],) not in after[Account]:
                continue  # goes with the account
            if model is Callback and (row["app_id"],) not in after[App]:
                continue
            held = old["permissions"] if old and "permissions" in old else 0
            holds = new["permissions"] if new and "permissions" in new else 0
            bits = (holds & ~held, held & ~holds if new else 0)
            simple = {name.removesuffix("_id").removesuffix("_digest") for name in changed}
            yield model, named(model, row), set() if model is Callback else simple, bits


def named(model: Any, row: Row) -> dict[str, Any]:
    """Return the ids that a line about a record must have."""
    if model is Awardee:
        return {"account_id": row["account_id"], "award_id": row["award_id"]}
    if model is Callback:
        return {"app_id": row["app_id"], "changed": json.dumps([row["event"]])}
    if model is Session:
        return {"account_id": row["account_id"]}
    return {f"{model.__name__.lower()}_id": row["id"]}


def manage_a_callback(do: Do, bot: Any) -> None:
    there = {"url": "http://127.0.0.1:1/", "secret": SECRET}
    do(bot, "PUT", "/callback/<event>", there, event="team_update")
    do(bot, "PUT", "/callback/<event>", there | {"secret": "new"}, event="team_update")
    do(bot, "POST", "/callback/<event>/test", event="team_update")
    do(bot, "POST", "/callback/<event>/deliver", event="team_update")
    do(bot, "DELETE", "/callback/<event>", event="team_update")


def test_every_write_has_its_line(app: Flask, community: Community, as_: As) -> None:
    watch = Watcher(community, as_)
    watch.command("apps", "create", "bot", "--all")
    bot = ("A1", watch.command("apps", "reset-token", "bot").split("Password: ")[1].split()[0])
    do = watch.request
    red, blue = (do(bot, "POST", "/teams/new", {"name": name})["id"] for name in ("Red", "Blue"))
    new = {"name": "Ann", "discriminator": 1}
    do(bot, "POST", "/accounts/new", new | {"id": 10, "team": red, "permissions": 8})
    do(bot, "POST", "/acounts/new", new | {"id": 11})
    do(bot, "PATCH", "/account/<account>", {"name": "Bob", "discriminator": 2}, account=11)
    url, everything = "https://x/1.png", int(ACCOUNT_PERMISSIONS & APP_PERMISSIONS)
    do(bot, "PATCH", "/account/<account>", {"avatar_url": url}, account=11)
    do(bot, "PATCH", "/account/<account>", {"grant_permissions": everything}, account=11)
    change = {"team": blue, "grant_permissions": 32, "revoke_permissions": 3}
    do(bot, "PATCH", "/account/<account>", change, account=11)
    do(bot, "PATCH", "/account/<account>", {"team": red}, account=11)
    do(bot, "PATCH", "/account/<account>", {"team": 0}, account=11)
    do(bot, "PATCH", "/team/<team>", {"name": "Rouge"}, team=red)
    award = {"title": "T", "image_url": url, "team": red, "accounts": [10]}
    first = do(bot, "POST", "/awards/new", award)["id"]
    second = do(bot, "POST", "/awards/new", award | {"points": 7})["id"]
    do(bot, "PATCH", "/award/<award>", {"title": "U", "team": blue, "points": 9}, award=first)
    do(bot, "PATCH", "/award/<award>", {"image_url": f"{url}?2"}, award=first)
    of = {"account": 11, "award": first}
    do(bot, "PUT", "/account/<account>/award/<award>", **of)
    do(bot, "DELETE", "/account/<account>/award/<award>", **of)
    do(bot, "DELETE", "/award/<award>", award=second)
    manage_a_callback(do, bot)
    do(bot, "POST", "/auth/create_session", {"account": 10})
    session = community.session(10)
    session = (session[0], do(session, "POST", "/auth/reset_token")["password"])
    do(session, "PATCH", "/account/<account>", {"team": blue}, account=10)
    watch.command("accounts", "superuser", "10")
    watch.command("accounts", "superuser", "10")
    do(session, "DELETE", "/team/<team>", team=blue)
    watch.command("sessions", "revoke", "10")
    do(bot, "DELETE", "/account/<account>", account=10)
    do(bot, "POST", "/auth/reset_token")
    watch.command("apps", "edit", "bot", "--name", "robot", "--revoke", "manage_teams")
    watch.command("apps", "edit", "robot", "--grant", "manage_teams")
    watch.command("apps", "delete", "robot")

    endpoints = {
        f"{view.method} {view.rule}"
        for view in app.view_functions.values()
        if isinstance(view, Endpoint) and view.method != "GET"
    }
    assert endpoints - watch.done == {"POST /auth/discord"}  # see the next test
    commands = set()
    for command in COMMANDS:
        subcommands = command.commands if isinstance(command, click.Group) else [""]
        commands |= {f"{command.name} {name}".strip() for name in subcommands}
    quiet = READ_ONLY | SENDS_ONLY | NOT_OF_THE_COMMUNITY | SESSIONS_THAT_END_BY_THEMSELVES
    assert commands - watch.done == quiet | {"import"}  # see test_import.py


def test_an_event(community: Community, as_: As) -> None:
    """Its whole shape, with all attributes and with none."""
    bot = as_(community.bot(APP_PERMISSIONS))
    red = community.team()
    bot("POST", "/accounts/new", {"id": 10, "name": "A", "discriminator": 1, "permissions": 3})
    bot("PATCH", "/account/10", {"team": red, "grant_permissions": 4, "revoke_permissions": 1})
    answer = bot("GET", "/events?after=1").get_json()
    nothing = {"left_team": None, "award": None, "changed": None, "granted": 0, "revoked": 0}
    common = {"author": "app 1", "account": "10"}
    assert [event.pop("created_at") > 1.7e9 for event in answer["events"]] == [True, True]
    assert answer == {
        "events": [
            common | nothing | {"id": 2, "type": "account_team_update", "team": red},
            common
            | nothing
            | {"id": 3, "type": "account_update", "team": None}
            | {"changed": ["permissions"], "granted": 4, "revoked": 1},
        ],
        "last": 3,
    }
    assert bot("GET", "/events?after=3").get_json() == {"events": [], "last": 3}
    assert bot("GET", "/events?per_page=1").get_json()["last"] == 1


def test_events_about_something(community: Community, as_: As) -> None:
    bot = as_(community.bot(APP_PERMISSIONS))
    red, blue = (bot("POST", "/teams/new", {"name": name}).get_json()["id"] for name in "rb")
    bot("POST", "/accounts/new", {"id": 10, "name": "A", "discriminator": 1, "team": red})
    bot("PATCH", "/account/10", {"team": blue})
    award = {"title": "T", "image_url": "http://x", "team": red, "accounts": ["10"]}
    bot("POST", "/awards/new", award)
    bot("DELETE", f"/team/{red}")
    for query, types in {
        f"team={red}": "team_create account_team_update account_team_update award_create "
        "award_give team_delete award_update",
        f"team={red}&type=account_team_update": "account_team_update account_team_update",
        "account=10": "account_create account_team_update account_team_update award_give",
        "account=10&award=1": "award_give",
        f"account=10&team={blue}": "account_team_update",
        "award=1": "award_create award_give award_update",
        "account=99": "",
        "type=app_create": "",
        f"team={red}&per_page=2&after=1": "account_team_update account_team_update",
    }.items():
        events = bot("GET", f"/events?{query}").get_json()["events"]
        assert [event["type"] for event in events] == types.split(), query
        assert [event["id"] for event in events] == sorted(event["id"] for event in events)


def test_events_of_an_award(community: Community, as_: As) -> None:
    """Each has the team that the award is in, or was in when it was deleted."""
    bot = as_(community.bot(APP_PERMISSIONS))
    red, blue = community.team("Red"), community.team("Blue")
    community.account(10, blue)
    award = {"title": "T", "image_url": "http://x", "team": red, "accounts": ["10"]}
    bot("POST", "/awards/new", award)
    bot("PATCH", "/award/1", {"title": "U", "points": 2})
    bot("PATCH", "/award/1", {"team": blue})
    bot("DELETE", "/account/10/award/1")
    bot("DELETE", f"/team/{blue}")
    bot("PUT", "/account/10/award/1")
    bot("PATCH", "/award/1", {"team": red})
    bot("DELETE", "/award/1")
    events = bot("GET", "/events?award=1").get_json()["events"]
    columns = ("type", "team", "left_team", "changed")
    told = [
        ("award_create", red, None, None),
        ("award_give", red, None, None),
        ("award_update", red, None, ["title", "points"]),
        ("award_update", blue, red, ["team"]),
        ("award_take", blue, None, None),
        ("award_update", None, blue, ["team"]),
        ("award_give", None, None, None),
        ("award_update", red, None, ["team"]),
        ("award_take", red, None, None),
        ("award_delete", red, None, None),
    ]
    assert [tuple(event[column] for column in columns) for event in events] == told
    of_red = bot("GET", f"/events?award=1&team={red}").get_json()["events"]
    assert of_red == [event for event in events if red in {event["team"], event["left_team"]}]


def test_who_may_read_the_log(community: Community, as_: As) -> None:
    assert as_(community.bot())("GET", "/events").status_code == 200
    reader = community.user(10, Permission.MANAGE_PERMISSIONS)
    assert as_(reader)("GET", "/events").status_code == 200
    others = ACCOUNT_PERMISSIONS & ~Permission.MANAGE_PERMISSIONS
    assert refusal(as_(community.user(11, others))("GET", "/events")) == 403
    assert refusal(as_(None)("GET", "/events")) == 401
    assert refusal(as_(("A1", "wrong"))("GET", "/events")) == 401


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("after=-1", "after"),
        ("after=x", "after"),
        ("after=9223372036854775808", "after"),
        ("type=team_renamed", "type"),
        ("account=x", "account"),
        ("team=0", "team"),
        ("award=1.5", "award"),
        ("per_page=0", "per_page"),
        ("per_page=1001", "per_page"),
    ],
)
def test_bad_questions(community: Community, as_: As, query: str, expected: str) -> None:
    response = as_(community.bot())("GET", f"/events?{query}&unknown=1")
    assert issues(response) == [issue(f"query {expected}", "invalid")]


def test_catching_up(app: Flask, community: Community, as_: As) -> None:
    """A bot that was away misses nothing and sees nothing twice, while others write."""
    auth = community.bot(APP_PERMISSIONS)
    bot = as_(auth)
    for number in range(200):
        bot("POST", "/teams/new", {"name": f"{number}"})
    enough = Flag()
    made = []

    def write() -> None:
        writer = app.test_client()
        while not enough.is_set():
            made.append(writer.post("/teams/new", json={"name": "x"}, auth=auth).get_json()["id"])

    writers = [Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    seen: list[int] = []
    last = 0
    while len(seen) < 300:
        answer = bot("GET", f"/events?after={last}&per_page=7&type=team_create").get_json()
        seen += [event["team"] for event in answer["events"]]
        last = answer["last"]
    enough.set()
    for writer in writers:
        writer.join()
    while (answer := bot("GET", f"/events?after={last}").get_json())["events"]:
        seen += [event["team"] for event in answer["events"]]
        last = answer["last"]
    assert seen == sorted(seen)
    assert len(seen) == len(set(seen)) == 200 + len(made)
