"""Sending what is stored: in order, within limits of time, and never one queue twice at once.

Callbacks with something due take turns, a delivery each. Whoever sends a callback's delivery holds
its lease, a mark in its row. One short transaction stores how a sending went, gives its lease back,
and takes the lease for the next one; none is open, and nothing is locked, while a receiver is
waited for. None of these transactions waits for the disk: if a power cut undoes one, a delivery is
made once more.

A receiver that answers, but not with 2xx, or that hangs up instead, refuses: that delivery pauses,
and those behind it about the same account or team wait for it. One that cannot be reached or does
not answer in time rests as a whole.
"""

import math
import os
import socket
import time
from collections import deque
from collections.abc import Callable as Function
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from flask import current_app
from sqlalchemy import bindparam, delete, exists, func, or_, select, update

from callbacks.events import forget_old
from callbacks.signing import sign
from config import settings
from database import Statement, transaction
from integrations.http import HungUpError, UnreachableError, fetch
from models import Callback, Delivery, now

PAUSES = (5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600)
"""How many seconds to leave a receiver, or a delivery, alone after each failure in turn."""

LEASE = 60
"""How many seconds a lease outlasts its sending, should its holder die unnoticed."""

POLL = 0.05

_OF_CALLBACK = Delivery.callback_id == bindparam("callback_id")
_CALLBACK = Statement(
    select(*Callback.__table__.columns).where(Callback.id == bindparam("callback_id"))
)
_DUE = Statement(
    select(Callback.id)
    .where(
        or_(Callback.resting_until.is_(None), Callback.resting_until <= bindparam("now")),
        exists().where(Delivery.callback_id == Callback.id, Delivery.due_at <= bindparam("now")),
    )
    .order_by(Callback.id)
)
_NEXT = Statement(
    select(Delivery.id, Delivery.webhook_id, Delivery.subject, Delivery.body, Delivery.attempts)
    .where(_OF_CALLBACK, Delivery.due_at == 0)
    .order_by(Delivery.id)
    .limit(1)
)
_LEASE = Statement(
    update(Callback)
    .where(Callback.id == bindparam("callback_id"))
    .values(lease=bindparam("lease"), leased_until=bindparam("until"))
)
_REST = Statement(
    update(Callback)
    .where(Callback.id == bindparam("callback_id"))
    .values(
        failures=bindparam("failures"),
        last_error=bindparam("error"),
        resting_until=bindparam("until"),
    )
)
_PAUSE = Statement(
    update(Delivery)
    .where(Delivery.id == bindparam("delivery_id"))
    .values(
        attempted_at=bindparam("now"),
        attempts=bindparam("attempts"),
        last_error=bindparam("error"),
        due_at=bindparam("until"),
    )
)
_DELETE = Statement(delete(Delivery).where(Delivery.id == bindparam("delivery_id")))
_FREE_NEXT = Statement(
    update(Delivery)
    .where(
        Delivery.id
        == select(func.min(Delivery.id))
        .where(_OF_CALLBACK, Delivery.subject == bindparam("of_subject"))
        .scalar_subquery()
    )
    .values(due_at=0)
)
_MAKE_DUE = Statement(
    update(Delivery)
    .where(_OF_CALLBACK, Delivery.due_at > 0, Delivery.due_at <= bindparam("until"))
    .values(due_at=0)
)
_MAKE_ALL_DUE = Statement(update(Delivery).where(Delivery.due_at > 0).values(due_at=0))
_WAKE_ALL = Statement(
    update(Callback).where(Callback.resting_until.is_not(None)).values(resting_until=None)
)
_COUNT = Statement(select(func.count()).select_from(Delivery))


@dataclass(frozen=True)
class Sending:
    """One delivery on its way, where it goes, and the lease that it is sent under."""

    delivery: Any
    callback: Any = field(repr=False)
    lease: str


@dataclass(frozen=True)
class Result:
    """How a sending went: no error, a refusal, or an outage."""

    error: str | None = None
    is_outage: bool = False


@dataclass(frozen=True, kw_only=True)
class Run:
    """The limit of one run, the time at which the last sending may begin, and who is told."""

    last_start: float = math.inf
    on_delivered: Function[[], None] = lambda: None


def deliver_after_write() -> None:
    """Send all that is due, for at most twice the timeout; what is left goes out later.

    No sending begins after the timeout, so the last one ends within twice the timeout. Whatever
    goes wrong is logged: the answer to the write does not depend on it.
    """
    try:
        _deliver(Run(last_start=time.monotonic() + settings().callback_timeout.total_seconds()))
    except Exception:
        current_app.logger.exception("Delivery stopped; what is left goes out later.")


