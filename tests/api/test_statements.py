"""The number of SQL statements of each endpoint: small, and the same for few records and many."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from database import connection, db, transaction
from models import Account, Award, Awardee, Delivery, Team
from permissions import APP_PERMISSIONS, Permission
from routes import BLUEPRINTS
from tests.support.community import Caller, Community
from tests.support.receiver import Discord

pytestmark = pytest.mark.sqlite  # only its driver reports all statements

TEAMS, ACCOUNTS, AWARDS = 50, 1000, 100

HERE = {"url": "http://127.0.0.1:1/", "secret": "x"}
ACCOUNT = {"id": "12", "name": "Ann", "discriminator": "0", "team": 1, "permissions": 1}
AWARD = {"title": "T", "image_url": "http://x", "team": 1, "accounts": ["10", "11"]}
COUNTS: dict[str, tuple[Any, int]] = {
    "GET /accounts/signups": (None, 0),
    "POST /accounts/new": (ACCOUNT, 13),
    "POST /acounts/new": (ACCOUNT, 13),
    "GET /accounts/search": (None, 1),
    "GET /account/<account>": (None, 1),
    "PATCH /account/<account>": ({"name": "Bob", "team": 2, "grant_permissions": 32}, 13),
    "DELETE /account/<account>": (None, 10),
    "POST /teams/new": ({"name": "Blue"}, 9),
    "GET /teams/search": (None, 1),
    "GET /team/<team>": (None, 1),
    "PATCH /team/<team>": ({"name": "Blue"}, 11),
    "DELETE /team/<team>": (None, 18),
    "POST /awards/new": (AWARD, 13),
    "GET /awards/search": (None, 1),
    "GET /award/<award>": (None, 1),
    "PATCH /award/<award>": ({"title": "Second", "team": 2}, 11),
    "DELETE /award/<award>": (None, 12),
    "PUT /account/<account>/award/<award>": (None, 10),
    "DELETE /account/<account>/award/<award>": (None, 9),
    "GET /standings": (None, 1),
    "PUT /callback/<event>": (HERE, 8),
    "GET /callback/<event>": (None, 2),
    "DELETE /callback/<event>": (None, 5),
    "GET /callbacks": (None, 2),
    "POST /callback/<event>/test": (None, 3),
    "GET /callback/<event>/deliveries": (None, 2),
    "POST /callback/<event>/deliver": (None, 8),
    "GET /events": (None, 2),
    "POST /auth/discord": ({"token": "good"}, 3),
    "POST /auth/create_session": ({"account": "10"}, 5),
    "POST /auth/reset_token": (None, 4),
    "GET /auth/me": (None, 1),
    "GET /health": (None, 1),
}
"""Each endpoint's body, and the number of statements when it succeeds."""


@contextmanager
def counted(community: Community) -> Iterator[list[str]]:
    """Collect the statements that the app sends, but for BEGIN."""
    statements: list[str] = []

    def note(statement: str) -> None:
        if statement.startswith(("BEGIN", "COMMIT", "PRAGMA")):
            return
        if statement.startswith("SELECT") or statements[-1:] != [statement]:  # not a trigger's
            statements.append(statement)

    def listen(connection: sqlite3.Connection, *_: Any) -> None:
        connection.set_trace_callback(note)

    def ignore(connection: sqlite3.Connection, *_: Any) -> None:
        connection.set_trace_callback(None)

    with community.app.app_context():
        engine = db.engine
    event.listen(engine, "checkout", listen)
    event.listen(engine, "checkin", ignore)
    yield statements
    event.remove(engine, "checkout", listen)
    event.remove(engine, "checkin", ignore)


def fill(community: Community, teams: int, accounts: int, awards: int) -> None:
    """Make a community of a size; everybody has the last award, and many have others."""
    with community.app.app_context(), transaction(write=True):
        db.session.add_all(Team(id=key, name=f"team {key}") for key in range(1, teams + 1))
        db.session.flush()
        db.session.add_all(
            Account(id=key, name=f"user {key}", discriminator="0001", team_id=key % teams + 1)
            for key in range(1, accounts + 1)
        )
        db.session.add_all(
            Award(id=key, title=f"award {key}", image_url="http://x", team_id=key % teams + 1)
            for key in range(1, awards + 1)
        )
        db.session.flush()
        db.session.add_all(
            Awardee(account_id=key, award_id=award)
            for key in range(1, accounts + 1)
            for award in {key % awards + 1, awards}
        )


@pytest.fixture
def small(make_app: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch) -> Iterator[Community]:
    """Return a community of two teams, two accounts and an award, with a stand-in for Discord."""
    monkeypatch.setattr("callbacks.clock.GRACE", 0)  # as on a server that has run for a while
    with Discord() as discord:
        discord.member(10, "good")
        community = Community(make_app(discord_api_url=f"{discord.url}/api"))
        team = community.team()
        community.team("Blue")
        community.award(team, community.account(10, team, Permission.MANAGE_OWN_TEAM))
        community.account(11, team)
        yield community


@pytest.mark.parametrize("endpoint", COUNTS)
def test_each_endpoint(small: Community, endpoint: str) -> None:
    body, most = COUNTS[endpoint]
    method, path = endpoint.split()
    given = "11" if method == "PUT" else "10"
    for name, value in (
        ("account", given),
        ("team", "1"),
        ("award", "1"),
        ("event", "team_create"),
    ):
        path = path.replace(f"<{name}>", value)
    bot = Caller(small.app.test_client(), small.bot(APP_PERMISSIONS))
    if path.startswith("/callback"):
        assert bot("PUT", "/callback/team_create", HERE).status_code == 200
    with counted(small) as statements:
        assert bot(method, path, body).status_code < 300
    assert len(statements) == most, statements


