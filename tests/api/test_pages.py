"""The pages for people, as a browser gets them."""

import random
import re
from collections.abc import Callable, Sequence
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update

from database import connection, transaction
from models import Account, Award, Awardee, now
from pages import charts, queries, text, views
from permissions import Permission
from tests.api.test_statements import counted
from tests.support.community import Community, refusal

DAY = 86400
PAGES = [
    "/",
    "/teams",
    "/teams/1",
    "/teams/1/awards",
    "/members/10",
    "/awards",
    "/awards/1",
    "/search",
    "/search?q=e",
    "/numbers",
]
"""A page of each kind; `small` makes the records that they show."""

HOSTILE = {
    "markup": "<script>alert(1)</script><b>&amp;",
    "attribute": "\" onload='alert(1)' x=\"",
    "template": "{{ 7 * 7 }}{% raw %}",
    "long": "W" * 255,
    "long words": "ab " * 85,
    "override": "x\u202egnp.exe",
    "pop": "\u2069\u2069\u202epop\u202c\u202c",
    "zero-width": "\u200b\u200d\ufeff",
    "filler": "\u3164",
    "space": "\u2003\u00a0",
    "emoji": "👨\u200d👩\u200d👧\u200d👦🏳️\u200d🌈🇩🇪",
    "Arabic": "فريق النجوم",
    "marks": "Z" + "\u0336\u0351" * 100,
    "symbols": "_-*",
}


@pytest.fixture
def small(community: Community) -> Community:
    """Make a community of a team, a member and her award."""
    team = community.team("Red")
    community.account(10, team, name="Ann", avatar_url="https://example.com/ann.png")
    community.award(team, 10, title="First", points=3)
    return community


def show(client: FlaskClient, path: str) -> str:
    """Return a page."""
    response = client.get(path)
    assert (response.status_code, response.mimetype) == (200, "text/html"), response.text
    return response.text


def tag(html: str, name: str) -> str | None:
    """Return the content of a meta tag."""
    found = re.search(rf'<meta (?:property|name)="{name}" content="([^"]*)">', html)
    return unescape(found[1]) if found else None


class Parsed(HTMLParser):
    """The names of the elements and attributes of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(html)

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.names.add(name)
        self.attributes |= {attribute for attribute, _ in attributes}


def ids(html: str, kind: str) -> list[str]:
    """Return the ids of the records that a page names, in their order."""
    return re.findall(rf'<a class="who" href="/{kind}/(\d+)">', html)


def stats(html: str) -> dict[str, str]:
    """Return the figures at the top of a page."""
    found = re.findall(r"<dt>(.*?)</dt><dd[^>]*>(.*?)</dd>", html, re.DOTALL)
    return {name: re.sub(r"(<[^>]*>|\s)+", " ", value).strip() for name, value in found}


def rows(html: str) -> list[list[str]]:
    """Return the cells of the rows of the page's tables, but for empty ones."""
    found = []
    for row in re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL):
        cells = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL)
        words = [re.sub(r"<[^>]*>", "", cell).strip() for cell in cells]
        found.append([word.replace(",", "") for word in words if word])
    return found


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.usefixtures("small")
def test_pages(client: FlaskClient, path: str) -> None:
    plain = client.get(path)
    assert (plain.status_code, plain.mimetype) == (200, "text/html")
    assert plain.headers["Cache-Control"] == "public, max-age=30"
    policy = plain.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self' https:; ")
    assert "script" not in policy
    assert "<script" not in plain.text
    assert " style=" not in plain.text
    assert plain.text.count("<h1") == 1
    for headers in ({"Accept": "application/json"}, {"Accept": "*/*"}, {"Range": "bytes=99-"}):
        assert client.get(path, headers=headers).data == plain.data
    head = client.head(path)
    assert (head.status_code, head.data) == (200, b"")
    assert head.headers["Content-Length"] == str(len(plain.data))


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/docs", "text/html"),
        ("/docs/api", "text/html"),
        ("/docs/callbacks", "text/html"),
        ("/pages/docs.js", "text/javascript"),
        ("/pages/style.css", "text/css"),
        ("/pages/preview.png", "image/png"),
        ("/pages/badges/trophy.svg", "image/svg+xml"),
        ("/pages/swagger-ui/swagger-ui-bundle.js", "text/javascript"),
    ],
)
def test_files(client: FlaskClient, path: str, kind: str) -> None:
    for headers in ({}, {"If-Match": '"x"'}, {"Range": "bytes=9999999-"}):
        response = client.get(path, headers=headers)
        assert (response.status_code, response.mimetype) == (200, kind)
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        response.close()


