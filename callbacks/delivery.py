"""Sending what is stored: in order, within time limits, and never one queue twice at once.

Receivers with something due take turns, one delivery each. A receiver is the callbacks of one app
at one server; its deliveries go out in the order of their events. Whoever sends a callback's
delivery holds its lease, a mark in its row. One short transaction stores the result of a sending,
gives back its lease, and takes the lease for the next one; none is open, and nothing is locked,
while a receiver is awaited. None of these transactions waits for the disk: if a power cut undoes
one, a delivery is made once more.

A receiver that answers with anything but 2xx, or hangs up instead, refuses: that delivery pauses,
and those behind it about the same account or team wait for it. One that cannot be reached or does
not answer in time rests as a whole.
"""

import json
import math
import os
import socket
import time
from collections import deque
from collections.abc import Callable as Function
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from flask import current_app
from sqlalchemy import (
    ColumnElement,
    bindparam,
    case,
    delete,
    exists,
    func,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.exc import OperationalError

from callbacks.clock import JUMP
from callbacks.events import FREE_NEXT
from callbacks.signing import sign
from config import VERSION, settings
from database import BusyError, Statement, first_line, transaction
from integrations.http import HungUpError, UnreachableError, fetch
from models import Callback, Delivery, now
from queries import JSON, select_waiting
from shapes import given_ids

PAUSES = (5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600)
"""How many seconds to leave a receiver, or a delivery, alone after each failure in turn."""

LEASE = 30
"""How many seconds a lease outlasts its sending, should its holder die unnoticed."""

LAST_START = 0.75
"""The part of the timeout in which a write starts sendings: it may take twice the timeout in all,
and the last sending may take the timeout, and storing its result some more."""

POLL = 0.05

_RUNS: set[str] = set()
"""The leases of the runs of this process."""


def _if_ahead(moment: Any, seconds: Any) -> ColumnElement[float | None]:
    """Return the moment if `_is_ahead` is true of it, or null, in SQL."""
    latest = bindparam("now") + (seconds + JUMP)
    return case((moment.between(bindparam("now"), latest), moment))


_OF_CALLBACK = Delivery.callback_id == bindparam("callback_id")
_THIS = Callback.id == bindparam("callback_id")
_IS_OVER = Delivery.due_at > bindparam("now") + (PAUSES[-1] + JUMP)
_LONGEST_REST = case(dict(enumerate(PAUSES[:-1], 1)), value=Callback.failures, else_=PAUSES[-1])
_CALLBACK = Statement(select(*Callback.__table__.columns).where(_THIS))
_DUE = Statement(
    select(Callback.id, Callback.app_id, Callback.url)
    .where(
        or_(
            Callback.resting_until.is_(None),
            Callback.resting_until <= bindparam("now"),
            Callback.resting_until > bindparam("now") + _LONGEST_REST + JUMP,
        ),
        exists().where(
            Delivery.callback_id == Callback.id, or_(Delivery.due_at <= bindparam("now"), _IS_OVER)
        ),
    )
    .order_by(Callback.leased_until.nulls_first(), Callback.id)
)
_first = (
    select(func.min(Delivery.id))
    .where(Delivery.callback_id == Callback.id, Delivery.due_at == 0)
    .scalar_subquery()
)
_IN_ORDER = Statement(
    select(Callback.id).where(Callback.id.in_(given_ids()), _first.is_not(None)).order_by(_first)
)
_NEXT = Statement(
    select(Delivery.id, Delivery.webhook_id, Delivery.subject, Delivery.body, Delivery.attempts)
    .where(_OF_CALLBACK, Delivery.due_at == 0)
    .order_by(Delivery.id)
    .limit(1)
)
_LEASE = Statement(
    update(Callback).where(_THIS).values(lease=bindparam("lease"), leased_until=bindparam("until"))
)
_GIVE_BACK = Statement(update(Callback).where(_THIS).values(lease=None))
_REST = Statement(
    update(Callback)
    .where(_THIS)
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
_PAUSED = (  # each is found by the index, which an OR would not be
    select(Delivery.id).where(Delivery.callback_id.in_(given_ids()), condition)
    for condition in (Delivery.due_at.between(1, bindparam("now")), _IS_OVER)
)
_MAKE_DUE = Statement(update(Delivery).where(Delivery.id.in_(union_all(*_PAUSED))).values(due_at=0))
_MAKE_ALL_DUE = Statement(update(Delivery).where(Delivery.due_at > 0).values(due_at=0))
_WAKE_ALL = Statement(
    update(Callback).where(Callback.resting_until.is_not(None)).values(resting_until=None)
)
_COUNT = Statement(select(func.count()).select_from(Delivery))
_COUNT_OF_CALLBACK = Statement(select(func.count()).where(_OF_CALLBACK))
_WAITING = Statement(
    select_waiting(
        resting_until=_if_ahead(Callback.resting_until, _LONGEST_REST),
        retry_at=_if_ahead(Delivery.due_at, PAUSES[-1]),
    )
)


@dataclass(frozen=True)
class Sending:
    """A delivery on its way, its destination, and the lease that it is sent under."""

    delivery: Any
    callback: Any = field(repr=False)
    receiver: list[int]
    lease: str


@dataclass(frozen=True)
class Result:
    """The result of a sending: no error, a refusal or an outage; the status is the receiver's."""

    seconds: float
    status: int | None = None
    error: str | None = None
    is_outage: bool = False


@dataclass(frozen=True, kw_only=True)
class Run:
    """The bounds of one run, by the monotonic clock, and a function to call at its progress.

    `only` is the one callback to send to; None stands for all.
    """

    last_start: float = math.inf
    end: float = math.inf
    only: int | None = None
    on_delivered: Function[[], object] = lambda: None


def deliver_after_write(**options: Any) -> None:
    """Send everything due, for at most twice the timeout; the rest goes out later.

    Any failure is logged: the response to the write does not depend on it. The options are
    those of `Run`.
    """
    begun_at, timeout = time.monotonic(), settings().callback_timeout.total_seconds()
    last_start, end = begun_at + LAST_START * timeout, begun_at + 2 * timeout
    try:
        _deliver(Run(last_start=last_start, end=end, **options))
    except (BusyError, OperationalError) as error:
        reason = first_line(getattr(error, "orig", error))
        current_app.logger.warning("Delivery stopped; the rest is sent later: %s", reason)
    except Exception:
        current_app.logger.exception("Delivery stopped; the rest is sent later.")


def deliver_one(callback_id: int) -> dict[str, int]:
    """Send one callback's due deliveries, as after a write; count those accepted and waiting."""
    delivered = count()
    deliver_after_write(only=callback_id, on_delivered=delivered.__next__)
    still_waiting = _COUNT_OF_CALLBACK.value(callback_id=callback_id)
    return {"delivered": next(delivered), "waiting": still_waiting}


def ping(callback: Any) -> dict[str, Any]:
    """Send a callback a ping, once, and return the result."""
    result = _post(callback, f"ping_{uuid4().hex}", json.dumps({"ping": callback.event}))
    return {"status": result.status, "error": result.error, "seconds": round(result.seconds, 6)}


def deliver_all(run: Run, *, everything: bool = False) -> None:
    """Send everything due, however long that takes; `everything` ends all pauses first."""
    if everything:
        with transaction(write=True):
            _MAKE_ALL_DUE.run()
            _WAKE_ALL.run()
    while not _deliver(run):
        time.sleep(POLL)  # somebody else is sending


def make_due(callback_id: int) -> None:
    """End the rest of a callback and the pauses of its deliveries."""
    _REST.run(callback_id=callback_id, failures=0, error=None, until=None)
    _MAKE_DUE.run(ids=json.dumps([callback_id]), now=math.inf)


def view_waiting(app_id: int | None, event: str) -> JSON | None:
    """Return the queue of an app's callback for a type of event, or None if it has none."""
    seen: JSON | None = _WAITING.value(app_id=app_id, event=event, now=now())
    return seen


def count_waiting() -> int:
    """Return how many deliveries wait."""
    waiting: int = _COUNT.value()
    return waiting


def _deliver(run: Run) -> bool:
    """Send in turns, and return whether nobody else was sending to any of the callbacks."""
    lease = f"{_place()}:{os.getpid()}:{uuid4().hex}"
    _RUNS.add(lease)
    try:
        return _take_turns(run, lease)
    finally:
        _RUNS.discard(lease)  # if it could not be given back, it is dead


def _take_turns(run: Run, lease: str) -> bool:
    turns = deque([[run.only]] if run.only else _receivers())
    busy: set[int] = set()
    sent: tuple[Sending, Result] | None = None
    while turns or sent:
        patience = _patience(run.end if sent else run.last_start)
        with transaction(write=True, durable=False, patience=patience):
            if sent:
                _store(*sent)
                turns.append(sent[0].receiver)
            sending = _take_turn(turns, busy, run, lease)
        if sent and sent[1].error is None:
            run.on_delivered()
        sent = (sending, _send(sending)) if sending else None
    return not busy


def _patience(end: float) -> float:
    """Return how long to wait for the database: until `end` at most, or as leases allow.

    A transaction may wait twice, for the writers of this process and for those of others.
    """
    return min(max(end - time.monotonic(), POLL), LEASE) / 2


def _receivers() -> list[list[int]]:
    """Return the callbacks that have something due, grouped by app and server."""
    receivers: dict[tuple[Any, ...], list[int]] = {}
    for callback in _DUE.all(now=now()):
        server = urlsplit(callback.url)[:2]
        receivers.setdefault((callback.app_id, server), []).append(callback.id)
    return list(receivers.values())


def _take_turn(turns: deque[list[int]], busy: set[int], run: Run, lease: str) -> Sending | None:
    """Lease the callback with the oldest due delivery of the first receiver that is free.

    So a receiver is told about one request's events in the order in which they happened.
    """
    while turns and time.monotonic() <= run.last_start:
        receiver = turns.popleft()
        ids = json.dumps(receiver)
        _MAKE_DUE.run(ids=ids, now=now())
        for (callback_id,) in _IN_ORDER.all(ids=ids):
            callback = _CALLBACK.first(callback_id=callback_id)
            if _is_ahead(callback.resting_until, _pause(callback.failures)):
                continue
            if _is_leased(callback):
                busy.add(callback.id)
                continue
            delivery = _NEXT.first(callback_id=callback.id)
            _LEASE.run(callback_id=callback.id, lease=lease, until=now() + _lease_seconds())
            return Sending(delivery, callback, receiver, lease)
    turns.clear()
    return None


def _is_ahead(moment: float | None, seconds: float) -> bool:
    """Return whether a moment is still to come, and not one from before the clock jumped.

    Those are further ahead than the `seconds` that were to pass until then.
    """
    return moment is not None and 0 < moment - now() <= seconds + JUMP


def _is_leased(callback: Any) -> bool:
    """Return whether a callback's lease is held by a run that may still be alive."""
    if callback.lease is None:
        return False
    place, pid, _ = callback.lease.rsplit(":", 2)
    if place == _place():
        if int(pid) == os.getpid():
            return callback.lease in _RUNS
        if not _is_running(int(pid)):
            return False
    return _is_ahead(callback.leased_until, _lease_seconds())


def _lease_seconds() -> float:
    return settings().callback_timeout.total_seconds() + LEASE


def _place() -> str:
    """Return where this process's id is unique: the machine and, on Linux, the namespace."""
    host = socket.gethostname()
    try:
        return f"{host}:{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return host


def _is_running(pid: int) -> bool:
    """Return whether a process of this machine runs; a zombie does not count."""
    try:
        os.kill(pid, 0)
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except ProcessLookupError:
        return False
    except OSError:  # another user's, or a system without /proc
        return True


def _send(sending: Sending) -> Result:
    return _post(sending.callback, sending.delivery.webhook_id, sending.delivery.body)


def _post(callback: Any, webhook_id: str, text: str) -> Result:
    """Send a signed message to a callback's receiver, and return the result."""
    timestamp, body = int(time.time()), text.encode()
    headers = {
        "Authorization": f"Bearer {callback.secret}",
        "Content-Type": "application/json",
        "Laurels-Event": callback.event,
        "User-Agent": f"Laurels/{VERSION}",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(callback.secret, webhook_id, timestamp, body),
    }
    timeout = settings().callback_timeout.total_seconds()
    status, error, is_outage = None, None, False
    begun_at = time.perf_counter()
    try:
        status = fetch("POST", callback.url, headers=headers, data=body, seconds=timeout).status
    except UnreachableError as failure:
        error, is_outage = str(failure), not isinstance(failure, HungUpError)
    else:
        error = None if 200 <= status < 300 else f"answered with status {status}"
    seconds = time.perf_counter() - begun_at
    current_app.logger.info(
        "delivery %s callback %d: %s, %.1f ms",
        webhook_id,
        callback.id,
        error or "ok",
        seconds * 1000,
    )
    return Result(seconds, status, error, is_outage)


def _store(sending: Sending, result: Result) -> None:
    """Store the result of a sending, but no failure of a callback registered again since."""
    delivery, callback_id = sending.delivery, sending.callback.id
    if result.error is None and _DELETE.run(delivery_id=delivery.id):
        FREE_NEXT.run(of_callback=callback_id, of_subject=delivery.subject)
    callback = _CALLBACK.first(callback_id=callback_id)
    if callback is None or callback.lease != sending.lease:
        return  # it was deleted, or is somebody else's by now
    _GIVE_BACK.run(callback_id=callback_id)
    if result.error is not None:
        if callback.registered_at != sending.callback.registered_at:
            return
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
