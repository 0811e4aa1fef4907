"""What happened: stored in the transaction of the change, together with what it makes to deliver.

Each event goes into the log by ids. If callbacks are registered for its type, its body, the state
right after the change, is stored once for each of them as a delivery.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import uuid4

from flask import g, has_request_context
from sqlalchemy import bindparam, delete, insert, select

import queries
from authentication import principal
from config import settings
from database import batches, connection, now
from dumping import dumper
from models import Callback, Delivery, Event, EventType
from queries import Record
from schemas import AccountSchema, AwardSchema, TeamSchema

_dump_account, _dump_team = dumper(AccountSchema()), dumper(TeamSchema())
_dump_award = dumper(AwardSchema())

_LISTENERS = select(Callback.id).where(Callback.event == bindparam("event"))

FORGET_AT_ONCE = 1000
"""How many old records one write clears away at most."""

_FORGET = [
    delete(model).where(
        model.id.in_(
            select(model.id).where(model.created_at < bindparam("moment")).limit(FORGET_AT_ONCE)
        )
    )
    for model in (Event, Delivery)
]


def record_accounts(  # noqa: PLR0913 - the columns of the log
    event: EventType,
    account_ids: Iterable[int],
    *,
    author: str | None = None,
    team_id: int | None = None,
    left_team_id: int | None = None,
    award: Record | None = None,
) -> None:
    """Record that the same happened to accounts: after the change, or before a deletion."""
    callbacks = _callbacks(event)
    log = {"team_id": team_id, "left_team_id": left_team_id, "award_id": award and award["id"]}
    for batch in batches(account_ids):
        bodies = {}
        if callbacks:
            for record in queries.accounts(batch):
                bodies[record["id"]] = _account_body(event, record, award)
        _log(event, author, [log | {"account_id": account_id} for account_id in batch])
        _enqueue(callbacks, [(account_id, bodies.get(account_id)) for account_id in batch])


def record_team(event: EventType, team_id: int) -> None:
    """Record that something happened to a team: after the change, or before a deletion."""
    callbacks = _callbacks(event)
    _log(event, None, [{"team_id": team_id}])
    if callbacks:
        _enqueue(callbacks, [(team_id, {"team": _dump_team(queries.team(team_id))})])


def forget_old() -> bool:
    """Delete a part of what is past its retention, of the log and of what waits; say if any was."""
    forgotten = 0
    for statement, age in zip(
        _FORGET, (settings().event_retention, settings().callback_retention), strict=True
    ):
        forgotten += connection().execute(statement, {"moment": now() - age}).rowcount
    return forgotten > 0


def recorded_some() -> bool:
    """Say, once, whether an event was recorded since this was last asked."""
    return bool(g.pop("event_recorded", False))


def _callbacks(event: EventType) -> list[int]:
    return list(connection().scalars(_LISTENERS, {"event": event.value}))


def _account_body(event: EventType, account: Record, award: Record | None) -> dict[str, Any]:
    shown = _dump_account(account)
    if event is EventType.ACCOUNT_TEAM_UPDATE:
        return {"account": shown, "team": shown["team"]}
    if award is not None:
        return {"award": _dump_award(award), "account": shown}
    return {"account": shown}


def _log(event: EventType, author: str | None, subjects: list[Mapping[str, Any]]) -> None:
    if "event_recorded" not in g:
        g.event_recorded = True
        forget_old()
    author = author or (principal().label if has_request_context() else "command line")
    common = {"type": event.value, "author": author, "created_at": now()}
    connection().execute(insert(Event), [{**common, **subject} for subject in subjects])


def _enqueue(callbacks: list[int], bodies: Iterable[tuple[int, Mapping[str, Any] | None]]) -> None:
    deliveries = [
        {
            "callback_id": callback_id,
            "subject": subject,
            "webhook_id": f"msg_{uuid4().hex}",
            "body": json.dumps(body),
            "created_at": now(),
            "attempts": 0,
        }
        for subject, body in bodies
        for callback_id in callbacks
    ]
    if deliveries:
        connection().execute(insert(Delivery), deliveries)
