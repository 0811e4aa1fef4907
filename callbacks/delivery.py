"""Sending what is stored: in order, within limits of time, and never one queue twice at once.

Who sends a callback's deliveries holds its lease, a mark in its row. One short transaction stores
how a sending went and picks what comes next; none is open, and nothing is locked, while a receiver
is waited for. The transaction that finds nothing more to send gives the lease back, so whatever is
committed later finds the lease free, and whatever was committed earlier is sent. None of these
transactions waits for the disk: if a power cut undoes one, a delivery is made once more.

A receiver that answers, but not with 2xx, refuses: that delivery pauses, and those behind it about
the same account or team wait for it. One that does not answer rests as a whole.
"""

import math
import os
import socket
import time
from collections.abc import Callable as Function
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from flask import current_app
from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    bindparam,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.orm import InstrumentedAttribute, aliased

from callbacks.events import forget_old
from callbacks.signing import sign
from config import settings
from database import connection, now, transaction
from integrations.http import UnreachableError, fetch
from models import Callback, Delivery

PAUSES = [
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
]
"""How long to leave a receiver, or a delivery, alone after the first failure, the second, ..."""

LEASE = timedelta(minutes=1)
"""How long a lease outlasts the sending that it was taken for, should its holder die unnoticed."""

POLL = 0.05
_CALLBACK: Select[*tuple[Any, ...]] = select(*Callback.__table__.columns).where(
    Callback.id == bindparam("callback_id")
)
_SET_LEASE = (
    update(Callback)
    .where(Callback.id == bindparam("callback_id"))
    .values(lease=bindparam("new_lease"), leased_until=bindparam("until"))
)
_SET_HEALTH = (
    update(Callback)
    .where(Callback.id == bindparam("callback_id"))
    .values(
        failures=bindparam("failed"),
        last_error=bindparam("error"),
        resting_until=bindparam("until"),
    )
)
_SET_TRIED = (
    update(Delivery)
    .where(Delivery.id == bindparam("delivery_id"))
    .values(
        attempted_at=bindparam("tried_at"),
        attempts=bindparam("tries"),
        last_error=bindparam("error"),
        retry_at=bindparam("until"),
    )
)
_DELETE = delete(Delivery).where(Delivery.id == bindparam("delivery_id"))


@dataclass(frozen=True)
class Message:
    """One delivery on its way, and where it goes."""

    delivery_id: int
    webhook_id: str
    body: bytes
    attempts: int
    callback_id: int
    registered_at: datetime
    url: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class Result:
    """How a sending went: no error, a refusal, or no answer."""

    error: str | None = None
    answered: bool = True


@dataclass(frozen=True, kw_only=True)
class Run:
    """The limits of one run: until when a sending may begin, and whether pauses count."""

    begun_at: datetime = field(default_factory=now)
    last_start: float = math.inf
    everything: bool = False
    on_delivered: Function[[], None] = lambda: None


def deliver_after_write() -> None:
    """Send all that is due, for at most twice the timeout; what is left goes out later.

    No sending begins after the timeout, so the last one ends within twice the timeout. Whatever
    goes wrong is logged: the answer to the write does not depend on it.
    """
    run = Run(last_start=time.monotonic() + settings().callback_timeout.total_seconds())
    try:
        for callback_id in _with_something_due(run):
            _deliver(callback_id, run)
    except Exception:
        current_app.logger.exception("Delivery stopped; what is left goes out later.")


def deliver_all(run: Run) -> None:
    """Send all that is due, however long that takes, and forget what is past its retention."""
    old = True
    while old:
        with transaction(write=True):
            old = forget_old()
    for callback_id in _with_something_due(run):
        while not _deliver(callback_id, run):
            time.sleep(POLL)  # somebody else is at it


def count_waiting() -> int:
    """Count the deliveries that wait."""
    with transaction(write=False):
        return connection().scalar(select(func.count()).select_from(Delivery)) or 0


def _with_something_due(run: Run) -> list[int]:
    """List the callbacks that may have something to send."""
    statement, _ = _statements(everything=run.everything)
    with transaction(write=False):
        return list(connection().scalars(statement, {"now": now(), "moment": _moment(run)}))


def _moment(run: Run) -> datetime:
    """Give the time up to which what pauses, or was tried before, is due."""
    return run.begun_at if run.everything else now()


@cache
def _statements(*, everything: bool) -> tuple[Select[int], Select[int, str, str, int]]:
    """Make the statements that list callbacks with something due, and pick what is next of one."""
    earlier = aliased(Delivery)
    due = _is_past(Delivery.attempted_at if everything else Delivery.retry_at, "moment")
    callbacks = (
        select(Callback.id)
        .where(exists().where(Delivery.callback_id == Callback.id, due))
        .order_by(Callback.id)
    )
    following = (
        select(Delivery.id, Delivery.webhook_id, Delivery.body, Delivery.attempts)
        .where(
            Delivery.callback_id == bindparam("callback_id"),
            due,
            ~exists().where(
                earlier.callback_id == Delivery.callback_id,
                earlier.subject == Delivery.subject,
                earlier.id < Delivery.id,
            ),
        )
        .order_by(Delivery.id)
        .limit(1)
    )
    if not everything:
        callbacks = callbacks.where(_is_past(Callback.resting_until, "now"))
    return callbacks, following


