"""What the API shows: records as the schemas take them, in a fixed number of statements."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, CompoundSelect, Row, func, literal, select, union_all
from sqlalchemy.orm import aliased

from database import MAX_ID, batches, db, fold
from models import Account, Award, Awardee, Team

Record = dict[str, Any]
Condition = ColumnElement[bool]

_Member = aliased(Account)
_MEMBER_COUNT = (
    select(func.count()).where(_Member.team_id == Team.id).correlate(Team).scalar_subquery()
)
_TEAM = (
    Team.id.label("team_id"),
    Team.name.label("team_name"),
    Team.created_at.label("team_created_at"),
    _MEMBER_COUNT.label("team_member_count"),
)
_ACCOUNT = (
    Account.id,
    Account.name,
    Account.discriminator,
    Account.avatar_url,
    Account.permissions,
    Account.created_at,
)
_AWARD = (Award.id, Award.title, Award.image_url)
_AWARD_FIELDS = ("id", "title", "image_url")


def account(account_id: int) -> Record | None:
    """Read one account."""
    return next(iter(accounts(Account.id == account_id)), None)


def accounts(condition: Condition) -> list[Record]:
    """Read all accounts that meet a condition, by name."""
    teams: dict[int, Record] = {}
    records = _accounts(condition, teams)
    _add_awards(records, teams.values())
    return records


def team(team_id: int) -> Record | None:
    """Read one team."""
    return next(iter(teams(Team.id == team_id)), None)


def teams(condition: Condition) -> list[Record]:
    """Read all teams that meet a condition, by name."""
    rows = db.session.execute(select(*_TEAM).where(condition).order_by(Team.search_name, Team.id))
    records: dict[int, Record] = {}
    for row in rows:
        _team(row, records)
    _add_awards([], records.values())
    return list(records.values())


def award(award_id: int) -> Record | None:
    """Read one award."""
    row = db.session.execute(select(*_AWARD).where(Award.id == award_id)).first()
    return None if row is None else row._asdict()


def award_details(award_id: int) -> Record | None:
    """Read one award, the accounts that have it by name, and its team."""
    row = db.session.execute(
        select(*_AWARD, *_TEAM)
        .outerjoin(Team, Team.id == Award.team_id)
        .where(Award.id == award_id)
    ).first()
    if row is None:
        return None
    teams: dict[int, Record] = {}
    team = _team(row, teams)
    holders = select(Awardee.account_id).where(Awardee.award_id == award_id)
    awardees = _accounts(Account.id.in_(holders), teams)
    _add_awards(awardees, teams.values())
    return {
        "award": {"id": row.id, "title": row.title, "image_url": row.image_url},
        "awardees": awardees,
        "team": team,
    }


def account_page(*, q: str, page: int, per_page: int, team: Team | None = None) -> Record:
    """Read one page of the accounts with `q` in their name, by name, perhaps of one team."""
    conditions = _name_contains(Account, q)
    if team is not None:
        conditions.append(Account.team_id == team.id)
    return _page(Account, accounts, conditions, page, per_page)


def team_page(*, q: str, page: int, per_page: int) -> Record:
    """Read one page of the teams with `q` in their name, by name."""
    return _page(Team, teams, _name_contains(Team, q), page, per_page)


def _name_contains(model: type[Account | Team], q: str) -> list[Condition]:
    return [model.search_name.contains(fold(q), autoescape=True)] if q else []


def _page(
    model: type[Account | Team],
    read: Callable[[Condition], list[Record]],
    conditions: Sequence[Condition],
    page: int,
    per_page: int,
) -> Record:
    results = db.session.scalar(select(func.count()).select_from(model).where(*conditions)) or 0
    offset = page * per_page
    ids = (
        select(model.id)
        .where(*conditions)
        .order_by(model.search_name, model.id)
        .limit(per_page)
        .offset(min(offset, MAX_ID))
    )
    return {
        "page": page,
        "per_page": per_page,
        "pages": -(-results // per_page),
        "results": results,
        "data": read(model.id.in_(ids)) if offset < results else [],
    }


def _accounts(condition: Condition, teams: dict[int, Record]) -> list[Record]:
    """Read accounts, still without awards, and put the teams they are in into `teams`."""
    rows = db.session.execute(
        select(*_ACCOUNT, *_TEAM)
        .outerjoin(Team, Team.id == Account.team_id)
        .where(condition)
        .order_by(Account.search_name, Account.id)
    )
    return [
        {
            "id": row.id,
            "name": row.name,
            "discriminator": row.discriminator,
            "avatar_url": row.avatar_url,
            "team": _team(row, teams),
            "permissions": row.permissions,
            "created_at": row.created_at,
            "awards": [],
        }
        for row in rows
    ]


def _team(row: Row[Any], teams: dict[int, Record]) -> Record | None:
    """Give the team in a row, if there is one: the same record for all rows of one team."""
    if row.team_id is None:
        return None
    if row.team_id not in teams:
        teams[row.team_id] = {
            "id": row.team_id,
            "name": row.team_name,
            "created_at": row.team_created_at,
            "member_count": row.team_member_count,
            "awards": [],
        }
    return teams[row.team_id]


def _add_awards(accounts: Iterable[Record], teams: Iterable[Record]) -> None:
    """Fill in the awards of all these records, by id, in one statement."""
    owners = {("account", record["id"]): record["awards"] for record in accounts}
    owners |= {("team", record["id"]): record["awards"] for record in teams}
    for batch in batches(owners):
        account_ids = [key for kind, key in batch if kind == "account"]
        team_ids = [key for kind, key in batch if kind == "team"]
        awards: CompoundSelect[Any] = union_all(
            select(literal("account").label("kind"), Awardee.account_id.label("owner"), *_AWARD)
            .join(Award, Award.id == Awardee.award_id)
            .where(Awardee.account_id.in_(account_ids)),
            select(literal("team"), Award.team_id, *_AWARD).where(Award.team_id.in_(team_ids)),
        )
        for kind, owner, *award in db.session.execute(awards.order_by("id")):
            owners[kind, owner].append(dict(zip(_AWARD_FIELDS, award, strict=True)))
