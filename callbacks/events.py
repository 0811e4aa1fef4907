"""What happened: stored in the transaction of the change, together with what it gives to deliver.

Each event goes into the log by ids. If callbacks are registered for its type, the database itself
writes its body, the state right after the change, into a delivery for each of them.
"""

import json
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, NamedTuple

from flask import g, has_request_context
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Delete,
    Double,
    FromClause,
    Integer,
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
from sqlalchemy.types import TypeEngine

from authentication import principal
from callbacks.clock import wall_clock
from config import settings
from database import Statement
from models import Account, Award, Callback, Delivery, Event, EventType, LogType, Team, now
from schemas import AwardSchema
from shapes import (
    Json,
    Object,
    RandomHex,
    accounts,
    given_ids,
    shape,
    shown_award,
    team_of,
)

ACCOUNT_ATTRIBUTES = ("name", "discriminator", "avatar_url", "permissions")
"""The attributes of an account whose changes are an `account_update`."""

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
_COLUMNS: dict[str, type[TypeEngine[Any]]] = {
    "type": Text,
    "created_at": Double,
    "author": Text,
    "account_id": BigInteger,
    "team_id": BigInteger,
    "left_team_id": BigInteger,
    "award_id": BigInteger,
    "app_id": BigInteger,
    "changed": Text,
    "granted": Integer,
    "revoked": Integer,
}


def record(  # noqa: PLR0913 - what there is to say of an event
    event: EventType | LogType,
    ids: Collection[int | None],
    *,
    author: str | None = None,
    changed: Collection[str] = (),
    granted: int = 0,
    revoked: int = 0,
    **others: int | None,
) -> None:
    """Record that the same happened to each of `ids`: after the change, or before a deletion.

    They are ids of what the event's type is about; `others` are the ids of what else takes part:
    `account_id`, `team_id`, `left_team_id`, `award_id`. The team of an award is added by itself.
    """
    if not ids:
        return
    values = dict.fromkeys(_COLUMNS) | {
        "ids": json.dumps(list(ids)),
        "type": event.value,
        "created_at": now(),
        "author": author or (principal().label if has_request_context() else "command line"),
        "changed": json.dumps(list(changed)) if changed else None,
        "granted": granted,
        "revoked": revoked,
        **others,
    }
    _log(event.subject).run(**values)
    if isinstance(event, EventType):
        if "event_recorded" not in g:
            g.event_recorded = True
            forget_old()
        _enqueue(event).run(**values)


class Change(NamedTuple):
    """Which attributes of an account changed, and which permissions it got and lost."""

    changed: tuple[str, ...]
    granted: int
    revoked: int


def account_change(before: Mapping[str, Any], after: Mapping[str, Any]) -> Change:
    """Return what changed of an account, but for its team."""
    held, holds = before["permissions"], after["permissions"]
    changed = tuple(name for name in ACCOUNT_ATTRIBUTES if before[name] != after[name])
    return Change(changed, holds & ~held, held & ~holds)


def record_account_update(account_id: int, change: Change, author: str | None = None) -> None:
    """Record what changed of an account, if anything did."""
    ids = [account_id] if change.changed else []
    record(EventType.ACCOUNT_UPDATE, ids, author=author, **change._asdict())


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


@cache
def _log(subject: str) -> Statement:
    """Return the statement that writes a line for each id of what it is about."""
    ids = given_ids().subquery()
    columns: dict[str, ColumnElement[Any]] = {
        name: bindparam(name, type_=kind) for name, kind in _COLUMNS.items()
    }
    columns[f"{subject}_id"] = ids.c[0]
    team_of_award = select(Award.team_id).where(Award.id == columns["award_id"]).scalar_subquery()
    columns["team_id"] = func.coalesce(columns["team_id"], team_of_award)
    return Statement(insert(Event).from_select(list(columns), select(*columns.values())))


@cache
def _enqueue(event: EventType) -> Statement:
    """Return the statement that stores a delivery for each callback and each id."""
    models: dict[str, type[Account | Team | Award]]
    models = {"account": Account, "team": Team, "award": Award}
    model = models[event.subject]
    which = select(model).where(model.id.in_(given_ids()), _LISTENED_TO).order_by(model.id)
    parts: dict[str, Any] = {
        "award": shown_award(bindparam("award_id", type_=BigInteger)),
        "changed": Json(bindparam("changed", type_=Text)),
    }
    rows: FromClause
    source: FromClause
    if model is Account:
        rows, source, parts["account"], parts["team"] = accounts(which)
    else:
        rows = source = which.subquery()
        parts[event.subject] = team_of(rows) if model is Team else shape(AwardSchema, rows.c)
    return _delivery({name: parts[name] for name in event.body}, rows.c.id, source)


def _delivery(body: dict[str, Any], subject: ColumnElement[int], source: FromClause) -> Statement:
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
