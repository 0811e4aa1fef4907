"""Callbacks: where an app wants to be told of events."""

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

blp = Blueprint("callbacks", __name__, "Where an app wants to be told of events")


@blp.put(
    "/callback/<event>",
    body=NewCallback,
    returns={200: CallbackSchema},
    needs=Action.MANAGE_CALLBACKS,
)
def put_callback(event: EventType, body: dict[str, Any]) -> JSON:
    """Register where to send the events of a type, in place of what was registered before.

    A callback that is registered again keeps its id and what waits for it, which goes to the new
    URL with the next event.
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
    """View the callback that is registered for a type of event."""
    return _view(event)


@blp.delete("/callback/<event>", returns={204: None}, needs=Action.MANAGE_CALLBACKS, errors=NONE)
def delete_callback(event: EventType) -> None:
    """Delete the callback for a type of event, and what waits for it."""
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
    """Send a ping to the callback at once, and tell what came of it.

    The body is `{"ping": "team_create"}`, and the `webhook-id` begins with `ping_`; all else is as
    in a delivery. A ping is not tried again, and changes nothing about what waits. The `status` is
    null if there was no answer. The `error` is null if all is well.
    """
    return _registered(event)


@blp.get(
    "/callback/<event>/deliveries",
    returns={200: DeliveriesSchema},
    needs=Action.MANAGE_CALLBACKS,
    errors=NONE,
)
def list_deliveries(event: EventType) -> JSON:
    """List what waits for the callback's receiver, and why.

    The first 100 deliveries are listed, in the order in which they will go out. `retry_at` is when
    a refused one is due again; where it is null, the delivery is due, or waits for one before it
    about the same account or team. None goes out before `resting_until`, the end of the rest of a
    receiver that could not be reached; `last_error` tells why it rests.
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
    """Send all that waits for the callback now, its pauses and its receiver's rest being over.

    This takes at most twice the time that a receiver has to answer; what is left goes out later.
    What another request is sending just now is not sent twice.
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