@pytest.mark.parametrize(
    "path",
    [
        "/docs/",
        "/docs/performance",
        "/pages/",
        "/pages/none",
        "/pages/../app.py",
        "/pages/%2e%2e/app.py",
        "/pages/swagger-ui/",
    ],
)
def test_nothing_else(client: FlaskClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404
    assert set(response.get_json()) == {"detail"}


def test_guides_are_whole_and_lead_on(client: FlaskClient) -> None:
    """No Markdown is left, and each link leads to a guide, a heading or another site."""
    pages = {path: client.get(path).text for path in ("/docs/api", "/docs/callbacks")}
    ids = {path: set(re.findall(r'<h\d id="(.+?)">', page)) for path, page in pages.items()}
    assert {"three-surprises", "permissions"} <= ids["/docs/api"]
    for here, page in pages.items():
        assert page.count("<h1 ") == 1
        text = re.sub("<pre>.*?</pre>", "", page, flags=re.DOTALL)
        assert not re.search(r"```|\]\(|^\||&lt;/", text, re.MULTILINE)
        for link in re.findall(r'<a href="(.+?)"', text):
            path, _, fragment = link.partition("#")
            if not path.startswith("https://") and path != "/docs":
                assert not fragment or fragment in ids[path or here], link
                assert path in {"", *pages}


@pytest.mark.parametrize(
    "path",
    [
        "/teams/2",
        "/teams/0",
        "/teams/-1",
        "/teams/01",
        "/teams/1.5",
        "/teams/١",
        f"/teams/{2**63}",
        f"/teams/{'9' * 400}",
        "/teams/red",
        "/teams/",
        "/teams/1/members",
        "/teams/2/awards",
        "/members",
        "/members/11",
        "/members/%00",
        "/members/10/",
        "/awards/2",
        "/awards/x",
        "/search/x",
        "/numbers/",
    ],
)
@pytest.mark.usefixtures("small")
def test_not_found(client: FlaskClient, path: str) -> None:
    """It helps people on; a program that asks for anything else gets the usual error."""
    response = client.get(path)
    assert (response.status_code, response.mimetype) == (404, "text/html")
    assert response.headers["Cache-Control"] == "public, max-age=30"
    assert "Not found" in response.text
    assert '<form class="search large" action="/search"' in response.text
    assert refusal(client.delete(path)) in {404, 405}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/team/1", 200),
        ("GET", "/teams/search", 200),
        ("GET", "/awards/search", 200),
        ("GET", "/award/1", 200),
        ("GET", "/teams/new", 405),
        ("GET", "/awards/new", 405),
        ("POST", "/teams/1", 405),
        ("POST", "/", 405),
        ("GET", "/team", 404),
        ("GET", "/team/1/", 404),
        ("GET", "/nothing", 404),
    ],
)
@pytest.mark.usefixtures("small")
def test_what_is_the_api_s(client: FlaskClient, method: str, path: str, status: int) -> None:
    for accept in ("text/html", "application/json"):
        response = client.open(path, method=method, headers={"Accept": accept})
        assert (response.status_code, response.content_type) == (status, "application/json")


def test_no_page_is_a_path_of_the_api(shared_app: Flask) -> None:
    rules = list(shared_app.url_map.iter_rules())
    pages = {rule.rule for rule in rules if rule.endpoint.startswith("pages.")}
    others = {rule.rule for rule in rules if not rule.endpoint.startswith("pages.")}
    assert {"/", "/teams/<key:team_id>"} <= pages
    assert "/teams/search" in others
    assert pages.isdisjoint(others)


def test_pages_that_are_not_public(make_app: Callable[..., Flask]) -> None:
    client = make_app(public_pages=False).test_client()
    for path in PAGES[1:]:
        assert client.get(path).get_json().keys() == {"detail"}
        assert client.get(path).status_code == 404
    for path in ("/", "/docs", "/pages/style.css"):
        with client.get(path) as response:
            assert response.status_code == 200
            assert "style-src 'self'" in response.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "query",
    ["page=0", "page=-1", "page=x", "page=", "page=٣", "page=1e9", "page=999", f"page={'9' * 99}"],
)
@pytest.mark.usefixtures("small")
def test_pages_that_there_are_not(client: FlaskClient, query: str) -> None:
    for path in ("/", "/teams", "/teams/1", "/teams/1/awards", "/awards", "/awards/1"):
        assert show(client, f"{path}?{query}") == show(client, path)


