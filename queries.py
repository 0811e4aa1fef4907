"""What the API shows: records as the schemas take them, in as few statements as that needs.

The statements are made once, read rows rather than ORM objects, and bring the awards of a record
along as JSON: making statements and objects, and going back and forth to the database, is where the
time of a read would go.
"""

from collections.abc import Collection
from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import JSON, BindParameter, Row, ScalarSelect, Select, bindparam, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import aliased
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from database import connection, fold
from models import Account, Award, Awardee, Callback, EventType, Team

Record = dict[str, Any]


class award_list(FunctionElement[list[Record]]):  # noqa: N801 - the name of an SQL function
    """Collect awards, given by their id, title and image URL, in a JSON list."""

    type = JSON()
    inherit_cache = True


class position(FunctionElement[int]):  # noqa: N801 - the name of an SQL function
    """Give the place of one text in another, from 1, or 0."""

    inherit_cache = True


@compiles(award_list)
@compiles(position)
def _spell(element: FunctionElement[Any], compiler: SQLCompiler, **options: Any) -> str:
    """Write one of these functions as the database has it."""
    find, collect = _SPELLINGS[compiler.dialect.name]
    arguments = [compiler.process(argument, **options) for argument in element.clauses]
    if isinstance(element, position):
        return f"{find}({', '.join(arguments)})"
    named = ", ".join(f"'{name}', {it}" for name, it in zip(_AWARD, arguments, strict=True))
    return collect.format(named)


_SPELLINGS = {
    "sqlite": ("instr", "json_group_array(json_object({}))"),
    "postgresql": ("strpos", "coalesce(json_agg(json_build_object({})), '[]')"),
}
_AWARD = ("id", "title", "image_url")
_Member, _Given = aliased(Account), aliased(Award)
_GIVEN = select(award_list(_Given.id, _Given.title, _Given.image_url))
_MEMBER_COUNT: ScalarSelect[int] = (
    select(func.count()).where(_Member.team_id == Team.id).correlate(Team).scalar_subquery()
)
_TEAM_AWARDS = _GIVEN.where(_Given.team_id == Team.id).correlate(Team).scalar_subquery()
_ACCOUNT_AWARDS = (
    _GIVEN.join(Awardee, Awardee.award_id == _Given.id)
    .where(Awardee.account_id == Account.id)
    .correlate(Account)
    .scalar_subquery()
)
_TEAM = (
    Team.id.label("team_id"),
    Team.name.label("team_name"),
    Team.created_at.label("team_created_at"),
    _MEMBER_COUNT.label("team_member_count"),
    _TEAM_AWARDS.label("team_awards"),
)
_ACCOUNT = (
    Account.id,
    Account.name,
    Account.discriminator,
    Account.avatar_url,
    Account.permissions,
    Account.created_at,
    _ACCOUNT_AWARDS.label("awards"),
)

_ID: BindParameter[int] = bindparam("id")
_SUBJECTS: dict[type[Account | Team], Select[Any]] = {
    Account: select(*_ACCOUNT, *_TEAM).outerjoin(Team, Team.id == Account.team_id),
    Team: select(*_TEAM),
}
_ONE_ACCOUNT = _SUBJECTS[Account].where(Account.id == _ID)
_MANY_ACCOUNTS = _SUBJECTS[Account].where(Account.id.in_(bindparam("ids", expanding=True)))
_ONE_TEAM = _SUBJECTS[Team].where(Team.id == _ID)
_ONE_AWARD = select(Award.id, Award.title, Award.image_url).where(Award.id == _ID)
_AWARD_AND_TEAM = (
    select(Award.id, Award.title, Award.image_url, *_TEAM)
    .outerjoin(Team, Team.id == Award.team_id)
    .where(Award.id == _ID)
)
_AWARDEES = (
    _SUBJECTS[Account]
    .where(Account.id.in_(select(Awardee.account_id).where(Awardee.award_id == _ID)))
    .order_by(Account.search_name, Account.id)
)
_CALLBACKS = (
    select(Callback.id, Callback.event, Callback.url)
    .where(Callback.app_id == bindparam("app_id"))
    .order_by(Callback.event)
)
_CALLBACK = _CALLBACKS.where(Callback.event == bindparam("event"))


