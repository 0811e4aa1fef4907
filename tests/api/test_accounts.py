"""Accounts."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from models import now
from permissions import APP_PERMISSIONS, Permission
from tests.support.community import As, Community, answer, issues, refusal

ANN = {"id": "10", "name": "Ann", "discriminator": "0042"}


def shown(body: Any, **changes: Any) -> dict[str, Any]:
    """Return a whole account as the API shows it, but without `created_at`."""
    moment = body.pop("created_at")
    assert isinstance(moment, float)
    assert abs(now() - moment) < 60
    if body["team"]:
        body["team"].pop("created_at")
    return {
        "id": "10",
        "name": "Ann",
        "discriminator": "0042",
        "avatar_url": None,
        "team": None,
        "permissions": 0,
        "awards": [],
    } | changes


def test_signups(make_app: Callable[..., Flask]) -> None:
    for is_open in (True, False):
        client = make_app(signups_open=is_open).test_client()
        assert answer(client.get("/accounts/signups?")) == (200, {"signups_open": is_open})


@pytest.mark.parametrize("path", ["/accounts/new", "/acounts/new"])
def test_create(community: Community, as_: As, path: str) -> None:
    bot = as_(community.bot(Permission.MANAGE_ACCOUNT_DETAILS))
    response = bot("POST", path, ANN)
    assert response.status_code == 201
    body = response.get_json()
    assert body == shown(body)
    status, body = answer(bot("GET", "/account/10"))
    assert status == 200
    assert body == shown(body)


def test_create_with_everything(community: Community, as_: As) -> None:
    bot = as_(community.bot(APP_PERMISSIONS))
    team = community.team()
    response = bot(
        "POST",
        "/accounts/new",
        ANN
        | {"id": 2**63 - 1, "discriminator": 0, "avatar_url": "http://cdn/a.png"}
        | {"team": str(team), "permissions": 64 + 1},
    )
    assert response.status_code == 201, response.text
    body = response.get_json()
    assert body == shown(
        body,
        id=str(2**63 - 1),
        discriminator="0",
        avatar_url="http://cdn/a.png",
        team={"id": team, "name": "Red", "member_count": 1, "awards": []},
        permissions=65,
    )


def test_create_as_the_python_client_does(community: Community, as_: As) -> None:
    bot = as_(community.bot(Permission.MANAGE_ACCOUNT_DETAILS))
    nulls = {"avatar_url": None, "team": None, "permissions": 0}
    body = bot("POST", "/accounts/new", {"id": 10, "name": "Ann", "discriminator": 42} | nulls)
    assert body.status_code == 201
    assert body.get_json() == shown(body.get_json()) | {"created_at": body.get_json()["created_at"]}


def test_create_twice(community: Community, as_: As) -> None:
    community.account(10, name="Before")
    bot = as_(community.bot(Permission.MANAGE_ACCOUNT_DETAILS))
    before = community.dump()
    assert refusal(bot("POST", "/accounts/new", ANN)) == 409
    assert community.dump() == before


def test_create_while_signups_are_closed(make_app: Callable[..., Flask]) -> None:
    app = make_app(signups_open=False)
    bot = Community(app).bot(APP_PERMISSIONS)
    assert refusal(app.test_client().post("/accounts/new", json=ANN, auth=bot)) == 403


def test_who_may_create(community: Community, as_: As) -> None:
    before = community.dump()
    assert refusal(as_(None)("POST", "/accounts/new", ANN)) == 401
    assert community.dump() == before
    others = ~Permission.MANAGE_ACCOUNT_DETAILS
    assert (
        refusal(as_(community.bot(APP_PERMISSIONS & others))("POST", "/accounts/new", ANN)) == 403
    )
    user = as_(community.user(1, Permission.MANAGE_ACCOUNT_DETAILS))
    assert user("POST", "/accounts/new", ANN).status_code == 201


def test_whole_account(community: Community, client: FlaskClient) -> None:
    """An account shows its own awards and its team's, by id, and its team's number of members."""
    created_at = now()
    team = community.team(created_at=created_at)
    community.account(10, team, name="Ann", created_at=created_at, avatar_url="https://x/y.png")
    community.account(11, team)
    both = community.award(team, 10, 11)
    own = community.award(None, 10, title="Own")
    moment = created_at
    first = {"id": both, "title": "First", "image_url": "https://example.com/1.png"}
    assert answer(client.get("/account/10")) == (
        200,
        {
            "id": "10",
            "name": "Ann",
            "discriminator": "0001",
            "avatar_url": "https://x/y.png",
            "team": {
                "id": team,
                "name": "Red",
                "created_at": moment,
                "member_count": 2,
                "awards": [first],
            },
            "permissions": 0,
            "created_at": moment,
            "awards": [first, first | {"id": own, "title": "Own"}],
        },
    )


def test_reading_needs_no_credentials_and_ignores_bad_ones(
    community: Community, client: FlaskClient
) -> None:
    community.account(10)
    for path in ("/account/10", "/accounts/search", "/accounts/signups"):
        assert client.get(path, auth=("A1", "wrong")).status_code == 200
        assert client.get(path, headers={"Authorization": "nonsense"}).status_code == 200


def test_edit_details(community: Community, as_: As) -> None:
    community.account(10)
    bot = as_(community.bot(Permission.MANAGE_ACCOUNT_DETAILS))
    changes = {"name": " Ann ", "discriminator": "7", "avatar_url": "https://x/y"}
    status, body = answer(bot("PATCH", "/account/10", changes))
    assert status == 200
    assert body == shown(body, name=" Ann ", discriminator="0007", avatar_url="https://x/y")
    status, body = answer(bot("PATCH", "/account/10", {"name": "Bob", "avatar_url": None}))
    assert body == shown(body, name="Bob", discriminator="0007", avatar_url="https://x/y")


def test_edit_nothing(community: Community, as_: As) -> None:
    community.account(10, name="Ann", discriminator="0042")
    before = community.dump()
    assert refusal(as_(None)("PATCH", "/account/10", {})) == 401
    status, body = answer(as_(community.session(10))("PATCH", "/account/10", {}))
    assert status == 200
    assert body == shown(body)
    assert community.dump()["accounts"] == before["accounts"]


@pytest.mark.parametrize("field", ["name", "discriminator", "avatar_url"])
def test_who_may_edit_details(community: Community, as_: As, field: str) -> None:
    changes = {field: {"name": "Z", "discriminator": "9", "avatar_url": "http://z"}[field]}
    own = community.user(10)
    team = community.team()
    community.set(10, team_id=team)
    owner = community.user(11, Permission.MANAGE_OWN_TEAM, team)
    others = community.bot(APP_PERMISSIONS & ~Permission.MANAGE_ACCOUNT_DETAILS)
    before = community.dump()
    assert refusal(as_(None)("PATCH", "/account/10", changes)) == 401
    for caller in (own, owner, others):
        assert refusal(as_(caller)("PATCH", "/account/10", changes)) == 403
    assert community.dump() == before


@pytest.mark.parametrize(
    ("own_team", "permissions", "team_before", "team_after", "allowed"),
    [
        # (the team the caller is in, what the caller may do, from, to): 0 is none
        (0, Permission.MANAGE_ACCOUNT_TEAMS, 1, 2, True),
        (0, Permission.MANAGE_ACCOUNT_TEAMS, 0, 2, True),
        (0, Permission.MANAGE_ACCOUNT_TEAMS, 1, 0, True),
        (1, Permission.MANAGE_OWN_TEAM, 1, 0, True),
        (1, Permission.MANAGE_OWN_TEAM, 1, 1, False),
        (1, Permission.MANAGE_OWN_TEAM, 1, 2, False),
        (1, Permission.MANAGE_OWN_TEAM, 2, 0, False),
        (1, Permission.MANAGE_OWN_TEAM, 2, 1, False),
        (1, Permission.MANAGE_OWN_TEAM, 0, 1, False),
        (0, Permission.MANAGE_OWN_TEAM, 0, 0, False),
        (1, ~Permission.MANAGE_OWN_TEAM & ~Permission.MANAGE_ACCOUNT_TEAMS, 1, 0, False),
    ],
)
def test_who_may_move_others(  # noqa: PLR0917 - the cases of a table
    community: Community,
    as_: As,
    own_team: int,
    permissions: Permission,
    team_before: int,
    team_after: int,
    allowed: bool,
) -> None:
    community.team("one"), community.team("two")
    community.account(10, team_before or None)
    permissions &= ~Permission.AUTHENTICATE_USERS
    caller = as_(community.user(11, permissions, own_team or None))
    response = caller("PATCH", "/account/10", {"team": team_after})
    assert response.status_code == (200 if allowed else 403)
    team = community.app.test_client().get("/account/10").get_json()["team"]
    assert (team["id"] if team else 0) == (team_after if allowed else team_before)


def test_a_bot_may_move_by_permission_alone(community: Community, as_: As) -> None:
    team = community.team()
    community.account(10)
    others = APP_PERMISSIONS & ~Permission.MANAGE_ACCOUNT_TEAMS
    assert refusal(as_(community.bot(others))("PATCH", "/account/10", {"team": team})) == 403
    mover = as_(community.bot(Permission.MANAGE_ACCOUNT_TEAMS, "mover"))
    assert mover("PATCH", "/account/10", {"team": team}).get_json()["team"]["id"] == team
    assert mover("PATCH", "/account/10", {"team": "0"}).get_json()["team"] is None


def test_a_member_may_join_change_and_leave_teams(community: Community, as_: As) -> None:
    red, blue = community.team("Red"), community.team("Blue")
    ann = as_(community.user(10))
    assert ann("PATCH", "/account/10", {"team": red}).get_json()["team"]["member_count"] == 1
    assert ann("PATCH", "/account/10", {"team": blue}).get_json()["team"]["name"] == "Blue"
    assert ann("PATCH", "/account/10", {"team": 0}).get_json()["team"] is None
    assert refusal(as_(None)("PATCH", "/account/10", {"team": red})) == 401


def test_delete(community: Community, as_: As) -> None:
    community.account(10)
    community.award(None, 10)
    session = community.session(10)
    bot = as_(community.bot(Permission.MANAGE_ACCOUNT_DETAILS))
    response = bot("DELETE", "/account/10", {})
    assert (response.status_code, response.data) == (204, b"")
    after = community.dump()
    assert after["accounts"] == after["awardees"] == after["sessions"] == []
    assert len(after["awards"]) == 1
    assert refusal(as_(session)("GET", "/auth/me")) == 401
    assert issues(bot("DELETE", "/account/10")) == [("path account", "not_found")]


def test_who_may_delete(community: Community, as_: As) -> None:
    own, team = community.user(10), community.team()
    community.set(10, team_id=team)
    owner = community.user(11, Permission.MANAGE_OWN_TEAM, team)
    bot = community.bot(APP_PERMISSIONS & ~Permission.MANAGE_ACCOUNT_DETAILS)
    assert refusal(as_(None)("DELETE", "/account/10")) == 401
    for caller in (owner, bot):
        assert refusal(as_(caller)("DELETE", "/account/10")) == 403
    assert len(community.dump()["accounts"]) == 2
    assert as_(own)("DELETE", "/account/10").status_code == 204
