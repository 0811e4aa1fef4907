"""JSON written by the database: how each kind of database spells it, and the API's objects.

An object's JSON is made from its schema, which says what the object looks like, and the columns of
the same names: a missing one fails at import.
"""

from typing import Any, NamedTuple

import marshmallow as ma
from sqlalchemy import (
    CTE,
    BigInteger,
    BindParameter,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    Text,
    bindparam,
    cast,
    literal_column,
    select,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from fields import Timestamp
from models import (
    Account,
    Award,
    Awardee,
    Team,
)
from schemas import (
    AccountSchema,
    AwardSchema,
    TeamSchema,
)


class _Spelled(FunctionElement[Any]):
    """A function that each database spells in its own way, with `{}` for its arguments."""

    inherit_cache = True
    sqlite: str
    postgresql: str


@compiles(_Spelled)
def _spell(element: _Spelled, compiler: SQLCompiler, **options: Any) -> str:
    given = [compiler.process(argument, **options) for argument in element.clauses]
    spelling: str = getattr(element, compiler.dialect.name)
    return spelling.format(*given, all=", ".join(given))


class Object(_Spelled):
    """A JSON object, from alternating names and values."""

    sqlite, postgresql = "json_object({all})", "json_build_object({all})"


class _List(_Spelled):
    """A JSON list of a value from each row; the rows are in order, but PostgreSQL must be told."""

    sqlite = "json_group_array({0})"
    postgresql = "coalesce(json_agg({0} ORDER BY {1}), '[]')"


class Map(_Spelled):
    """A JSON object of a name and a value from each row."""

    sqlite, postgresql = "json_group_object({all})", "coalesce(json_object_agg({all}), '{{}}')"


class Json(_Spelled):
    """JSON from text, or from a table expression, whose JSON SQLite takes for text."""

    sqlite, postgresql = "json({0})", "CAST({0} AS JSON)"


class _Seconds(_Spelled):
    """A time as a JSON number, to the microsecond: SQLite's own numbers have only 15 digits."""

    sqlite = "json(CASE WHEN {0} IS NOT NULL THEN printf('%.6f', {0}) END)"
    postgresql = "{0}"


class Line(_Spelled):
    """JSON as a line of bytes in UTF-8, so that nothing decodes and encodes it on its way."""

    sqlite = "CAST({0} || char(10) AS BLOB)"
    postgresql = "convert_to(CAST({0} AS TEXT) || chr(10), 'UTF8')"


class RandomHex(_Spelled):
    """32 random hexadecimal digits."""

    type = Text()
    sqlite = "lower(hex(randomblob(16)))"
    postgresql = "replace(CAST(gen_random_uuid() AS TEXT), '-', '')"


class _Position(_Spelled):
    """The position of one text in another, from 1, or 0 if it is not in it."""

    sqlite, postgresql = "instr({all})", "strpos({all})"


class _Elements(_Spelled):
    """The elements of a JSON list, as rows."""

    sqlite, postgresql = "json_each({0})", "json_array_elements_text(CAST({0} AS JSON))"


def given_ids(name: str = "ids") -> Select[Any]:
    """Return the ids in the JSON list that is bound to a name."""
    elements = _Elements(bindparam(name, type_=Text)).table_valued("value")
    return select(cast(elements.c.value, BigInteger))


def has_text(folded: Any, text: BindParameter[str]) -> ColumnElement[bool]:
    """Return whether folded text contains another, literally: there are no wildcards."""
    return _Position(folded, text) > 0


def shape(schema: type[ma.Schema], source: Any = None, **given: Any) -> ColumnElement[Any]:
    """Return the JSON of the object that a schema describes.

    Its attributes are the columns of `source` with the same names, unless they are passed.
    """
    parts: list[Any] = []
    for name, field in schema().dump_fields.items():
        value = given.pop(name) if name in given else getattr(source, name)
        if isinstance(field, Timestamp):
            value = _Seconds(value)
        elif isinstance(field, ma.fields.String) and isinstance(value.type, Integer):
            value = cast(value, Text)
        parts += [literal_column(f"'{name}'"), value]
    if given:
        raise TypeError(f"{schema.__name__} has no {', '.join(given)}")
    return Object(*parts)


def list_of(value: ColumnElement[Any], rows: FromClause, *order: Any) -> ColumnElement[Any]:
    """Return the JSON list of a value from each row, in the order that the rows already have."""
    return select(_List(value, *order)).select_from(rows).scalar_subquery()


def _awards(which: Select[Any], owner: FromClause) -> ColumnElement[Any]:
    """Return the JSON list of the awards of an owner, an account or a team."""
    rows = which.correlate(owner).subquery()
    return list_of(shape(AwardSchema, rows.c), rows, rows.c.id)


def team_of(team: FromClause) -> ColumnElement[Any]:
    """Return the JSON of a team."""
    won = select(Award).where(Award.team_id == team.c.id).order_by(Award.id)
    return shape(TeamSchema, team.c, awards=_awards(won, team))


def shown_award(award_id: ColumnElement[int]) -> ColumnElement[Any]:
    """Return the JSON of the award with an id."""
    return select(AWARD).where(Award.id == award_id).scalar_subquery()


def shown_team(team_id: Any, owner: Any) -> ColumnElement[Any]:
    """Return the JSON of the team of an owner, or null."""
    return select(TEAM).where(Team.id == team_id).correlate(owner).scalar_subquery()


class Accounts(NamedTuple):
    """Accounts that are read together."""

    rows: CTE
    source: FromClause
    """The rows joined with their teams."""
    account: ColumnElement[Any]
    team: ColumnElement[Any]


def teams_of(rows: FromClause, *, many: bool = True) -> CTE:
    """Return the teams of rows with their JSON, each read once, however many rows share it."""
    in_use = select(rows.c.team_id)
    teams = select(Team.id, TEAM.label("json")).where(Team.id.in_(in_use)).cte("shown_teams")
    if many:  # without this, SQLite reads it again for each row
        teams = teams.prefix_with("MATERIALIZED")
    return teams


def accounts(which: Select[Any], *, many: bool = True) -> Accounts:
    """Return accounts, and the JSON of each and of its team."""
    rows = which.cte("shown")
    teams = teams_of(rows, many=many)
    team = Json(teams.c.json)
    held = (
        select(Award)
        .join(Awardee)
        .where(Awardee.account_id == rows.c.id)
        .order_by(Awardee.award_id)
    )
    account = shape(AccountSchema, rows.c, team=team, awards=_awards(held, rows))
    source = rows.outerjoin(teams, teams.c.id == rows.c.team_id)
    return Accounts(rows, source, account, team)


def account_list(which: Select[Any]) -> ColumnElement[Any]:
    """Return the JSON list of accounts, by name."""
    rows, source, account, _ = accounts(which.order_by(Account.search_name, Account.id))
    return list_of(account, source, rows.c.search_name, rows.c.id)


def team_list(which: Select[Any]) -> ColumnElement[Any]:
    """Return the JSON list of teams, by name."""
    rows = which.order_by(Team.search_name, Team.id).cte("shown")
    return list_of(team_of(rows), rows, rows.c.search_name, rows.c.id)


def showing(value: ColumnElement[Any], *sources: Any) -> Select[Any]:
    """Return the statement that answers with JSON."""
    return select(Line(value)).select_from(*sources)


TEAM = team_of(Team.__table__)
AWARD = shape(AwardSchema, Award)
