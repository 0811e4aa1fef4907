"""What happened: stored in the transaction of the change, together with what it gives to deliver.

Each event goes into the log by ids. If callbacks are registered for its type, the database itself
writes its body, the state right after the change, into a delivery for each of them.
"""

import json
from collections.abc import Collection
from functools import cache
from typing import Any

from flask import g, has_request_context
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Delete,
    Double,
    FromClause,
    Text,
    bindparam,
    case,
    cast,
    delete,
    exists,
    func,
    insert,
    literal_column,
    null,
    select,
    update,
)
from sqlalchemy.orm import aliased

from authentication import principal
from callbacks.clock import wall_clock
from config import settings
from database import Statement
from models import Account, Callback, Delivery, Event, EventType, Team, now
from queries import JSON, Json, Object, RandomHex, accounts, given_ids, team_of

FORGET_AT_ONCE = 1000
"""How many old records one write clears away at most."""


def _old(model: type[Event | Delivery]) -> Delete:
    old = select(model.id).where(model.created_at < bindparam("moment")).limit(FORGET_AT_ONCE)
    return delete(model).where(model.id.in_(old))


_FORGET_EVENTS = Statement(_old(Event))
_FORGET_DELIVERIES = Statement(_old(Delivery).returning(Delivery.callback_id, Delivery.subject))
FREE_NEXT = Statement(
    update(Delivery)
    .where(
        Delivery.id
        == select(func.min(Delivery.id))
        .where(
            Delivery.callback_id == bindparam("of_callback"),
            Delivery.subject == bindparam("of_subject"),
        )
        .scalar_subquery()
    )
    .values(due_at=0)
)
"""Make the first delivery of a callback about an account or team due: none is before it."""

_LISTENED_TO = exists().where(Callback.event == bindparam("type", type_=Text))
_LOGGED = {
    "type": bindparam("type", type_=Text),
    "created_at": bindparam("created_at", type_=Double),
    "author": bindparam("author", type_=Text),
    "account_id": Account.id,
    "team_id": bindparam("team_id", type_=BigInteger),
    "left_team_id": bindparam("left_team_id", type_=BigInteger),
    "award_id": bindparam("award_id", type_=BigInteger),
}
_ACCOUNTS = select(Account).where(Account.id.in_(given_ids())).order_by(Account.id)
_LOG_ACCOUNTS = Statement(
    insert(Event).from_select(list(_LOGGED), _ACCOUNTS.with_only_columns(*_LOGGED.values()))
)
_LOG_TEAM = Statement(
    insert(Event).values({name: bindparam(name) for name in _LOGGED if name != "account_id"})
)


def record_accounts(  # noqa: PLR0913 - the columns of the log
    event: EventType,
    account_ids: Collection[int],
    *,
    author: str | None = None,
    team_id: int | None = None,
    left_team_id: int | None = None,
    award_id: int | None = None,
    award: JSON | None = None,
) -> None:
    """Record that the same happened to accounts: after the change, or before a deletion."""
    if not account_ids:
        return
    common = {"type": event.value, "created_at": now(), "ids": json.dumps(list(account_ids))}
    log = {"team_id": team_id, "left_team_id": left_team_id, "award_id": award_id}
    _note()
    _LOG_ACCOUNTS.run(**common, **log, author=_author(author))
    _enqueue_accounts(event).run(**common, award=award and award.decode())


def record_team(event: EventType, team_id: int) -> None:
    """Record that something happened to a team: after the change, or before a deletion."""
    common = {"type": event.value, "created_at": now(), "team_id": team_id}
    _note()
    _LOG_TEAM.run(**common, author=_author(), left_team_id=None, award_id=None)
    _enqueue_team().run(**common)


def forget_old() -> None:
    """Delete a part of what is past its retention, of the log and of what waits.

    Nothing is deleted by a process whose clock may be wrong: see `clock.py`.
    """
    if not wall_clock.is_steady():
        return
    _FORGET_EVENTS.run(moment=now() - settings().event_retention.total_seconds())
    moment = now() - settings().callback_retention.total_seconds()
    for callback_id, subject in set(_FORGET_DELIVERIES.all(moment=moment)):
        FREE_NEXT.run(of_callback=callback_id, of_subject=subject)


def recorded_some() -> bool:
    """Return, once, whether an event was recorded since this was last asked."""
    return bool(g.pop("event_recorded", False))


def _note() -> None:
    if "event_recorded" not in g:
        g.event_recorded = True
        forget_old()


def _author(author: str | None = None) -> str:
    return author or (principal().label if has_request_context() else "command line")


@cache
def _enqueue_accounts(event: EventType) -> Statement:
    """Return the statement that stores a delivery for each callback and account."""
    rows, source, account, team = accounts(_ACCOUNTS.where(_LISTENED_TO))
    body: dict[str, Any] = {"account": account}
    if event is EventType.ACCOUNT_TEAM_UPDATE:
        body["team"] = team
    elif event in {EventType.AWARD_GIVE, EventType.AWARD_TAKE}:
        body["award"] = Json(bindparam("award", type_=Text))
    return _enqueue(body, rows.c.id, source)


@cache
def _enqueue_team() -> Statement:
    """Return the statement that stores a delivery for each callback about a team."""
    source = select(Team).where(Team.id == bindparam("team_id"), _LISTENED_TO).subquery()
    return _enqueue({"team": team_of(source)}, source.c.id, source)


def _enqueue(body: dict[str, Any], subject: ColumnElement[int], source: FromClause) -> Statement:
    earlier = aliased(Delivery)
    is_behind = exists().where(earlier.callback_id == Callback.id, earlier.subject == subject)
    parts: list[Any] = []
    for name, value in body.items():
        parts += [literal_column(f"'{name}'"), value]
    delivery = {
        "callback_id": Callback.id,
        "subject": subject,
        "webhook_id": literal_column("'msg_'", Text) + RandomHex(),
        "body": cast(Object(*parts), Text),
        "created_at": bindparam("created_at", type_=Double),
        "attempts": literal_column("0"),
        "due_at": case((is_behind, null()), else_=literal_column("0.0")),
    }
    rows = (
        select(*delivery.values())
        .select_from(source)
        .join(Callback, Callback.event == bindparam("type", type_=Text))
        .order_by(subject, Callback.id)
    )
    return Statement(insert(Delivery).from_select(list(delivery), rows))
