"""Sending what is stored: in order, within limits of time, and never one queue twice at once.

Who sends a callback's deliveries holds its lease, a mark in its row. One short transaction stores
how a sending went and picks what comes next; none is open, and nothing is locked, while a receiver
is waited for. The transaction that finds nothing more to send gives the lease back, so whatever is
committed later finds the lease free, and whatever was committed earlier is sent.

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
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from flask import current_app
from sqlalchemy import ColumnElement, exists, func, or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import InstrumentedAttribute, aliased

from config import settings
from database import db, now, transaction
from events import forget_old
from models import Callback, Delivery
from outgoing import UnreachableError, fetch
from signing import sign

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
Found = TypeVar("Found", Callback, Delivery)


@dataclass(frozen=True)
class Message:
    """One delivery on its way, and where it goes."""

    delivery_id: int
    webhook_id: str
    body: bytes
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
    except SQLAlchemyError:
        current_app.logger.exception("Delivery stopped; what is left goes out later.")


def deliver_all(run: Run) -> None:
    """Send all that is due, however long that takes, and forget what is past its retention."""
    with transaction(write=True):
        forget_old()
    for callback_id in _with_something_due(run):
        while not _deliver(callback_id, run):
            time.sleep(POLL)  # somebody else is at it


def count_waiting() -> int:
    """Count the deliveries that wait."""
    with transaction(write=False):
        return db.session.scalar(select(func.count()).select_from(Delivery)) or 0


def _with_something_due(run: Run) -> list[int]:
    """List the callbacks that may have something to send."""
    callbacks = select(Callback.id).where(
        exists().where(Delivery.callback_id == Callback.id, _is_due(run))
    )
    if not run.everything:
        callbacks = callbacks.where(_is_past(Callback.resting_until, now()))
    with transaction(write=False):
        return list(db.session.scalars(callbacks.order_by(Callback.id)))


def _is_due(run: Run) -> ColumnElement[bool]:
    """Give the condition that a delivery may be tried: it does not pause, or was not tried yet."""
    if run.everything:
        return _is_past(Delivery.attempted_at, run.begun_at)
    return _is_past(Delivery.retry_at, now())


def _is_past(
    column: InstrumentedAttribute[datetime | None], moment: datetime
) -> ColumnElement[bool]:
    return or_(column.is_(None), column <= moment)


def _deliver(callback_id: int, run: Run) -> bool:
    """Send what one callback has due; say whether that was ours to do."""
    lease = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex}"
    with transaction(write=True):
        callback = _get(Callback, callback_id)
        if callback is None:
            return True
        if _is_leased(callback):
            return False
        message = _next(callback, lease, run)
    while message:
        result = _send(message)
        with transaction(write=True):
            _store(message, result)
            callback = _get(Callback, callback_id)
            if callback is None or callback.lease != lease:
                message = None  # deleted, or taken over by somebody who thought that we had died
            else:
                message = _next(callback, lease, run) if result.answered else None
                if message is None:
                    callback.lease = callback.leased_until = None
        if result.error is None:
            run.on_delivered()
    return True


def _get(model: type[Found], key: int) -> Found | None:
    """Read a record as it is now, whatever this session saw of it before."""
    return db.session.get(model, key, populate_existing=True)


def _is_leased(callback: Callback) -> bool:
    """Say whether somebody who may still be alive holds a callback's lease."""
    if callback.lease is None or callback.leased_until is None or callback.leased_until <= now():
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


def _next(callback: Callback, lease: str, run: Run) -> Message | None:
    """Pick what a callback is sent next, and take its lease for the time that this needs."""
    resting = callback.resting_until and callback.resting_until > now()
    if time.monotonic() > run.last_start or (resting and not run.everything):
        return None
    earlier = aliased(Delivery)
    delivery = db.session.scalar(
        select(Delivery)
        .where(
            Delivery.callback_id == callback.id,
            _is_due(run),
            ~exists().where(
                earlier.callback_id == callback.id,
                earlier.subject == Delivery.subject,
                earlier.id < Delivery.id,
            ),
        )
        .order_by(Delivery.id)
        .limit(1)
    )
    if delivery is None:
        return None
    callback.lease = lease
    callback.leased_until = now() + settings().callback_timeout + LEASE
    return Message(
        delivery_id=delivery.id,
        webhook_id=delivery.webhook_id,
        body=delivery.body.encode(),
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
    try:
        answer = fetch("POST", message.url, headers=headers, data=message.body, seconds=seconds)
    except UnreachableError as error:
        result = Result(str(error), answered=False)
    else:
        accepted = 200 <= answer.status < 300
        result = Result() if accepted else Result(f"answered with status {answer.status}")
    current_app.logger.info(
        "delivery %s callback %d: %s", message.webhook_id, message.callback_id, result.error or "ok"
    )
    return result


def _store(message: Message, result: Result) -> None:
    """Store how a sending went, but nothing bad of a callback that was registered again since."""
    delivery = _get(Delivery, message.delivery_id)
    callback = _get(Callback, message.callback_id)
    if delivery is None or callback is None:
        return
    if result.error is None:
        db.session.delete(delivery)
    elif callback.registered_at != message.registered_at:
        return
    else:
        delivery.attempted_at, delivery.last_error = now(), result.error
        if result.answered:
            delivery.attempts += 1
            delivery.retry_at = now() + _pause(delivery.attempts)
    callback.last_error = None if result.answered else result.error
    callback.failures = 0 if result.answered else callback.failures + 1
    callback.resting_until = None if result.answered else now() + _pause(callback.failures)


def _pause(failures: int) -> timedelta:
    return PAUSES[min(failures, len(PAUSES)) - 1]
