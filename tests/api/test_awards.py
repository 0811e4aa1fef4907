"""Awards."""

import pytest
from flask.testing import FlaskClient

from permissions import ACCOUNT_PERMISSIONS, APP_PERMISSIONS, Permission
from tests.support.community import As, Community, answer, issues, refusal

NEW = {"title": "First", "image_url": "http://x/y.png"}


def test_create(community: Community, as_: As) -> None:
    team = community.team()
    community.account(10, team), community.account(2**63 - 1)
    bot = as_(community.bot(Permission.MANAGE_AWARDS))
    accounts = ["10", 10, str(2**63 - 1)]
    response = bot("POST", "/awards/new", NEW | {"team": team, "accounts": accounts})
    shown = {"id": 1, "title": "First", "image_url": "http://x/y.png"}
    assert answer(response) == (201, shown)
    details = bot("GET", "/award/1").get_json()
    assert details == {
        "award": shown,
        "awardees": [
            bot("GET", "/account/10").get_json(),
            bot("GET", f"/account/{2**63 - 1}").get_json(),
        ],
        "team": bot("GET", f"/team/{team}").get_json(),
    }
    assert [account["awards"] for account in details["awardees"]] == [[shown], [shown]]
    assert details["team"]["awards"] == [shown]


def test_create_for_nobody(community: Community, as_: As) -> None:
    bot = as_(community.bot(Permission.MANAGE_AWARDS))
    team = community.team()
    assert bot("POST", "/awards/new", NEW | {"team": team, "accounts": []}).status_code == 201
    assert bot("GET", "/award/1").get_json()["awardees"] == []


def test_issues_of_shape_and_existence_come_together(community: Community, as_: As) -> None:
    bot = as_(community.bot(Permission.MANAGE_AWARDS))
    community.account(10)
    before = community.dump()
    body = {"title": "", "team": 9, "accounts": ["x", 10, 11, True, "12"], "typo": 1}
    assert issues(bot("POST", "/awards/new", body)) == [
        ("body accounts 0", "invalid"),
        ("body accounts 2", "not_found"),
        ("body accounts 3", "invalid"),
        ("body accounts 4", "not_found"),
        ("body image_url", "missing"),
        ("body team", "not_found"),
        ("body title", "length"),
        ("body typo", "unknown_field"),
    ]
    assert issues(bot("PATCH", "/award/7", {"team": 9, "title": "\0"})) == [
        ("body team", "not_found"),
        ("body title", "invalid"),
        ("path award", "not_found"),
    ]
    assert community.dump() == before


def test_view_unknown(client: FlaskClient) -> None:
    assert issues(client.get("/award/1")) == [("path award", "not_found")]


def test_edit(community: Community, as_: As) -> None:
    red, blue = community.team("Red"), community.team("Blue")
    award = community.award(red)
    bot = as_(community.bot(Permission.MANAGE_AWARDS))
    nulls = {"title": None, "image_url": None, "team": None}
    before = community.dump()
    unchanged = {"id": award, "title": "First", "image_url": "https://example.com/1.png"}
    assert answer(bot("PATCH", f"/award/{award}", nulls)) == (200, unchanged)
    assert community.dump() == before
    changes = {"title": "Second", "image_url": "https://x", "team": blue}
    assert answer(bot("PATCH", f"/award/{award}", changes)) == (
        200,
        {"id": award, "title": "Second", "image_url": "https://x"},
    )
    assert bot("GET", f"/award/{award}").get_json()["team"]["id"] == blue
    assert issues(bot("PATCH", f"/award/{award}", {"team": 0})) == [("body team", "invalid")]


def test_give_and_take(community: Community, as_: As) -> None:
    community.account(10)
    award = community.award()
    bot = as_(community.bot(Permission.MANAGE_AWARDS))
    path = f"/account/10/award/{award}"
    for method, status in (("PUT", 201), ("PUT", 208), ("DELETE", 204)):
        response = bot(method, path, {})
        assert (response.status_code, response.data) == (status, b"")
    assert refusal(bot("DELETE", path)) == 404
    assert bot("GET", "/account/10").get_json()["awards"] == []


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_give_and_take_what_is_not_there(community: Community, as_: As, method: str) -> None:
    bot = as_(community.bot(Permission.MANAGE_AWARDS))
    assert issues(bot(method, "/account/x/award/9")) == [
        ("path account", "not_found"),
        ("path award", "not_found"),
    ]


def test_delete(community: Community, as_: As) -> None:
    community.account(10)
    award = community.award(None, 10)
    bot = as_(community.bot(Permission.MANAGE_AWARDS))
    response = bot("DELETE", f"/award/{award}")
    assert (response.status_code, response.data) == (204, b"")
    after = community.dump()
    assert after["awards"] == after["awardees"] == []


def test_who_may_do_what(community: Community, as_: As) -> None:
    team = community.team()
    bot = community.bot(APP_PERMISSIONS & ~Permission.MANAGE_AWARDS)
    user = community.user(10, ACCOUNT_PERMISSIONS & ~Permission.MANAGE_AWARDS, team)
    award = community.award(team, 10)
    before = community.dump()
    for auth, status in ((bot, 403), (user, 403), (None, 401)):
        caller = as_(auth)
        new = NEW | {"team": team, "accounts": []}
        assert refusal(caller("POST", "/awards/new", new)) == status
        assert refusal(caller("PATCH", f"/award/{award}", {"title": "X"})) == status
        assert refusal(caller("PATCH", f"/award/{award}", {})) == status
        assert refusal(caller("DELETE", f"/award/{award}")) == status
        assert refusal(caller("PUT", f"/account/10/award/{award}")) == status
        assert refusal(caller("DELETE", f"/account/10/award/{award}")) == status
    assert community.dump() == before
    manager = as_(community.user(11, Permission.MANAGE_AWARDS))
    assert manager("DELETE", f"/account/10/award/{award}").status_code == 204
