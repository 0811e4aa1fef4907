"""The API's answers, as statements that return JSON.

The database writes it, since making it from rows would take most of a read's time. `shapes.py` says
what each object looks like. For `first`, `value` and so on, see `Statement`.
"""

from functools import cache
from typing import Any

import marshmallow as ma
from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Select,
    Text,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal_column,
    select,
    true,
    union,
)
from sqlalchemy.orm import aliased

from database import Statement
from models import (
    MAX_ID,
    Account,
    Award,
    Awardee,
    Callback,
    Delivery,
    Event,
    Session,
    Team,
    fold,
)
from schemas import (
    AccountPageSchema,
    AwardDetailsSchema,
    AwardEntrySchema,
    AwardPageSchema,
    AwardSchema,
    CallbackSchema,
    CallbacksSchema,
    DeliveriesSchema,
    DeliverySchema,
    EventSchema,
    EventsSchema,
    SessionSchema,
    StandingSchema,
    StandingsPageSchema,
    TeamPageSchema,
)
from shapes import (
    AWARD,
    TEAM,
    Json,
    Line,
    Map,
    account_list,
    accounts,
    has_text,
    list_of,
    shape,
    showing,
    shown_team,
    team_list,
    team_of,
    teams_of,
)

JSON = bytes
"""A JSON object, as a line in UTF-8."""

DELIVERIES_SHOWN = 100


_ID: BindParameter[int] = bindparam("id", type_=BigInteger)
_TEAM_ID: BindParameter[int] = bindparam("team", type_=BigInteger)
_ACCOUNT_ID: BindParameter[int] = bindparam("account", type_=BigInteger)
_APP_ID: BindParameter[int] = bindparam("app_id", type_=BigInteger)
_PAGE: BindParameter[int] = bindparam("page", type_=BigInteger)
_SIZE: BindParameter[int] = bindparam("per_page", type_=BigInteger)
_OFFSET: BindParameter[int] = bindparam("offset", type_=BigInteger)


_one = accounts(select(Account).where(Account.id == _ID), many=False)
_ACCOUNT = Statement(showing(_one.account, _one.source))
_TEAM = Statement(showing(TEAM, Team).where(Team.id == _ID))
_AWARD = Statement(showing(AWARD, Award).where(Award.id == _ID))
_AWARD_DETAILS = Statement(
    showing(
        shape(
            AwardDetailsSchema,
            award=AWARD,
            awardees=account_list(select(Account).join(Awardee).where(Awardee.award_id == _ID)),
            team=shown_team(Award.team_id, Award),
        ),
        Award,
    ).where(Award.id == _ID)
)
SESSION = Line(
    shape(
        SessionSchema,
        Session,
        username=literal_column("'S'", Text) + cast(Session.id, Text),
        password=bindparam("password", type_=Text),
    )
)
"""The JSON that a statement that creates or renews a session returns."""

_own = Callback.app_id == _APP_ID
_CALLBACK = Statement(
    showing(shape(CallbackSchema, Callback), Callback).where(
        _own, Callback.event == bindparam("event", type_=Text)
    )
)
_CALLBACKS = Statement(
    showing(
        shape(
            CallbacksSchema,
            callbacks=select(Map(Callback.event, Callback.url)).where(_own).scalar_subquery(),
        )
    )
)


def _answer(statement: Statement, **values: Any) -> JSON | None:
    json: JSON | None = statement.value(**values)
    return json


def account(account_id: int) -> JSON | None:
    """Return one account."""
    return _answer(_ACCOUNT, id=account_id)


def team(team_id: int) -> JSON | None:
    """Return one team."""
    return _answer(_TEAM, id=team_id)


def award(award_id: int) -> JSON | None:
    """Return one award."""
    return _answer(_AWARD, id=award_id)


def award_details(award_id: int) -> JSON | None:
    """Return one award, the accounts that hold it by name, and its team."""
    return _answer(_AWARD_DETAILS, id=award_id)


def callback(app_id: int | None, event: str) -> JSON | None:
    """Return the callback that an app has registered for a type of event."""
    return _answer(_CALLBACK, app_id=app_id, event=event)


def callbacks(app_id: int | None) -> JSON | None:
    """Return the URLs of an app's callbacks, by type of event."""
    return _answer(_CALLBACKS, app_id=app_id)


def account_page(*, q: str, page: int, per_page: int, team: int | None = None) -> JSON | None:
    """Return one page of the accounts with `q` in their name, by name, optionally of one team.

    None if there is no such team.
    """
    return _search(Account, q, page, per_page, team=team)