def test_each_endpoint_is_counted() -> None:
    endpoints = (endpoint for blueprint in BLUEPRINTS for endpoint in blueprint.described)
    assert {f"{endpoint.method} {endpoint.rule}" for endpoint in endpoints} == set(COUNTS)


@pytest.mark.parametrize("size", [(1, 1, 1), (TEAMS, ACCOUNTS, AWARDS)], ids=["few", "many"])
@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("/account/1", 1),
        ("/team/1", 1),
        ("/award/{awards}", 1),
        ("/accounts/search?per_page=1000", 1),
        ("/accounts/search?per_page=1000&q=user&team=1", 1),
        ("/teams/search?per_page=1000&q=team", 1),
        ("/awards/search?per_page=1000&q=award", 1),
        ("/awards/search?per_page=1000&team=1&account=1", 1),
        ("/standings?per_page=1000", 1),
        ("/accounts/signups", 0),
        ("/health", 1),
    ],
)
def test_reads(
    community: Community, client: FlaskClient, size: tuple[int, int, int], path: str, most: int
) -> None:
    fill(community, *size)
    with counted(community) as statements:
        response = client.get(path.format(awards=size[2]))
    assert response.status_code == 200
    assert len(statements) == most, statements
    if path.startswith("/award/"):
        assert len(response.get_json()["awardees"]) == size[1]


def test_me(community: Community, client: FlaskClient) -> None:
    for auth, most in ((community.bot(), 1), (community.user(10), 2)):
        with counted(community) as statements:
            assert client.get("/auth/me", auth=auth).status_code == 200
        assert len(statements) == most, statements


@pytest.mark.parametrize("number", [1, ACCOUNTS])
def test_writes_to_many(
    community: Community, client: FlaskClient, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callbacks.clock.GRACE", 0)  # as on a server that has run for a while
    fill(community, 1, number, 1)
    auth = community.bot(Permission.MANAGE_AWARDS | Permission.MANAGE_TEAMS)
    body = {"title": "T", "image_url": "http://x", "team": 1}
    with counted(community) as statements:
        everybody = list(range(1, number + 1))
        response = client.post("/awards/new", json=body | {"accounts": everybody}, auth=auth)
        assert response.status_code == 201
    assert len(statements) == 13, statements
    with counted(community) as statements:
        assert client.delete("/team/1", auth=auth).status_code == 204
    assert len(statements) == 16, statements


@pytest.mark.parametrize("number", [0, 1, ACCOUNTS])
def test_tools_of_callbacks(community: Community, client: FlaskClient, number: int) -> None:
    auth = community.bot()
    body = {"url": "http://127.0.0.1:1/", "secret": "x"}
    assert client.put("/callback/team_create", json=body, auth=auth).status_code == 200
    with community.app.app_context(), transaction(write=True):
        db.session.add_all(
            Delivery(callback_id=1, subject=key, webhook_id=f"msg_{key}", body="{}")
            for key in range(number)
        )
    for method, tool, most in (
        ("GET", "deliveries", 2),
        ("POST", "test", 3),
        ("POST", "deliver", 18 if number else 8),
    ):
        with counted(community) as statements:
            response = client.open(f"/callback/team_create/{tool}", method=method, auth=auth)
            assert response.status_code == 200
        assert len(statements) == most, statements


def test_lists_use_their_indexes(community: Community) -> None:
    """Neither a page nor an account's team makes SQLite sort or scan a table."""
    pages = "SELECT id FROM accounts {} ORDER BY search_name, id LIMIT 20 OFFSET 20"
    with community.app.app_context(), transaction(write=False):
        for statement in (
            pages.format(""),
            pages.format("WHERE team_id = 1"),
            "SELECT count(*) FROM accounts WHERE team_id = 1",
            "SELECT award_id FROM awardees WHERE account_id = 1",
            "SELECT account_id FROM awardees WHERE award_id = 1",
            "SELECT id FROM sessions WHERE expires_at < '2000'",
        ):
            plan = connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}").all()
            assert len(plan) == 1, (statement, plan)
            assert "USING COVERING INDEX" in plan[0].detail, (statement, plan)


@pytest.mark.parametrize(
    ("path", "scanned"),
    [
        ("/standings", {"teams"}),
        ("/awards/search", {"awards"}),
        ("/awards/search?q=a", {"awards"}),
        ("/awards/search?team=1", set()),
        ("/awards/search?account=1", set()),
        ("/awards/search?team=1&account=1", set()),
        *(
            (f"/events?after=1&{'&'.join(filters)}", set())
            for number in range(5)
            for filters in combinations(
                ("type=award_give", "account=1", "team=1", "award=1"), number
            )
        ),
    ],
)
def test_statements_use_their_indexes(
    community: Community, client: FlaskClient, path: str, scanned: set[str]
) -> None:
    """Without a filter, a page scans an index, which is small; with one, nothing."""
    fill(community, 1, 1, 1)
    auth = community.bot()
    with counted(community) as statements:
        assert client.get(path, auth=auth).status_code == 200
    statement = statements[-1]
    with community.app.app_context(), transaction(write=False):
        plan = connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}").all()
    tables = {table.name for table in db.metadata.sorted_tables}
    scans = [row.detail.split() for row in plan if row.detail.startswith("SCAN ")]
    of_tables = [words for words in scans if words[1] in tables]
    assert {words[1] for words in of_tables} == scanned
    assert all(words[2:5] == ["USING", "COVERING", "INDEX"] for words in of_tables)
    assert not any("RIGHT PART OF ORDER BY" in row.detail for row in plan)  # ties are in order
