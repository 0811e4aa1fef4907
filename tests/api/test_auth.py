"""Credentials, sessions and tokens."""

import base64
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import insert

from callbacks.events import FORGET_AT_ONCE
from database import connection, db, transaction
from models import Session, now
from permissions import ACCOUNT_PERMISSIONS, APP_PERMISSIONS, Permission
from tests.support.community import As, Community, answer, issues, refusal

DAY = 24 * 60 * 60


def test_me_as_an_app(community: Community, as_: As) -> None:
    username, token = community.bot(Permission.MANAGE_AWARDS)
    shown = {"name": "bot", "permissions": 64, "username": username}
    for letter in "Aa":
        response = as_((letter + username[1:], token))("GET", "/auth/me?")
        assert answer(response) == (200, shown)


def test_me_as_an_account(community: Community, as_: As) -> None:
    team = community.team()
    username, token = community.user(10, Permission.MANAGE_OWN_TEAM, team)
    for letter in "Ss":
        response = as_((letter + username[1:], token))("GET", "/auth/me")
        assert response.status_code == 200
        assert response.get_json() == as_(None)("GET", "/account/10").get_json()


def basic(text: str | bytes) -> str:
    """Make an Authorization header."""
    raw = text.encode() if isinstance(text, str) else text
    return "Basic " + base64.b64encode(raw).decode()


def test_bad_credentials(community: Community, client: FlaskClient) -> None:
    app, app_token = community.bot()
    session, session_token = community.user(10)
    headers = [
        None,
        "",
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic AAA",
        "Basic \xe9",
        "\xe9",
        "Bearer " + app_token,
        "Digest username=A1",
        f"Foo username={app}, password={app_token}",
        f'Digest username="{app}", password="{app_token}"',
        basic(f"{app}{app_token}"),
        basic(f"{app}:"),
        basic(f"{app}:{app_token}x"),
        basic(f"{app} :{app_token}"),
        basic(f"1:{app_token}"),
        basic(f"{app}:{session_token}"),
        basic(f"{session}:{app_token}"),
        basic(f"A99:{app_token}"),
        basic(f"A99999999999999999999:{app_token}"),
        basic(f"A9223372036854775808:{app_token}"),
        basic(f"A9223372036854775807:{app_token}"),
        basic(f"A-1:{app_token}"),
        basic(f"A١:{app_token}"),
        basic(f"A1\0:{app_token}"),
        basic(b"A1:\xff\xfe"),
        basic(f":{app_token}"),
    ]
    before = community.dump()
    for header in headers:
        given = {} if header is None else {"Authorization": header}
        for method, path in (("GET", "/auth/me"), ("POST", "/auth/reset_token")):
            response = client.open(path, method=method, headers=given)
            assert refusal(response) == 401, header
            assert response.headers["WWW-Authenticate"] == 'Basic realm="Laurels API"'
            assert app_token not in response.text
    assert community.dump() == before


def test_create_session(community: Community, as_: As) -> None:
    community.account(10)
    bot = as_(community.bot(Permission.AUTHENTICATE_USERS))
    for account in (10, "10"):
        response = bot("POST", "/auth/create_session", {"account": account})
        assert response.status_code == 201
        session = response.get_json()
        assert set(session) == {"username", "password", "expires_at"}
        assert abs(session["expires_at"] - now() - 30 * DAY) < 60
        me = as_((session["username"], session["password"]))("GET", "/auth/me")
        assert me.get_json()["id"] == "10"
    assert issues(bot("POST", "/auth/create_session", {"account": 11})) == [
        ("body account", "not_found")
    ]


def test_who_may_create_sessions(community: Community, as_: As) -> None:
    bot = community.bot(APP_PERMISSIONS & ~Permission.AUTHENTICATE_USERS)
    user = community.user(10, ACCOUNT_PERMISSIONS)
    before = community.dump()
    for auth, status in ((bot, 403), (user, 403), (None, 401)):
        assert refusal(as_(auth)("POST", "/auth/create_session", {"account": 10})) == status
    assert community.dump() == before


def test_sessions_expire(make_app: Callable[..., Flask]) -> None:
    app = make_app(max_session_age=timedelta(hours=1))
    community, client = Community(app), app.test_client()
    community.account(10)
    expired = community.session(10, expires_at=now() - 1)
    assert refusal(client.get("/auth/me", auth=expired)) == 401
    assert refusal(client.post("/auth/reset_token", auth=expired)) == 401
    nearly = community.session(10, expires_at=now() + 60)
    renewed = client.post("/auth/reset_token", auth=nearly).get_json()
    assert abs(renewed["expires_at"] - now() - 3600) < 60
    assert renewed["username"] == nearly[0]
    assert refusal(client.get("/auth/me", auth=nearly)) == 401
    assert client.get("/auth/me", auth=(nearly[0], renewed["password"])).status_code == 200


def test_expired_sessions_are_forgotten(community: Community, as_: As) -> None:
    """Whenever a session is started, but only a few at once, so that it does not take long."""
    community.account(10)
    bot = as_(community.bot(Permission.AUTHENTICATE_USERS))
    expired = {"account_id": 10, "token_digest": b"", "expires_at": now() - 1}
    with community.app.app_context(), transaction(write=True):
        connection().execute(insert(Session), [expired] * (FORGET_AT_ONCE + 5))
    left = []
    for _ in range(2):
        assert bot("POST", "/auth/create_session", {"account": 10}).status_code == 201
        left.append(len(community.dump()["sessions"]))
    assert left == [6, 2]


def test_reset_an_apps_token(community: Community, as_: As) -> None:
    old = community.bot(Permission.MANAGE_TEAMS)
    response = as_(old)("POST", "/auth/reset_token", {})
    assert response.status_code == 200
    app = response.get_json()
    token = app.pop("password")
    assert app == {"name": "bot", "permissions": 8, "username": old[0]}
    assert refusal(as_(old)("GET", "/auth/me")) == 401
    assert as_((old[0], token))("GET", "/auth/me").get_json() == app


def test_permissions_are_read_afresh(community: Community, as_: As) -> None:
    user = as_(community.user(10))
    assert refusal(user("POST", "/teams/new", {"name": "X"})) == 403
    community.set(10, permissions=int(Permission.MANAGE_TEAMS))
    assert user("POST", "/teams/new", {"name": "X"}).status_code == 201
    community.set(10, permissions=0)
    assert refusal(user("POST", "/teams/new", {"name": "X"})) == 403


@pytest.mark.sqlite
def test_tokens_are_stored_as_digests_only(community: Community, as_: As) -> None:
    bot, user = community.bot(), community.user(10)
    assert as_(bot)("GET", "/auth/me").status_code == 200
    with community.app.app_context():
        database = Path(db.engine.url.database or "")
    stored = b"".join(file.read_bytes() for file in database.parent.glob(f"{database.name}*"))
    for _, token in (bot, user):
        assert len(token) >= 43
        assert token.encode() not in stored


@pytest.mark.parametrize("auth", ["bot", "user"])
def test_me_needs_no_permission(community: Community, as_: As, auth: str) -> None:
    credentials = community.bot() if auth == "bot" else community.user(10)
    assert as_(credentials)("GET", "/auth/me").status_code == 200


def test_an_account_that_is_deleted_meanwhile(
    community: Community, as_: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = as_(community.user(10))
    monkeypatch.setattr("queries.account", lambda _: None)
    assert refusal(member("GET", "/auth/me")) == 401