def team_page(*, q: str, page: int, per_page: int) -> JSON | None:
    """Return one page of the teams with `q` in their name, by name."""
    return _search(Team, q, page, per_page)


def award_page(
    *, q: str, page: int, per_page: int, team: int | None = None, account: int | None = None
) -> JSON | None:
    """Return one page of the awards with `q` in their title, by title.

    Optionally only those of a team or an account: None if there is no such team or account.
    """
    return _search(Award, q, page, per_page, team=team, account=account)


def standings(*, page: int, per_page: int) -> JSON | None:
    """Return one page of the teams, by their points."""
    return _answer(_STANDINGS, **_place(page, per_page))


def events(*, after: int, per_page: int, **about: Any) -> JSON | None:
    """Return the events after one, the oldest first.

    `about` may hold a type, and the ids of an account, team and award.
    """
    return _answer(_events(*sorted(about)), after=after, per_page=per_page, **about)


def _search(
    model: type[Account | Team | Award], q: str, page: int, per_page: int, **of: int | None
) -> JSON | None:
    given = [name for name, value in of.items() if value is not None]
    statement = _page(model, *given, named=bool(q))
    return _answer(statement, text=fold(q), **_place(page, per_page), **of)


def _place(page: int, per_page: int) -> dict[str, int]:
    return {"page": page, "per_page": per_page, "offset": min(page * per_page, MAX_ID)}


def _one_page(
    schema: type[ma.Schema], results: Select[Any], data: ColumnElement[Any]
) -> Select[Any]:
    """Return the statement that answers with one page of a list, and counts the whole."""
    counted = results.subquery()
    value = shape(
        schema,
        page=_PAGE,
        per_page=_SIZE,
        pages=(counted.c.results + _SIZE - 1) // _SIZE,
        results=counted.c.results,
        data=data,
    )
    return showing(value, counted)


@cache
def _page(model: type[Account | Team | Award], *of: str, named: bool) -> Statement:
    """Return the statement that answers with one page of a search's results.

    `of` names the owners that the search is limited to: a team, or an account that holds awards.
    """
    schema, list_of, name = _PAGES[model]
    conditions: list[ColumnElement[bool]] = []
    if "team" in of:
        conditions.append(_TEAM_OF[model] == _TEAM_ID)
    if "account" in of:
        held = select(Awardee.award_id).where(Awardee.account_id == _ACCOUNT_ID)
        conditions.append(Award.id.in_(held))
    if named:
        conditions.append(has_text(name, bindparam("text", type_=Text)))
    results: Select[Any] = select(func.count().label("results")).select_from(model)
    if model is Account and of and not named:
        results = select(Team.member_count.label("results")).where(Team.id == _TEAM_ID)
    else:
        results = results.where(*conditions)
    ids = select(model.id).where(*conditions).order_by(name, model.id).limit(_SIZE).offset(_OFFSET)
    statement = _one_page(schema, results, list_of(select(model).where(model.id.in_(ids))))
    for owner in of:
        statement = statement.where(_EXISTS[owner])
    return Statement(statement)


def _award_list(which: Select[Any]) -> ColumnElement[Any]:
    rows = which.order_by(Award.search_title, Award.id).cte("shown")
    teams = teams_of(rows)
    entry = shape(
        AwardEntrySchema,
        rows.c,
        award=shape(AwardSchema, rows.c),
        team=Json(teams.c.json),
        holders=rows.c.holder_count,
    )
    source = rows.outerjoin(teams, teams.c.id == rows.c.team_id)
    return list_of(entry, source, rows.c.search_title, rows.c.id)


def _standing_list() -> ColumnElement[Any]:
    """Return the JSON of one page of the teams, by their points.

    A team's rank is 1 more than the number of teams with more points. These are counted only for
    the first team of the page: the other ranks follow from their places.
    """
    order = (Team.points.desc(), Team.search_name, Team.id)
    shown = select(Team.id).order_by(*order).limit(_SIZE).offset(_OFFSET)
    rank_here = func.rank().over(order_by=Team.points.desc())
    place = func.row_number().over(order_by=order)
    rows = (
        select(Team, (rank_here + _OFFSET).label("rank"), place.label("place"))
        .where(Team.id.in_(shown))
        .order_by(*order)
        .cte("shown")
    )
    ahead = aliased(Team)
    most = select(func.max(rows.c.points)).scalar_subquery()
    first = select(func.count() + 1).where(ahead.points > most).scalar_subquery()
    rank = case((rows.c.points == most, first), else_=rows.c["rank"])
    standing = shape(
        StandingSchema, rows.c, rank=rank, awards=rows.c.award_count, team=team_of(rows)
    )
    return list_of(standing, rows, rows.c.place)


