"""Teams."""

from flask.testing import FlaskClient

from models import now
from permissions import ACCOUNT_PERMISSIONS, APP_PERMISSIONS, Permission
from tests.support.community import As, Community, answer, issues, refusal


def test_create(community: Community, as_: As) -> None:
    bot = as_(community.bot(Permission.MANAGE_TEAMS))
    status, body = answer(bot("POST", "/teams/new", {"name": "Red"}))
    assert abs(now() - body.pop("created_at")) < 60
    assert (status, body) == (201, {"id": 1, "name": "Red", "member_count": 0, "awards": []})
    again = bot("POST", "/teams/new", {"name": "Red"})
    assert (again.status_code, again.get_json()["id"]) == (201, 2)


def test_view(community: Community, client: FlaskClient) -> None:
    created_at = now()
    team = community.team("Red", created_at=created_at)
    community.account(10, team)
    award = community.award(team, title="Best", image_url="http://x")
    assert answer(client.get(f"/team/{team}")) == (
        200,
        {
            "id": team,
            "name": "Red",
            "created_at": created_at,
            "member_count": 1,
            "awards": [{"id": award, "title": "Best", "image_url": "http://x"}],
        },
    )
    assert issues(client.get("/team/99")) == [("path team", "not_found")]


def test_rename(community: Community, as_: As) -> None:
    team = community.team("Red")
    bot = as_(community.bot(Permission.MANAGE_TEAMS))
    body = bot("PATCH", f"/team/{team}", {"name": "Blue"}).get_json()
    assert body == bot("GET", f"/team/{team}").get_json()
    assert body["name"] == "Blue"
    assert bot("GET", "/teams/search?q=BLU").get_json()["results"] == 1
    assert bot("GET", "/teams/search?q=red").get_json()["results"] == 0


def test_delete(community: Community, as_: As) -> None:
    red, blue = community.team("Red"), community.team("Blue")
    own = Permission.MANAGE_OWN_TEAM
    community.account(10, red, own | Permission.MANAGE_AWARDS)
    community.account(11, blue, own)
    award = community.award(red, 10)
    response = as_(community.bot(Permission.MANAGE_TEAMS))("DELETE", f"/team/{red}")
    assert (response.status_code, response.data) == (204, b"")
    client = as_(None)
    ann = client("GET", "/account/10").get_json()
    assert (ann["team"], ann["permissions"]) == (None, 64)
    assert [given["id"] for given in ann["awards"]] == [award]
    assert client("GET", f"/award/{award}").get_json()["team"] is None
    assert client("GET", "/account/11").get_json()["permissions"] == 32
    assert issues(client("GET", f"/team/{red}")) == [("path team", "not_found")]


def test_ids_are_never_used_again(community: Community, as_: As) -> None:
    bot = as_(community.bot(Permission.MANAGE_TEAMS))
    assert bot("POST", "/teams/new", {"name": "A"}).get_json()["id"] == 1
    assert bot("DELETE", "/team/1").status_code == 204
    assert bot("POST", "/teams/new", {"name": "B"}).get_json()["id"] == 2


def test_who_may_do_what(community: Community, as_: As) -> None:
    red, blue = community.team("Red"), community.team("Blue")
    refused = {
        "bot": community.bot(APP_PERMISSIONS & ~Permission.MANAGE_TEAMS),
        "member": community.user(10, ACCOUNT_PERMISSIONS & ~Permission.MANAGE_TEAMS, blue),
        "teammate": community.user(11, NO_TEAM_PERMISSIONS, red),
        "nowhere": community.user(12, Permission.MANAGE_OWN_TEAM),
    }
    before = community.dump()
    for auth in refused.values():
        assert refusal(as_(auth)("POST", "/teams/new", {"name": "X"})) == 403
        assert refusal(as_(auth)("PATCH", f"/team/{red}", {"name": "X"})) == 403
        assert refusal(as_(auth)("DELETE", f"/team/{red}")) == 403
    for method, path in (("POST", "/teams/new"), ("PATCH", f"/team/{red}")):
        assert refusal(as_(None)(method, path, {"name": "X"})) == 401
    assert refusal(as_(None)("DELETE", f"/team/{red}")) == 401
    assert community.dump() == before

    owner = as_(community.user(13, Permission.MANAGE_OWN_TEAM, red))
    assert owner("PATCH", f"/team/{red}", {"name": "Ours"}).get_json()["name"] == "Ours"
    assert owner("DELETE", f"/team/{red}").status_code == 204
    assert refusal(owner("DELETE", f"/team/{blue}")) == 403


NO_TEAM_PERMISSIONS = ACCOUNT_PERMISSIONS & ~Permission.MANAGE_TEAMS & ~Permission.MANAGE_OWN_TEAM
