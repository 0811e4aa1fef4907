"""The standings, the list of awards, and the points of awards."""

from typing import Any

import pytest
from sqlalchemy import delete, null

from database import db, transaction
from models import Account, Award, Team
from permissions import Permission
from tests.support.community import As, Caller, Community, issue, issues, refusal

AWARD = {"title": "First", "image_url": "https://x/1.png"}


@pytest.fixture
def bot(community: Community, as_: As) -> Caller:
    """Return an app that may do everything that these tests need."""
    rights = Permission.MANAGE_AWARDS | Permission.MANAGE_TEAMS | Permission.MANAGE_ACCOUNT_DETAILS
    return as_(community.bot(rights))


def ranks(caller: Caller, query: str = "") -> list[tuple[int, int, int, str]]:
    """Return the standings, a row for each team."""
    data = caller("GET", f"/standings{query}").get_json()["data"]
    return [(row["rank"], row["points"], row["awards"], row["team"]["name"]) for row in data]


def test_standings(bot: Caller, community: Community) -> None:
    assert bot("GET", "/standings").get_json() == {
        "page": 0,
        "per_page": 20,
        "pages": 0,
        "results": 0,
        "data": [],
    }
    teams = {name: community.team(name) for name in ("zebra", "Élan", "blue", "amber", "Amber")}
    for name, points in (("zebra", 5), ("blue", 2), ("blue", 3), ("Élan", 5), ("amber", 0)):
        body = AWARD | {"team": teams[name], "accounts": [], "points": points}
        assert bot("POST", "/awards/new", body).status_code == 201
    community.award(None, points=1000)
    expected = [
        (1, 5, 2, "blue"),
        (1, 5, 1, "zebra"),
        (1, 5, 1, "Élan"),
        (4, 0, 1, "amber"),
        (4, 0, 0, "Amber"),
    ]
    assert ranks(bot) == expected
    for size in (1, 2, 3):
        pages = [ranks(bot, f"?per_page={size}&page={page}") for page in range(6)]
        assert [row for page in pages for row in page] == expected
    first = bot("GET", "/standings?per_page=2").get_json()
    team = bot("GET", f"/team/{teams['blue']}").get_json()
    assert first["data"][0] == {"rank": 1, "points": 5, "awards": 2, "team": team}
    assert (first["pages"], first["results"]) == (3, 5)
    assert bot("GET", f"/standings?page={2**63 - 1}").get_json()["data"] == []
    response = bot("GET", "/standings?page=-1&per_page=0&q=x")
    assert issues(response) == [
        issue("query page", "invalid"),
        issue("query per_page", "invalid"),
    ]


def test_points_follow_the_awards(bot: Caller, community: Community) -> None:
    red, blue = community.team("Red"), community.team("Blue")
    award = AWARD | {"team": red, "accounts": []}
    one = bot("POST", "/awards/new", award).get_json()["id"]
    ten = bot("POST", "/awards/new", award | {"points": 10}).get_json()["id"]
    assert ranks(bot) == [(1, 11, 2, "Red"), (2, 0, 0, "Blue")]
    bot("PATCH", f"/award/{ten}", {"team": blue})
    assert ranks(bot) == [(1, 10, 1, "Blue"), (2, 1, 1, "Red")]
    bot("PATCH", f"/award/{one}", {"points": 1000, "title": "Best"})
    assert ranks(bot) == [(1, 1000, 1, "Red"), (2, 10, 1, "Blue")]
    bot("PATCH", f"/award/{one}", {"points": 0, "team": blue})
    assert ranks(bot) == [(1, 10, 2, "Blue"), (2, 0, 0, "Red")]
    bot("DELETE", f"/award/{ten}")
    assert ranks(bot) == [(1, 0, 1, "Blue"), (1, 0, 0, "Red")]
    bot("DELETE", f"/team/{blue}")
    assert ranks(bot) == [(1, 0, 0, "Red")]
    listed = bot("GET", "/awards/search").get_json()["data"]
    assert [(row["award"]["id"], row["team"], row["points"]) for row in listed] == [(one, None, 0)]