def _is_past(column: InstrumentedAttribute[datetime | None], moment: str) -> ColumnElement[bool]:
    return or_(column.is_(None), column <= bindparam(moment))


def _deliver(callback_id: int, run: Run) -> bool:
    """Send what one callback has due; say whether that was ours to do."""
    lease = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex}"
    with transaction(write=True, durable=False):
        callback = _read(callback_id)
        if callback is None:
            return True
        if _is_leased(callback):
            return False
        resting = callback.resting_until and callback.resting_until > now()
        message = None if resting and not run.everything else _next(callback, lease, run)
    while message:
        result = _send(message)
        with transaction(write=True, durable=False):
            callback = _read(callback_id)
            if callback is not None:
                _store(callback, message, result)
            if callback is None or callback.lease != lease:
                message = None  # deleted, or taken over by somebody who thought that we had died
            else:
                message = _next(callback, lease, run) if result.answered else None
                if message is None:
                    _set_lease(callback_id, None, None)
        if result.error is None:
            run.on_delivered()
    return True


def _read(callback_id: int) -> Row[Any] | None:
    return connection().execute(_CALLBACK, {"callback_id": callback_id}).first()


def _is_leased(callback: Row[Any]) -> bool:
    """Say whether somebody who may still be alive holds a callback's lease."""
    if callback.lease is None or callback.leased_until <= now():
        return False
    host, pid, _ = callback.lease.rsplit(":", 2)
    return host != socket.gethostname() or _is_running(int(pid))


def _is_running(pid: int) -> bool:
    """Say whether a process of this machine runs; one that only waits to be buried does not."""
    try:
        os.kill(pid, 0)
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's, or a system without /proc
        return True


def _set_lease(callback_id: int, lease: str | None, until: datetime | None) -> None:
    values = {"callback_id": callback_id, "new_lease": lease, "until": until}
    connection().execute(_SET_LEASE, values)


def _next(callback: Row[Any], lease: str, run: Run) -> Message | None:
    """Pick what a callback is sent next, and take its lease for the time that this needs."""
    if time.monotonic() > run.last_start:
        return None
    _, statement = _statements(everything=run.everything)
    parameters = {"callback_id": callback.id, "moment": _moment(run)}
    delivery = connection().execute(statement, parameters).first()
    if delivery is None:
        return None
    _set_lease(callback.id, lease, now() + settings().callback_timeout + LEASE)
    return Message(
        delivery_id=delivery.id,
        webhook_id=delivery.webhook_id,
        body=delivery.body.encode(),
        attempts=delivery.attempts,
        callback_id=callback.id,
        registered_at=callback.registered_at,
        url=callback.url,
        secret=callback.secret,
    )


def _send(message: Message) -> Result:
    timestamp = int(time.time())
    headers = {
        "Authorization": f"Bearer {message.secret}",
        "Content-Type": "application/json",
        "User-Agent": "Laurels",
        "webhook-id": message.webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(message.secret, message.webhook_id, timestamp, message.body),
    }
    seconds = settings().callback_timeout.total_seconds()
    begun_at = time.perf_counter()
    try:
        answer = fetch("POST", message.url, headers=headers, data=message.body, seconds=seconds)
    except UnreachableError as error:
        result = Result(str(error), answered=False)
    else:
        accepted = 200 <= answer.status < 300
        result = Result() if accepted else Result(f"answered with status {answer.status}")
    current_app.logger.info(
        "delivery %s callback %d: %s, %.1f ms",
        message.webhook_id,
        message.callback_id,
        result.error or "ok",
        (time.perf_counter() - begun_at) * 1000,
    )
    return result


def _store(callback: Row[Any], message: Message, result: Result) -> None:
    """Store how a sending went, but nothing bad of a callback that was registered again since."""
    if result.error is None:
        connection().execute(_DELETE, {"delivery_id": message.delivery_id})
    elif callback.registered_at != message.registered_at:
        return
    else:
        attempts = message.attempts + result.answered
        tried = {
            "delivery_id": message.delivery_id,
            "tried_at": now(),
            "tries": attempts,
            "error": result.error,
            "until": now() + _pause(attempts) if result.answered else None,
        }
        connection().execute(_SET_TRIED, tried)
    failures = 0 if result.answered else callback.failures + 1
    if failures or callback.failures:
        health = {
            "callback_id": callback.id,
            "failed": failures,
            "error": None if result.answered else result.error,
            "until": now() + _pause(failures) if failures else None,
        }
        connection().execute(_SET_HEALTH, health)


def _pause(failures: int) -> timedelta:
    return PAUSES[min(failures, len(PAUSES)) - 1]
