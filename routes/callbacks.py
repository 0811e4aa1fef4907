"""Callbacks: where an app wants its events sent."""

from typing import Any, TypeVar

from sqlalchemy import bindparam, delete, insert, select, update
from werkzeug.exceptions import NotFound

import queries
from api.endpoints import Blueprint
from authentication import principal
from callbacks.delivery import deliver_one, make_due, ping, view_waiting
from callbacks.events import record
from database import Statement
from models import Callback, EventType, LogType, now
from permissions import Action
from queries import JSON
from schemas import (
    CallbackSchema,
    CallbacksSchema,
    DeliveredSchema,
    DeliveriesSchema,
    NewCallback,
    PingSchema,
)

Found = TypeVar("Found")

NONE = {404: "This app has no callback for team_create."}

_own = (Callback.app_id == bindparam("app"), Callback.event == bindparam("type"))
_OWN = Statement(select(Callback.id, Callback.event, Callback.url, Callback.secret).where(*_own))
_VALUES = {
    "url": bindparam("url"),
    "secret": bindparam("secret"),
    "registered_at": bindparam("registered_at"),
    "failures": 0,
    "last_error": None,
}
_INSERT = Statement(
    insert(Callback).values(app_id=bindparam("app"), event=bindparam("type"), **_VALUES)
)
_UPDATE = Statement(update(Callback).where(*_own).values(**_VALUES))
_DELETE = Statement(delete(Callback).where(*_own))

blp = Blueprint("callbacks", __name__, "Where an app wants its events sent")


@blp.put(
    "/callback/<event>",
    body=NewCallback,
    returns={200: CallbackSchema},
    needs=Action.MANAGE_CALLBACKS,
)
def put_callback(event: EventType, body: dict[str, Any]) -> JSON:
    """Register where to send the events of a type, replacing any earlier registration.

    A callback that is registered again keeps its id and its queue, which is sent to the new URL
    with the next event.
    """
    own = _key(event)
    registered: int | None = _OWN.value(**own)
    (_INSERT if registered is None else _UPDATE).run(**own, **body, registered_at=now())
    if registered is not None:
        make_due(registered)
    record(LogType.CALLBACK_REGISTER, [principal().app_id], changed=[event])
    return _view(event)


@blp.get(
    "/callback/<event>",
    returns={200: CallbackSchema},
    needs=Action.MANAGE_CALLBACKS,
    errors=NONE,
)
def view_callback(event: EventType) -> JSON:
    """View the callback registered for a type of event."""
    return _view(event)


@blp.delete("/callback/<event>", returns={204: None}, needs=Action.MANAGE_CALLBACKS, errors=NONE)
def delete_callback(event: EventType) -> None:
    """Delete the callback for a type of event, with its queue."""
    _registered(event)
    _DELETE.run(**_key(event))
    record(LogType.CALLBACK_DELETE, [principal().app_id], changed=[event])


@blp.get("/callbacks", returns={200: CallbacksSchema}, needs=Action.MANAGE_CALLBACKS)
def list_callbacks() -> JSON | None:
    """List the URLs of the app's callbacks, by type of event."""
    return queries.callbacks(principal().app_id)


@blp.post(
    "/callback/<event>/test",
    returns={200: PingSchema},
    needs=Action.MANAGE_CALLBACKS,
    then=ping,
    errors=NONE,
)
def ping_callback(event: EventType) -> Any:
    """Send a ping to the callback at once, and report the result.

    The body is `{"ping": "team_create"}`, and the `webhook-id` begins with `ping_`; all else is as
    in a delivery. A ping is not tried again, and does not affect the queue. `status` is null if
    there was no response, and `error` is null if it was accepted.
    """
    return _registered(event)


@blp.get(
    "/callback/<event>/deliveries",
    returns={200: DeliveriesSchema},
    needs=Action.MANAGE_CALLBACKS,
    errors=NONE,
)
def list_deliveries(event: EventType) -> JSON:
    """List the deliveries queued for the callback's receiver, and why they wait.

    The first 100 are listed, in the order in which they will be sent. `retry_at` is when a refused
    one is due again; if it is null, the delivery is due, or waits behind another about the same
    account or team. None is sent before `resting_until`, the end of the rest of a receiver that
    could not be reached; `last_error` says why it rests.
    """
    return _found(event, view_waiting(principal().app_id, event.value))


@blp.post(
    "/callback/<event>/deliver",
    returns={200: DeliveredSchema},
    needs=Action.MANAGE_CALLBACKS,
    then=deliver_one,
    errors=NONE,
)
def deliver_callback(event: EventType) -> int:
    """Send everything queued for the callback now, regardless of pauses and rests.

    This takes at most twice the time that a receiver has to respond; the rest are sent later.
    Deliveries that another request is sending are not sent twice.
    """
    callback_id: int = _registered(event).id
    make_due(callback_id)
    return callback_id


def _key(event: EventType) -> dict[str, Any]:
    return {"app": principal().app_id, "type": event.value}


def _registered(event: EventType) -> Any:
    return _found(event, _OWN.first(**_key(event)))


def _view(event: EventType) -> JSON:
    return _found(event, queries.callback(principal().app_id, event.value))


def _found(event: EventType, found: Found | None) -> Found:
    if found is None:
        raise NotFound(f"This app has no callback for {event.value}.")
    return found