@pytest.mark.parametrize(
    "q", ["%00", "a%00b", "%ff", "%ed%a0%80", "x" * 5000, "%", "_", "\\", "<b>", "%e2%80%ae", " "]
)
@pytest.mark.usefixtures("small")
def test_odd_searches(client: FlaskClient, q: str) -> None:
    assert "<b>" not in show(client, f"/search?q={q}")


def test_search(client: FlaskClient, community: Community) -> None:
    for number in range(1, 24):
        team = community.team(f"Straße {number:02}")
        community.account(number, team, name=f"100% STRASSE {number:02}")
        community.award(team, number, title=f"Straßenlauf {number:02}")
    community.team("Other")
    page = show(client, "/search?q=STRASSE")
    for kind in ("members", "teams", "awards"):
        assert ids(page, kind) == [str(number) for number in range(1, 21)]
    assert page.count("Only the first are shown.") == 3
    page = show(client, "/search?q=100%25+str")
    assert len(ids(page, "members")) == 20
    assert ids(page, "teams") == ids(page, "awards") == []
    assert 'value="100% str"' in page
    assert "Nothing found" in show(client, "/search?q=10_%25")
    for q in ("", "+"):
        page = show(client, f"/search?q={q}")
        assert "Nothing found" not in page
        assert ids(page, "teams") == []


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_hostile_names(client: FlaskClient, community: Community, name: str) -> None:
    team = community.team(name)
    community.account(10, team, name=name, avatar_url=f"https://example.com/{name[:99]}")
    community.award(team, 10, title=name, image_url="https://example.com/\"'><script>alert(1)")
    visible = name not in {HOSTILE["zero-width"], HOSTILE["filler"], HOSTILE["space"]}
    for path in PAGES[:7]:
        page = show(client, path)
        boxes = [unescape(box) for box in re.findall("<bdi>(.*?)</bdi>", page)]
        assert set(boxes) == {name if visible else "<i>invisible name</i>"}
        parsed = Parsed(page)
        assert parsed.names.isdisjoint({"script", "b"})
        assert not any(name.startswith("on") for name in parsed.attributes)
        title = tag(page, "og:title")
        assert title
        assert not set(title) & set("\u202e\u202c")
    assert show(client, "/numbers")
    client.get("/search", query_string={"q": name})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.com/a.png", True),
        ("http://localhost/pages/badges/star.svg", True),
        ("http://example.com/a.png", False),
        ("javascript:alert(1)", False),
        (None, False),
    ],
)
def test_pictures(client: FlaskClient, community: Community, url: str | None, shown: bool) -> None:
    """A picture that the policy forbids is not asked for: initials take its place."""
    community.account(10, name="Ann Bee", avatar_url=url)
    page = show(client, "/members/10")
    picture = f'<img src="{url}" alt="AB" loading="lazy">' if shown else "AB"
    assert f'<span class="pic c10 member big" aria-hidden="true">{picture}</span>' in page


PREVIEWS = {
    "/": ("Standings", "Red leads. 2 teams, 1 member, 1 award.", None),
    "/teams": ("Teams", "2 teams, by name.", None),
    "/teams/1": ("Red", "1st of 2 teams with 3 points: 1 award, 1 member.", None),
    "/teams/1/awards": ("Awards of Red", "1 award, worth 3 points together.", None),
    "/members/10": ("Ann", "In the team Red, with 1 award.", "https://example.com/ann.png"),
    "/awards": ("Awards", "1 award so far.", None),
    "/awards/1": ("First", "3 points for Red, held by 1 member.", "https://example.com/1.png"),
    "/search": ("Search", "Find a member, a team or an award.", None),
    "/numbers": ("Numbers", "1 member in 2 teams.", None),
}


