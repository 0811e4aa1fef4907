"""The content of the pages, as statements that return rows.

Lists are read a page at a time, by the indexes and the counts in `models.py`: no read grows with
the number of a team's members or of an award's holders.
"""

from typing import Any

from sqlalchemy import BigInteger, Text, bindparam, cast, exists, func, select
from sqlalchemy.orm import aliased

from database import Statement
from models import Account, Award, Awardee, Event, Team
from shapes import given_ids, has_text

DAY = 86400
MANY = 1000
"""The number of an award's holders beyond which they are found by going through all names."""

_ID = bindparam("id", type_=BigInteger)
_SIZE = bindparam("size", type_=BigInteger)
_OFFSET = bindparam("offset", type_=BigInteger)
_TEXT = bindparam("text", type_=Text)
_SINCE = bindparam("since", type_=BigInteger)

_ahead = aliased(Team)
_BY_POINTS = (Team.points.desc(), Team.search_name, Team.id)
_BY_TIME = (Award.created_at.desc().nulls_last(), Award.id.desc())
_BY_NAME = (Account.search_name, Account.id)

_TEAM_COLUMNS = (Team.id, Team.name, Team.points, Team.award_count, Team.member_count)
_ACCOUNT_COLUMNS = (Account.id, Account.name, Account.avatar_url)
_AWARD_COLUMNS = (
    Award.id,
    Award.title,
    Award.image_url,
    Award.points,
    Award.created_at,
    Award.holder_count,
    Award.team_id,
    Team.name.label("team"),
)


def _count(model: type[Any]) -> Any:
    return select(func.count()).select_from(model).scalar_subquery()


def _day(time: Any) -> Any:
    """Return the day of a time, as a number; at midnight it may be half a second early."""
    return cast(time, BigInteger) // DAY


def _paged(rows: Any) -> Statement:
    return Statement(rows.limit(_SIZE).offset(_OFFSET))


TOTALS = Statement(
    select(
        _count(Team).label("teams"),
        _count(Account).label("members"),
        _count(Award).label("awards"),
        select(func.coalesce(func.sum(Award.holder_count), 0)).scalar_subquery().label("given"),
        select(func.max(Team.points)).scalar_subquery().label("most_points"),
        select(func.max(Event.id)).scalar_subquery().label("last_event"),
        select(func.max(Account.created_at)).scalar_subquery().label("last_joined"),
        select(func.max(Awardee.given_at)).scalar_subquery().label("last_given"),
    )
)
"""The totals of everything; while all of them are the same, nothing has changed."""

_first = select(Team.points).order_by(*_BY_POINTS).limit(1).offset(_OFFSET).scalar_subquery()
STANDINGS = _paged(
    select(
        *_TEAM_COLUMNS,
        select(func.count() + 1).where(_ahead.points > _first).scalar_subquery().label("first"),
    ).order_by(*_BY_POINTS)
)
"""The teams by points; `first` is the rank of the first of them."""

RACE = Statement(
    select(
        Award.team_id,
        _day(Award.created_at).label("day"),
        func.sum(Award.points).label("value"),
    )
    .where(Award.team_id.in_(given_ids("teams")))
    .group_by(Award.team_id, "day")
)
"""The points that some teams won, by day; None is the day of awards without a time."""

TEAMS = _paged(select(*_TEAM_COLUMNS).order_by(Team.search_name, Team.id))
TEAM = Statement(
    select(
        *_TEAM_COLUMNS,
        select(func.count() + 1)
        .where(_ahead.points > Team.points)
        .correlate(Team)
        .scalar_subquery()
        .label("rank"),
        _count(_ahead).label("teams"),
    ).where(Team.id == _ID)
)
TEAM_MEMBERS = _paged(select(*_ACCOUNT_COLUMNS).where(Account.team_id == _ID).order_by(*_BY_NAME))

_awards = select(*_AWARD_COLUMNS).select_from(Award).outerjoin(Team)
AWARDS = _paged(_awards.order_by(*_BY_TIME))
TEAM_AWARDS = _paged(_awards.where(Award.team_id == _ID).order_by(*_BY_TIME))
AWARD = Statement(_awards.where(Award.id == _ID))

_holders = select(*_ACCOUNT_COLUMNS, Awardee.given_at).join(Awardee).where(Awardee.award_id == _ID)
_is_holder = exists().where(Awardee.account_id == Account.id, Awardee.award_id == _ID)
_given_at = (
    select(Awardee.given_at)
    .where(Awardee.account_id == Account.id, Awardee.award_id == _ID)
    .scalar_subquery()
)
FEW_HOLDERS = _paged(_holders.order_by(*_BY_NAME))
MANY_HOLDERS = _paged(
    select(*_ACCOUNT_COLUMNS, _given_at.label("given_at")).where(_is_holder).order_by(*_BY_NAME)
)
"""The same, for when sorting all holders would take longer than skipping everybody else."""

_held = select(Award.points).join(Awardee).where(Awardee.account_id == _ID).subquery()
MEMBER = Statement(
    select(
        *_ACCOUNT_COLUMNS,
        Account.discriminator,
        Account.created_at,
        Account.team_id,
        Team.name.label("team"),
        select(func.count()).select_from(_held).scalar_subquery().label("award_count"),
        select(func.coalesce(func.sum(_held.c.points), 0)).scalar_subquery().label("points"),
    )
    .outerjoin(Team, Team.id == Account.team_id)
    .where(Account.id == _ID)
)
MEMBER_AWARDS = _paged(
    select(*_AWARD_COLUMNS, Awardee.given_at)
    .select_from(Awardee)
    .join(Award)
    .outerjoin(Team, Team.id == Award.team_id)
    .where(Awardee.account_id == _ID)
    .order_by(Awardee.given_at.desc().nulls_last(), Award.id.desc())
)

FOUND = {
    "members": Statement(
        select(*_ACCOUNT_COLUMNS)
        .where(has_text(Account.search_name, _TEXT))
        .order_by(*_BY_NAME)
        .limit(_SIZE)
    ),
    "teams": Statement(
        select(*_TEAM_COLUMNS)
        .where(has_text(Team.search_name, _TEXT))
        .order_by(Team.search_name, Team.id)
        .limit(_SIZE)
    ),
    "awards": Statement(
        _awards.where(has_text(Award.search_title, _TEXT))
        .order_by(Award.search_title, Award.id)
        .limit(_SIZE)
    ),
}
"""The results of a search, of each kind, by name."""

JOINED = Statement(
    select(_day(Account.created_at).label("day"), func.count().label("value")).group_by("day")
)
"""How many of the current members joined on each day."""
GIVEN = Statement(
    select(_day(Awardee.given_at).label("day"), func.count().label("value"))
    .where(Awardee.given_at >= _SINCE)
    .group_by("day")
)
"""How many awards that are still held were given on each day."""
LARGEST = Statement(
    select(
        Team.id,
        Team.name,
        Team.member_count,
        select(func.sum(_ahead.member_count)).scalar_subquery().label("in_teams"),
    )
    .order_by(Team.member_count.desc(), Team.search_name, Team.id)
    .limit(_SIZE)
)
"""The teams with the most members; `in_teams` is how many members are in any team."""