_STANDINGS = Statement(
    _one_page(
        StandingsPageSchema,
        select(func.count().label("results")).select_from(Team),
        _standing_list(),
    )
)
_PAGES: dict[type[Account | Team | Award], tuple[Any, Any, Any]] = {
    Account: (AccountPageSchema, account_list, Account.search_name),
    Team: (TeamPageSchema, team_list, Team.search_name),
    Award: (AwardPageSchema, _award_list, Award.search_title),
}
"""For each list, its schema, the statement of its data, and the column that is searched."""
_TEAM_OF = {Account: Account.team_id, Award: Award.team_id}
_EXISTS = {
    "team": exists().where(Team.id == _TEAM_ID),
    "account": exists().where(Account.id == _ACCOUNT_ID),
}
"""Whether the owner that a search is limited to exists."""


@cache
def _events(*about: str) -> Statement:
    """Return the statement that answers with events; `about` names the filters.

    Each way in which an event can be about a team has an index of its own.
    """
    columns = {"type": Event.type, "account": Event.account_id, "award": Event.award_id}
    after = bindparam("after", type_=BigInteger)
    conditions = [Event.id > after]
    conditions += [columns[name] == bindparam(name) for name in about if name != "team"]
    ways = (
        [Event.team_id == _TEAM_ID, Event.left_team_id == _TEAM_ID] if "team" in about else [true()]
    )
    found = (
        select(Event.id).where(*conditions, way).order_by(Event.id).limit(_SIZE).subquery()
        for way in ways
    )
    ids = union(*(select(one.c.id) for one in found)).order_by("id").limit(_SIZE).subquery()
    rows = select(Event).where(Event.id.in_(select(ids.c.id))).order_by(Event.id).cte("shown")
    event = shape(
        EventSchema,
        rows.c,
        account=rows.c.account_id,
        team=rows.c.team_id,
        left_team=rows.c.left_team_id,
        award=rows.c.award_id,
        changed=Json(rows.c.changed),
    )
    last = select(func.coalesce(func.max(rows.c.id), after)).scalar_subquery()
    listed = list_of(event, rows, rows.c.id)
    return Statement(showing(shape(EventsSchema, events=listed, last=last)))


def select_waiting(
    *, resting_until: ColumnElement[float | None], retry_at: ColumnElement[float | None]
) -> Select[Any]:
    """Return the statement for a callback's queue, given the ends of its rest and of a pause.

    A subject's deliveries go out together with its first, the only one whose `due_at` is known. So
    the first deliveries of all are about the subjects whose first delivery goes out first.
    """
    callback = (
        select(Callback.id, Callback.last_error, resting_until.label("resting_until"))
        .where(_own, Callback.event == bindparam("event", type_=Text))
        .cte("callback")
    )
    waits = Delivery.callback_id == callback.c.id
    rest = func.coalesce(callback.c.resting_until, 0)
    goes_at = case((retry_at > rest, retry_at), else_=rest).label("goes_at")
    ids = (
        select(Delivery.id, goes_at)
        .where(waits, Delivery.due_at >= 0)
        .order_by(goes_at, Delivery.id)
        .limit(DELIVERIES_SHOWN)
        .subquery()
    )
    first = select(Delivery.subject, ids.c.goes_at).join(ids, ids.c.id == Delivery.id).cte("first")
    of_these = Delivery.subject.in_(select(first.c.subject))  # so that SQLite uses the index
    shown = (
        select(
            Delivery.id,
            Delivery.webhook_id,
            Delivery.created_at,
            Delivery.attempts,
            Delivery.last_error,
            retry_at.label("retry_at"),
            first.c.goes_at,
        )
        .join(first, first.c.subject == Delivery.subject)
        .where(waits, of_these)
        .order_by(first.c.goes_at, Delivery.id)
        .limit(DELIVERIES_SHOWN)
        .cte("shown")
    )
    all_ = select(func.count().label("number"), func.min(Delivery.id).label("oldest"))
    counted = all_.where(waits).subquery()
    since = select(Delivery.created_at).where(Delivery.id == counted.c.oldest).scalar_subquery()
    delivery = shape(DeliverySchema, shown.c, id=shown.c.webhook_id)
    value = shape(
        DeliveriesSchema,
        callback.c,
        waiting=counted.c.number,
        since=since,
        deliveries=list_of(delivery, shown, shown.c.goes_at, shown.c.id),
    )
    return showing(value, callback, counted)