@pytest.mark.parametrize("path", PREVIEWS)
def test_previews(make_app: Callable[..., Flask], path: str) -> None:
    title, description, picture = PREVIEWS[path]
    for settings, ours in (
        ({}, None),
        ({"public_url": "http://a.example"}, None),
        ({"public_url": "https://a.example"}, "https://a.example/pages/preview.png"),
    ):
        app = make_app(community_name="Games & Co", **settings)
        if not settings:
            community = Community(app)
            team = community.team("Red")
            community.team("Blue")
            community.account(10, team, name="Ann", avatar_url="https://example.com/ann.png")
            community.award(team, 10, title="First", points=3)
        page = show(app.test_client(), path)
        assert f"<title>{title} · Games &amp; Co</title>" in page
        assert tag(page, "og:site_name") == "Games & Co"
        assert tag(page, "og:title") == title
        assert tag(page, "og:description") == tag(page, "description") == description
        assert tag(page, "og:image") == picture or ours
        url = settings.get("public_url")
        assert tag(page, "og:url") == (f"{url}{path}" if url else None)


def test_a_picture_for_previews_is_https_or_absent(
    client: FlaskClient, community: Community
) -> None:
    community.award(image_url="http://example.com/1.png")
    assert tag(show(client, "/awards/1"), "og:image") is None


def test_own_style(make_app: Callable[..., Flask], tmp_path: Path) -> None:
    app = make_app()
    app.instance_path = str(tmp_path)
    client = app.test_client()
    assert "own.css" not in show(client, "/teams")
    assert client.get("/pages/own.css").status_code == 404
    (tmp_path / "style.css").write_text(":root { --accent: #906; }")
    page = show(client, "/teams")
    assert page.index("/pages/style.css") < page.index(
        '<link rel="stylesheet" href="/pages/own.css">'
    )
    with client.get("/pages/own.css") as response:
        assert (response.mimetype, response.data) == ("text/css", b":root { --accent: #906; }")


def test_nobody_is_here_yet(client: FlaskClient) -> None:
    for path in ("/", "/teams"):
        assert "No teams yet" in show(client, path)
    assert "No awards yet" in show(client, "/awards")
    page = show(client, "/numbers")
    for words in ("No members yet", "No awards were given", "No teams yet"):
        assert words in page


def test_little_is_here_yet(client: FlaskClient, community: Community) -> None:
    community.team("Red")
    community.account(10)
    community.award()
    assert "The race" not in show(client, "/")
    assert stats(show(client, "/members/10"))["Team"] == "none"
    assert "Nobody holds this award yet" in show(client, "/awards/1")
    page = show(client, "/teams/1")
    for words in ("No awards yet", "Nobody is in this team yet"):
        assert words in page
    assert stats(page) == {"Rank": "1 of 1", "Points": "0", "Awards": "0", "Members": "0"}


def fill(community: Community, seed: int) -> None:
    """Make a random community, some of whose times are unknown."""
    chance = random.Random(seed)  # noqa: S311 - no secrets
    teams = [community.team(f"Team {chance.randint(1, 20)}") for _ in range(30)]
    for key in range(1, 91):
        community.account(
            key, chance.choice([*teams[:3], *teams, None]), name=f"M {chance.randint(1, 50)}"
        )
    everybody = range(1, 91)
    for _ in range(70):
        holders = chance.sample(everybody, chance.choice([0, 1, 5, 40]))
        points = chance.choice([0, 1, 5, 1000])
        team = chance.choice([*teams[:2], *teams, None])
        title = f"A {chance.randint(1, 30)}"
        community.award(team, *holders, title=title, points=points)
    end = now()
    with community.app.app_context(), transaction(write=True):
        for key in everybody:
            joined = end - chance.random() * 400 * DAY
            statement = update(Account).where(Account.id == key).values(created_at=joined)
            connection().execute(statement)
        for key in range(1, 71):
            made = chance.choice([None, end - chance.random() * 90 * DAY])
            connection().execute(update(Award).where(Award.id == key).values(created_at=made))
            held = update(Awardee).where(Awardee.award_id == key)
            connection().execute(held.values(given_at=made))


def everything(client: FlaskClient, path: str, kind: str) -> list[str]:
    """Return the ids of the records on all pages of a list, in their order."""
    first = show(client, path)
    found = re.search(r"Page 1 of (\d+) ", first)
    number = int(found[1]) if found else 1
    pages = [show(client, f"{path}?page={page}") for page in range(1, number + 1)]
    return [key for page in pages for key in ids(page.split("<main")[1], kind)]