def account(account_id: int) -> Record | None:
    """Read one account."""
    row = connection().execute(_ONE_ACCOUNT, {"id": account_id}).first()
    return None if row is None else _account(row)


def accounts(account_ids: Collection[int]) -> list[Record]:
    """Read accounts, in any order."""
    return [_account(row) for row in connection().execute(_MANY_ACCOUNTS, {"ids": account_ids})]


def team(team_id: int) -> Record | None:
    """Read one team."""
    row = connection().execute(_ONE_TEAM, {"id": team_id}).first()
    return None if row is None else _team(row)


def award(award_id: int) -> Record | None:
    """Read one award."""
    row = connection().execute(_ONE_AWARD, {"id": award_id}).first()
    return None if row is None else row._asdict()


def award_details(award_id: int) -> Record | None:
    """Read one award, the accounts that have it by name, and its team."""
    row = connection().execute(_AWARD_AND_TEAM, {"id": award_id}).first()
    if row is None:
        return None
    awardees = connection().execute(_AWARDEES, {"id": award_id})
    return {
        "award": {"id": row.id, "title": row.title, "image_url": row.image_url},
        "awardees": [_account(awardee) for awardee in awardees],
        "team": _team(row),
    }


def account_page(*, q: str, page: int, per_page: int, team: int | None = None) -> Record:
    """Read one page of the accounts with `q` in their name, by name, perhaps of one team."""
    return _page(Account, q, page, per_page, team)


def team_page(*, q: str, page: int, per_page: int) -> Record:
    """Read one page of the teams with `q` in their name, by name."""
    return _page(Team, q, page, per_page)


def callback(app_id: int | None, event: EventType) -> Record | None:
    """Read the callback that an app has registered for a type of event."""
    parameters = {"app_id": app_id, "event": event.value}
    row = connection().execute(_CALLBACK, parameters).first()
    return None if row is None else row._asdict()


def callbacks(app_id: int | None) -> Record:
    """Read the URLs of an app's callbacks, by type of event."""
    rows = connection().execute(_CALLBACKS, {"app_id": app_id})
    return {row.event: row.url for row in rows}


def _page(
    model: type[Account | Team], q: str, page: int, per_page: int, team_id: int | None = None
) -> Record:
    count, select_page = _page_statements(model, named=bool(q), in_team=team_id is not None)
    parameters: dict[str, Any] = {"text": fold(q), "team_id": team_id}
    results: int = connection().execute(count, parameters).scalar_one()
    offset = page * per_page
    data: list[Record] = []
    if offset < results:
        rows = connection().execute(select_page, parameters | {"limit": per_page, "offset": offset})
        data = [_account(row) if model is Account else _team(row) or {} for row in rows]
    return {
        "page": page,
        "per_page": per_page,
        "pages": -(-results // per_page),
        "results": results,
        "data": data,
    }


@cache
def _page_statements(
    model: type[Account | Team], *, named: bool, in_team: bool
) -> tuple[Select[Any], Select[Any]]:
    """Make the statements that count what a search finds, and read one page of it."""
    conditions = []
    if named:
        conditions.append(position(model.search_name, bindparam("text")) > 0)
    if in_team:
        conditions.append(Account.team_id == bindparam("team_id"))
    order = (model.search_name, model.id)
    page = (
        select(model.id)
        .where(*conditions)
        .order_by(*order)
        .limit(bindparam("limit"))
        .offset(bindparam("offset"))
    )
    count = select(func.count()).select_from(model).where(*conditions)
    return count, _SUBJECTS[model].where(model.id.in_(page)).order_by(*order)


def _account(row: Row[Any]) -> Record:
    return {
        "id": row.id,
        "name": row.name,
        "discriminator": row.discriminator,
        "avatar_url": row.avatar_url,
        "team": _team(row),
        "permissions": row.permissions,
        "created_at": row.created_at,
        "awards": sorted(row.awards, key=itemgetter("id")),
    }


def _team(row: Row[Any]) -> Record | None:
    """Give the team in a row, if there is one."""
    if row.team_id is None:
        return None
    return {
        "id": row.team_id,
        "name": row.team_name,
        "created_at": row.team_created_at,
        "member_count": row.team_member_count,
        "awards": sorted(row.team_awards, key=itemgetter("id")),
    }