@pytest.mark.parametrize("points", [-1, 1001, "5", 1.5, True])
def test_bad_points(bot: Caller, community: Community, points: Any) -> None:
    award = community.award(community.team())
    body = AWARD | {"team": 1, "accounts": [], "points": points}
    for response in (
        bot("POST", "/awards/new", body),
        bot("PATCH", f"/award/{award}", {"points": points}),
    ):
        assert issues(response) == [issue("body points", "invalid")]
    assert ranks(bot) == [(1, 1, 1, "Red")]


def test_who_may_not_set_points(community: Community, as_: As) -> None:
    award = community.award(community.team())
    assert refusal(as_(community.user(10))("PATCH", f"/award/{award}", {"points": 5})) == 403
    assert refusal(as_(None)("PATCH", f"/award/{award}", {"points": 5})) == 401


def test_searching_awards(bot: Caller, community: Community) -> None:
    red, blue = community.team("Red"), community.team("Blue")
    community.account(10, red)
    community.account(11)
    titles = ("Straße", "elan", "Élan", "100 %")
    first, second, third, fourth = (
        community.award(team, *holders, title=title, created_at=moment)
        for title, team, holders, moment in zip(
            titles,
            (red, blue, None, red),
            ((10, 11), (10,), (), ()),
            (1.5, 2.0, null(), 4),
            strict=True,
        )
    )
    answer = bot("GET", "/awards/search").get_json()
    assert [row["award"]["id"] for row in answer["data"]] == [fourth, second, first, third]
    assert answer["data"][2] == {
        "award": {"id": first, "title": "Straße", "image_url": "https://example.com/1.png"},
        "team": bot("GET", f"/team/{red}").get_json(),
        "points": 1,
        "created_at": 1.5,
        "holders": 2,
    }
    assert answer["data"][3]["team"] is answer["data"][3]["created_at"] is None
    for query, found in {
        "q=STRASSE": [first],
        "q=%C3%89LAN": [third],
        "q=%25": [fourth],
        f"team={red}": [fourth, first],
        "account=10": [second, first],
        f"account=10&team={blue}": [second],
        f"account=11&team={blue}": [],
        "q=a&account=11": [first],
        "per_page=1&page=3": [third],
    }.items():
        answer = bot("GET", f"/awards/search?{query}").get_json()
        assert [row["award"]["id"] for row in answer["data"]] == found, query
    response = bot("GET", f"/awards/search?team=99&account=98&page=x&q={'x' * 256}")
    assert issues(response) == [
        issue("query account", "not_found"),
        issue("query page", "invalid"),
        issue("query q", "too_long"),
        issue("query team", "not_found"),
    ]


def test_holders_are_counted(bot: Caller, community: Community) -> None:
    """However an award is given or taken."""

    def holders() -> list[int]:
        return [row["holders"] for row in bot("GET", "/awards/search").get_json()["data"]]

    red = community.team()
    for key in (10, 11, 12):
        community.account(key)
    bot("POST", "/awards/new", AWARD | {"team": red, "accounts": [10, 11, 10]})
    bot("POST", "/awards/new", AWARD | {"team": red, "accounts": [10]})
    assert holders() == [2, 1]
    bot("PUT", "/account/12/award/2")
    bot("PUT", "/account/12/award/2")
    bot("DELETE", "/account/11/award/1")
    assert holders() == [1, 2]
    bot("DELETE", "/account/10")
    assert holders() == [0, 1]


def test_the_counts_of_rows_that_change_together(community: Community) -> None:
    """One statement may change many awards or many accounts."""
    teams = [community.team(name) for name in ("Red", "Blue")]
    for key in (10, 11):
        community.account(key)
    for points in (1, 2, 3):
        community.award(teams[0], 10, 11, points=points)
    with community.app.app_context(), transaction(write=True):
        db.session.execute(db.update(Award).where(Award.points > 1).values(team_id=teams[1]))
        db.session.execute(db.update(Award).values(points=Award.points * 2))
        db.session.execute(delete(Account).where(Account.id == 10))
    with community.app.app_context(), transaction(write=False):
        found = db.session.execute(db.select(Team.points, Team.award_count).order_by(Team.id)).all()
        assert [tuple(row) for row in found] == [(2, 1), (10, 2)]
        assert db.session.scalars(db.select(Award.holder_count)).all() == [1, 1, 1]
