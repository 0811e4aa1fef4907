"""The JSON that the database writes, compared with the schemas' for the same records."""

import json
from typing import Any

from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import null

import queries
from database import db, transaction
from models import MAX_ID, Account, Award, Awardee, Team, fold
from permissions import ACCOUNT_PERMISSIONS
from schemas import (
    AccountPageSchema,
    AccountSchema,
    AwardDetailsSchema,
    AwardPageSchema,
    AwardSchema,
    StandingsPageSchema,
    TeamPageSchema,
    TeamSchema,
)

Record = dict[str, Any]

IDS = [1, 2**53 + 1, 80351110224678912, MAX_ID]
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=255)
TIME = st.integers(0, 4 * 10**15).map(lambda microseconds: microseconds / 10**6)
TEAM = st.fixed_dictionaries({"name": TEXT, "created_at": TIME})
ACCOUNT = st.fixed_dictionaries(
    {
        "name": TEXT,
        "discriminator": st.from_regex("[0-9]{4}|0", fullmatch=True),
        "avatar_url": st.none() | TEXT,
        "team_id": st.sampled_from([None, 1, 2]),
        "permissions": st.integers(0, 127).map(lambda flags: flags & int(ACCOUNT_PERMISSIONS)),
        "created_at": TIME,
    }
)
AWARD = st.fixed_dictionaries(
    {
        "title": TEXT,
        "image_url": TEXT,
        "team_id": st.sampled_from([None, 1, 2]),
        "points": st.integers(0, 1000),
        "created_at": st.none() | TIME,
    }
)


@st.composite
def communities(draw: st.DrawFn) -> tuple[list[Record], list[Record], list[Record]]:
    """Draw two teams, four accounts, and awards with their holders."""
    accounts = [draw(ACCOUNT) | {"id": key} for key in IDS]
    teams = [draw(TEAM) | {"id": key} for key in (1, 2)]
    holders = st.sets(st.sampled_from(IDS))
    awards = [
        draw(AWARD) | {"id": key, "holders": draw(holders)}
        for key in range(1, draw(st.integers(0, 3)) + 1)
    ]
    return teams, accounts, awards


@given(communities())
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_database_writes_what_the_schemas_make(
    app: Flask, community: tuple[list[Record], list[Record], list[Record]]
) -> None:
    teams, accounts, awards = community
    with app.app_context():
        store(teams, accounts, awards)
        for team in teams:
            team["awards"] = [award for award in awards if award["team_id"] == team["id"]]
            team["member_count"] = sum(one["team_id"] == team["id"] for one in accounts)
        for account in accounts:
            account["awards"] = [award for award in awards if account["id"] in award["holders"]]
            account["team"] = of_id(teams, account["team_id"])
            assert read(queries.account(account["id"])) == AccountSchema().dump(account)
        for team in teams:
            assert read(queries.team(team["id"])) == TeamSchema().dump(team)
        for award in awards:
            holders = [one for one in accounts if one["id"] in award["holders"]]
            details = {
                "award": award,
                "awardees": by_name(holders),
                "team": of_id(teams, award["team_id"]),
            }
            assert read(queries.award(award["id"])) == AwardSchema().dump(award)
            shown = read(queries.award_details(award["id"]))
            assert shown == AwardDetailsSchema().dump(details)
        page: Record = {"q": "", "page": 0, "per_page": 3}
        shown = read(queries.account_page(**page))
        assert shown == AccountPageSchema().dump(page_of(accounts, page))
        shown = read(queries.account_page(**page, team=1))
        members = [account for account in accounts if account["team_id"] == 1]
        assert shown == AccountPageSchema().dump(page_of(members, page))
        named = page | {"q": accounts[0]["name"][:3]}
        found = [one for one in accounts if fold(named["q"]) in fold(one["name"])]
        shown = read(queries.account_page(**named))
        assert shown == AccountPageSchema().dump(page_of(found, page))
        shown = read(queries.team_page(**page))
        assert shown == TeamPageSchema().dump(page_of(teams, page))
        entries = [
            award
            | {"award": award, "name": award["title"], "holders": len(award["holders"])}
            | {"team": of_id(teams, award["team_id"])}
            for award in awards
        ]
        shown = read(queries.award_page(**page))
        assert shown == AwardPageSchema().dump(page_of(entries, page))
        ranked = [standing(team, awards) for team in by_name(teams)]
        ranked.sort(key=lambda one: -one["points"])
        for one in ranked:
            one["rank"] = 1 + sum(other["points"] > one["points"] for other in ranked)
        place = {"page": 0, "per_page": 20}
        shown = read(queries.standings(**place))
        assert shown == StandingsPageSchema().dump(counts_of(ranked, place) | {"data": ranked})


def standing(team: Record, awards: list[Record]) -> Record:
    """Return a team's standing, but for its rank."""
    won = [award["points"] for award in awards if award["team_id"] == team["id"]]
    return {"team": team, "points": sum(won), "awards": len(won)}


def store(teams: list[Record], accounts: list[Record], awards: list[Record]) -> None:
    """Replace the last community with another."""
    with transaction(write=True):
        for table in reversed(db.metadata.sorted_tables):
            db.session.execute(table.delete())
        db.session.add_all(Team(**team) for team in teams)
        db.session.flush()
        db.session.add_all(Account(**account) for account in accounts)
        for award in awards:
            holders = award["holders"]
            values = {name: value for name, value in award.items() if name != "holders"}
            values["created_at"] = null() if award["created_at"] is None else award["created_at"]
            db.session.add(Award(**values))
            db.session.flush()
            db.session.add_all(Awardee(account_id=key, award_id=award["id"]) for key in holders)


def of_id(records: list[Record], key: int | None) -> Record | None:
    """Return the record with an id, if there is one."""
    return next((record for record in records if record["id"] == key), None)


def by_name(records: list[Record]) -> list[Record]:
    """Return records in the order of lists."""
    return sorted(records, key=lambda record: (fold(record["name"]), record["id"]))


def page_of(records: list[Record], page: Record) -> Record:
    """Return the first page of records."""
    return counts_of(records, page) | {"data": by_name(records)[: page["per_page"]]}


def counts_of(records: list[Record], page: Record) -> Record:
    """Return the first page's counts of all records."""
    size = page["per_page"]
    counts = {"page": 0, "per_page": size, "pages": -(-len(records) // size)}
    return counts | {"results": len(records)}


def read(shown: queries.JSON | None) -> Any:
    """Return the JSON that the database wrote, which is one line."""
    assert shown
    assert shown.endswith(b"\n")
    return json.loads(shown)