@pytest.mark.parametrize("seed", [1, 2])
def test_figures_are_those_of_the_api(
    client: FlaskClient, community: Community, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(community, seed)
    monkeypatch.setattr(queries, "MANY", 20)

    def api(path: str) -> Any:
        return client.get(path).get_json()

    standings = api("/standings?per_page=1000")["data"]
    accounts = api("/accounts/search?per_page=1000")["data"]
    awards = api("/awards/search?per_page=1000")["data"]
    ranks = {str(one["team"]["id"]): one for one in standings}
    assert everything(client, "/", "teams") == list(ranks)
    assert everything(client, "/teams", "teams") == [
        str(team["id"]) for team in api("/teams/search?per_page=1000")["data"]
    ]
    assert sorted(everything(client, "/awards", "awards"), key=int) == sorted(
        (str(one["award"]["id"]) for one in awards), key=int
    )
    shown = [
        row for page in (1, 2) for row in rows(show(client, f"/?page={page}")) if len(row) == 5
    ]
    assert [[row[0], *row[2:]] for row in shown if row[0] != "#"] == [
        [str(one[key]) for key in ("rank", "points", "awards")] + [str(one["team"]["member_count"])]
        for one in standings
    ]
    for key, one in ranks.items():
        assert stats(show(client, f"/teams/{key}")) == {
            "Rank": f"{one['rank']} of {len(ranks)}",
            "Points": f"{one['points']:,}",
            "Awards": str(one["awards"]),
            "Members": str(one["team"]["member_count"]),
        }
    for key in ("1", "2", "30"):
        members = api(f"/accounts/search?team={key}&per_page=1000")["data"]
        assert everything(client, f"/teams/{key}", "members") == [one["id"] for one in members]
        own = {str(one["id"]) for one in ranks[key]["team"]["awards"]}
        assert set(everything(client, f"/teams/{key}/awards", "awards")) == own
    for account in accounts[::9]:
        path = f"/members/{account['id']}"
        own = {str(award["id"]) for award in account["awards"]}
        assert set(everything(client, path, "awards")) == own
        assert stats(show(client, path))["Awards"] == str(len(own))
    for one in awards:
        key = one["award"]["id"]
        holders = [account["id"] for account in api(f"/award/{key}")["awardees"]]
        assert everything(client, f"/awards/{key}", "members") == holders
        figures = stats(show(client, f"/awards/{key}"))
        assert figures["Worth"].split()[0] == f"{one['points']:,}"
        assert figures["Held by"].split()[0] == str(one["holders"])
    check_charts(client, standings, accounts, awards)


def check_charts(
    client: FlaskClient,
    standings: Sequence[Any],
    accounts: Sequence[Any],
    awards: Sequence[Any],
) -> None:
    """Compare the tables under the charts with the API."""
    last = rows(show(client, "/"))[-1]
    assert last[1:] == [str(one["points"]) for one in standings[: views.LEADERS]]
    page = show(client, "/numbers")
    assert stats(page) == {
        "Teams": str(len(standings)),
        "Members": str(len(accounts)),
        "Awards": str(len(awards)),
    }
    members, given, teams = (
        rows(table) for table in re.findall("<table.*?</table>", page, re.DOTALL)
    )
    assert members[-1][1] == str(len(accounts))
    counts = sorted((one["team"]["member_count"] for one in standings), reverse=True)
    assert [int(row[1]) for row in teams[1 : views.LARGEST + 1]] == counts[: views.LARGEST]
    others = sum(counts[views.LARGEST :])
    assert teams[-2] == [f"{len(standings) - views.LARGEST} other teams", str(others)]
    assert teams[-1] == ["In no team", str(len(accounts) - sum(counts))]
    known = sum(one["holders"] for one in awards if one["created_at"] is not None)
    assert sum(int(row[1]) for row in given[1:]) == known


def test_numbers_are_kept_until_something_changes(
    client: FlaskClient, community: Community, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = community.bot(Permission.MANAGE_TEAMS)
    before = show(client, "/numbers")
    assert show(client, "/numbers") == before
    client.post("/teams/new", json={"name": "Red"}, auth=auth)
    after = show(client, "/numbers")
    assert "Red" in after
    client.patch("/team/1", json={"name": "Blue"}, auth=auth)
    assert "Blue" in show(client, "/numbers")
    assert "Blue" in show(client, "/teams/1")
    with community.app.app_context(), transaction(write=True):
        connection().exec_driver_sql("UPDATE teams SET name = 'Green'")
    assert "Blue" in show(client, "/numbers")
    assert "Green" in show(client, "/teams/1")
    monkeypatch.setattr(views, "now", lambda: now() + views.KEPT)
    assert "Green" in show(client, "/numbers")


def test_pages_are_remembered_within_bounds(client: FlaskClient) -> None:
    for number in range(3 * views.MOST_SHOWN):
        show(client, f"/teams?x={number}")
    assert len(client.application.extensions["shown_pages"]) <= views.MOST_SHOWN


@pytest.mark.sqlite
@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("path", PAGES)
def test_statements(community: Community, client: FlaskClient, path: str, seed: int) -> None:
    """A page takes as many statements for many records as for few, and at most five."""
    if seed:
        fill(community, seed)
        community.account(100, 1)
    else:
        team = community.team()
        community.award(team, community.account(10, team))
    with counted(community) as statements:
        show(client, path)
    most = {"/": 4, "/teams": 2, "/awards": 2, "/search": 0, "/numbers": 5}
    most |= {"/teams/1": 3, "/search?q=e": 3}
    assert len(statements) == most.get(path, 2), statements


@pytest.mark.sqlite
def test_lists_use_their_indexes(community: Community) -> None:
    """Nothing that grows with the members is sorted, and no long list is scanned."""
    with community.app.app_context(), transaction(write=False):
        for statement in (
            queries.STANDINGS,
            queries.TEAMS,
            queries.TEAM_MEMBERS,
            queries.AWARDS,
            queries.MANY_HOLDERS,
        ):
            sql, values = statement._compile(connection().dialect)  # noqa: SLF001 - as it is sent
            values |= {"id": 1, "size": 20, "offset": 0}
            plan = connection().connection.driver_connection.execute(  # type: ignore[union-attr]
                f"EXPLAIN QUERY PLAN {sql}", values
            )
            details = [row[3] for row in plan]
            assert "USE TEMP B-TREE FOR ORDER BY" not in details
            assert " USING INDEX " in details[0]


@pytest.mark.parametrize(
    ("number", "values"),
    [
        (0, [0, 1]),
        (1, [0, 1]),
        (7, [0, 2, 4, 6]),
        (26, [0, 10, 20]),
        (412, [0, 100, 200, 300, 400]),
        (100_000, [0, 20_000, 40_000, 60_000, 80_000, 100_000]),
    ],
)
def test_axes(number: int, values: list[int]) -> None:
    chart = charts.lines({1: "Red"}, [(1, 5, number)], 5)
    assert [tick.value for tick in chart.ticks] == values


@pytest.mark.parametrize("days", [0, 1, 24, 25, 100, 400, 20_000, 400_000])
def test_days(days: int) -> None:
    """However long the time, a line has few points, the last of them today."""
    chart = charts.lines({1: "Red"}, [(1, 0, 2), (1, None, 1)], days)
    assert 2 <= len(chart.points) <= charts.MOST_POINTS + 1
    assert chart.points[-1] == days
    assert (chart.lines[0].values[0], chart.lines[0].values[-1]) == (1, 3)
    assert len(chart.days) <= 5


def test_names_at_the_ends_of_lines_are_apart() -> None:
    chart = charts.lines(dict.fromkeys(range(5), "Red"), [(key, 0, 9) for key in range(5)], 9)
    places = [line.label for line in chart.lines]
    assert all(after - before >= charts.LABEL_HEIGHT for before, after in pairwise(places))
    assert 0 < places[0] < places[-1] < charts.HEIGHT


@pytest.mark.parametrize(
    ("past", "words"),
    [(5, "just now"), (60, "1 minute ago"), (7200, "2 hours ago"), (2 * DAY, "2 days ago")],
)
def test_times(past: int, words: str) -> None:
    assert f">{words}</time>" in text.when(now() - past)
    assert text.when(86400.0 * 59).endswith(">1 Mar 1970</time>")
    assert text.when(None) == ""


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (1, "1st"),
        (2, "2nd"),
        (3, "3rd"),
        (4, "4th"),
        (11, "11th"),
        (112, "112th"),
        (1023, "1,023rd"),
    ],
)
def test_ordinals(number: int, words: str) -> None:
    assert text.ordinal(number) == words
