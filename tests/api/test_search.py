"""Lists: pages, order and search."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from database import db, transaction
from models import Account
from tests.support.community import Community, answer, issues


def names(client: FlaskClient, path: str, **query: Any) -> list[str]:
    """Return the names that a search finds, in order."""
    response = client.get(path, query_string=query)
    assert response.status_code == 200, response.text
    body = response.get_json()
    assert body["results"] >= len(body["data"])
    return [record["name"] for record in body["data"]]


def test_empty(client: FlaskClient) -> None:
    nothing = {"page": 0, "per_page": 20, "pages": 0, "results": 0, "data": []}
    for path in ("/accounts/search", "/teams/search?", "/teams/search?q=&unknown=1"):
        assert answer(client.get(path)) == (200, nothing)


@pytest.mark.parametrize("resource", ["accounts", "teams"])
def test_pages(community: Community, client: FlaskClient, resource: str) -> None:
    for number in range(1, 8):
        name = "same" if number < 6 else "Ab"
        if resource == "accounts":
            community.account(number * 10**17, name=name)
        else:
            community.team(name)
    path = f"/{resource}/search"
    whole = client.get(path).get_json()
    assert (whole["page"], whole["per_page"], whole["pages"], whole["results"]) == (0, 20, 1, 7)
    ids = [int(record["id"]) for record in whole["data"]]
    unit = 10**17 if resource == "accounts" else 1
    assert ids == [n * unit for n in (6, 7, 1, 2, 3, 4, 5)]
    pages = [client.get(path, query_string={"page": n, "per_page": 3}).get_json() for n in range(4)]
    assert [page["page"] for page in pages] == [0, 1, 2, 3]
    assert {(page["per_page"], page["pages"], page["results"]) for page in pages} == {(3, 3, 7)}
    assert [record for page in pages for record in page["data"]] == whole["data"]
    assert [len(page["data"]) for page in pages] == [3, 3, 1, 0]


def test_order_is_by_name_without_case_then_by_id_as_a_number(
    community: Community, client: FlaskClient
) -> None:
    for key, name in ((9, "b"), (10, "B"), (2, "ä"), (3, "Ä"), (11, "a"), (12, "C")):
        community.account(key, name=name)
    data = client.get("/accounts/search").get_json()["data"]
    assert [record["id"] for record in data] == ["11", "9", "10", "12", "2", "3"]


@pytest.mark.parametrize("page", [1, 10**6, 2**62, 2**63 - 1])
@pytest.mark.parametrize("per_page", [1, 1000])
def test_far_pages_are_empty(
    community: Community, client: FlaskClient, page: int, per_page: int
) -> None:
    community.account(10)
    response = client.get("/accounts/search", query_string={"page": page, "per_page": per_page})
    assert answer(response) == (
        200,
        {"page": page, "per_page": per_page, "pages": 1, "results": 1, "data": []},
    )


@pytest.mark.parametrize(
    ("name", "query", "found"),
    [
        ("Élodie", "ÉLO", True),
        ("Straße", "strasse", True),
        ("STRASSE", "straße", True),
        ("ΣΊΣΥΦΟΣ", "σίσυφος", True),
        ("Лавр", "лАВР", True),
        ("Ａｎｎ", "ann", True),  # full width
        ("ann", "Ａ", True),
        ("e\N{COMBINING ACUTE ACCENT}lan", "ÉLAN", True),
        ("ﬁn", "FIN", True),  # a ligature
        ("月桂冠", "桂", True),
        ("Ann", "nn", True),
        ("Ann", "b", False),
        ("100%", "%", True),
        ("100", "%", False),
        ("a_b", "_", True),
        ("ab", "_", False),
        ("a\\b", "\\", True),
        ("ab", "\\", False),
        ("a/b", "/", True),
        ("ab", "/", False),
        ("a b", " ", True),
        ("ann", "x" * 255, False),
        ("\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}" * 255, "الله", True),
        ("a'b\"c;--", "'b\"c;--", True),
    ],
)
def test_search(
    community: Community, client: FlaskClient, name: str, query: str, found: bool
) -> None:
    community.account(10, name=name)
    community.team(name)
    expected = [name] if found else []
    assert names(client, "/accounts/search", q=query) == expected
    assert names(client, "/teams/search", q=query) == expected


def test_search_in_a_team(community: Community, client: FlaskClient) -> None:
    red, blue = community.team("Red"), community.team("Blue")
    community.account(1, red, name="Ann")
    community.account(2, blue, name="Anna")
    community.account(3, red, name="Bob")
    assert names(client, "/accounts/search", team=red) == ["Ann", "Bob"]
    assert names(client, "/accounts/search", team=red, q="AN") == ["Ann"]
    assert names(client, "/accounts/search", q="AN") == ["Ann", "Anna"]


@pytest.mark.parametrize(
    ("query", "issue"),
    [
        ("page=-1", ("query page", "invalid")),
        ("page=1.0", ("query page", "invalid")),
        ("page=", ("query page", "invalid")),
        ("page=%2B1", ("query page", "invalid")),
        ("page=1_0", ("query page", "invalid")),
        ("page=%D9%A1", ("query page", "invalid")),
        (f"page={2**63}", ("query page", "invalid")),
        (f"page={10**30}", ("query page", "invalid")),
        ("per_page=0", ("query per_page", "invalid")),
        ("per_page=1001", ("query per_page", "invalid")),
        ("per_page=all", ("query per_page", "invalid")),
        ("q=%00", ("query q", "invalid")),
        ("q=a%ED%A0%80", ("query q", "invalid")),
        ("q=%FF", ("query q", "invalid")),
        ("q=" + "x" * 256, ("query q", "too_long")),
        ("team=0", ("query team", "invalid")),
        ("team=x", ("query team", "invalid")),
        ("team=9", ("query team", "not_found")),
    ],
)
def test_bad_queries(client: FlaskClient, query: str, issue: tuple[str, str]) -> None:
    assert issues(client.get(f"/accounts/search?{query}")) == [issue]
    if "team" not in query:
        assert issues(client.get(f"/teams/search?{query}")) == [issue]


def test_all_issues_of_a_query_come_together(client: FlaskClient) -> None:
    assert issues(client.get("/accounts/search?page=x&per_page=0&q=%00&team=5")) == [
        ("query page", "invalid"),
        ("query per_page", "invalid"),
        ("query q", "invalid"),
        ("query team", "not_found"),
    ]


def test_raw_bytes_in_a_query(client: FlaskClient) -> None:
    response = client.get("/teams/search", environ_overrides={"QUERY_STRING": "q=\xff"})
    assert issues(response) == [("query q", "invalid")]


def test_a_thousand_on_a_page(community: Community, client: FlaskClient) -> None:
    with community.app.app_context(), transaction(write=True):
        db.session.add_all(
            Account(id=key, name=f"user {key:04}", discriminator="0001") for key in range(1, 1002)
        )
    found = names(client, "/accounts/search", per_page=1000)
    assert found == [f"user {key:04}" for key in range(1, 1001)]
    assert names(client, "/accounts/search", per_page=1000, page=1) == ["user 1001"]