def deliver_all(run: Run, *, everything: bool = False) -> None:
    """Send all that is due, however long that takes, and forget what is past its retention.

    With `everything`, pauses are over first.
    """
    old = True
    while old:
        with transaction(write=True):
            old = forget_old()
    if everything:
        with transaction(write=True):
            _MAKE_ALL_DUE.run()
            _WAKE_ALL.run()
    while not _deliver(run):
        time.sleep(POLL)  # somebody else is at it


def make_due(callback_id: int) -> None:
    """End the pauses of a callback and of what waits for it."""
    _REST.run(callback_id=callback_id, failures=0, error=None, until=None)
    _MAKE_DUE.run(callback_id=callback_id, until=math.inf)


def count_waiting() -> int:
    """Return how many deliveries wait."""
    waiting: int = _COUNT.value()
    return waiting


def _deliver(run: Run) -> bool:
    """Let callbacks take turns; return whether nobody else was at any of them."""
    turns = deque(row.id for row in _DUE.all(now=now()))
    busy: set[int] = set()
    sent: tuple[Sending, Result] | None = None
    while turns or sent:
        with transaction(write=True, durable=False):
            if sent:
                _store(*sent)
                turns.append(sent[0].callback.id)
            sending = _take_turn(turns, busy, run)
        if sent and sent[1].error is None:
            run.on_delivered()
        sent = (sending, _send(sending)) if sending else None
    return not busy


def _take_turn(turns: deque[int], busy: set[int], run: Run) -> Sending | None:
    """Take the lease of the first callback that is free and has something due."""
    while turns and time.monotonic() <= run.last_start:
        callback = _CALLBACK.first(callback_id=turns.popleft())
        if callback is None or (callback.resting_until or 0) > now():
            continue
        if _is_leased(callback):
            busy.add(callback.id)
            continue
        _MAKE_DUE.run(callback_id=callback.id, until=now())
        if delivery := _NEXT.first(callback_id=callback.id):
            lease = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex}"
            until = now() + settings().callback_timeout.total_seconds() + LEASE
            _LEASE.run(callback_id=callback.id, lease=lease, until=until)
            return Sending(delivery, callback, lease)
    turns.clear()
    return None


def _is_leased(callback: Any) -> bool:
    """Return whether somebody who may still be alive holds a callback's lease."""
    if callback.lease is None or callback.leased_until <= now():
        return False
    host, pid, _ = callback.lease.rsplit(":", 2)
    return host != socket.gethostname() or _is_running(int(pid))


def _is_running(pid: int) -> bool:
    """Return whether a process of this machine runs; a zombie does not count."""
    try:
        os.kill(pid, 0)
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's, or a system without /proc
        return True


def _send(sending: Sending) -> Result:
    delivery, callback = sending.delivery, sending.callback
    timestamp, body = int(time.time()), delivery.body.encode()
    headers = {
        "Authorization": f"Bearer {callback.secret}",
        "Content-Type": "application/json",
        "User-Agent": "Laurels",
        "webhook-id": delivery.webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(callback.secret, delivery.webhook_id, timestamp, body),
    }
    seconds = settings().callback_timeout.total_seconds()
    begun_at = time.perf_counter()
    try:
        answer = fetch("POST", callback.url, headers=headers, data=body, seconds=seconds)
    except HungUpError as error:
        result = Result(str(error))
    except UnreachableError as error:
        result = Result(str(error), is_outage=True)
    else:
        accepted = 200 <= answer.status < 300
        result = Result() if accepted else Result(f"answered with status {answer.status}")
    current_app.logger.info(
        "delivery %s callback %d: %s, %.1f ms",
        delivery.webhook_id,
        callback.id,
        result.error or "ok",
        (time.perf_counter() - begun_at) * 1000,
    )
    return result


def _store(sending: Sending, result: Result) -> None:
    """Store how a sending went, but nothing bad of a callback that was registered again since."""
    delivery, callback_id = sending.delivery, sending.callback.id
    callback = _CALLBACK.first(callback_id=callback_id)
    if callback is None:
        return
    if callback.lease == sending.lease:
        _LEASE.run(callback_id=callback_id, lease=None, until=None)
    if result.error is None:
        _DELETE.run(delivery_id=delivery.id)
        _FREE_NEXT.run(callback_id=callback_id, of_subject=delivery.subject)
    elif callback.registered_at != sending.callback.registered_at:
        return
    else:
        attempts = delivery.attempts + (not result.is_outage)
        _PAUSE.run(
            delivery_id=delivery.id,
            now=now(),
            attempts=attempts,
            error=result.error,
            until=0 if result.is_outage else now() + _pause(attempts),
        )
    failures = callback.failures + 1 if result.is_outage else 0
    if failures or callback.failures:
        _REST.run(
            callback_id=callback_id,
            failures=failures,
            error=result.error if result.is_outage else None,
            until=now() + _pause(failures) if failures else None,
        )


def _pause(failures: int) -> int:
    return PAUSES[min(failures, len(PAUSES)) - 1]
