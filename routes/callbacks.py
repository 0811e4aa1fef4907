"""Callbacks: where an app wants to be told of events."""

from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update
from werkzeug.exceptions import NotFound

import queries
from api.endpoints import Blueprint
from authentication import principal
from callbacks.delivery import make_due
from callbacks.events import record
from database import Statement
from models import Callback, EventType, LogType, now
from permissions import Action
from queries import JSON
from schemas import CallbackSchema, CallbacksSchema, NewCallback

NONE = {404: "This app has no callback for team_create."}

_own = (Callback.app_id == bindparam("app"), Callback.event == bindparam("type"))
_ID = Statement(select(Callback.id).where(*_own))
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
    own = _own_callback(event)
    registered: int | None = _ID.value(**own)
    (_INSERT if registered is None else _UPDATE).run(**own, **body, registered_at=now())
    if registered is not None:
        make_due(registered)
    record(LogType.CALLBACK_REGISTER, [principal().app_id], changed=[event])
    return _registered(event)


@blp.get(
    "/callback/<event>",
    returns={200: CallbackSchema},
    needs=Action.MANAGE_CALLBACKS,
    errors=NONE,
)
def view_callback(event: EventType) -> JSON:
    """View the callback that is registered for a type of event."""
    return _registered(event)


@blp.delete("/callback/<event>", returns={204: None}, needs=Action.MANAGE_CALLBACKS, errors=NONE)
def delete_callback(event: EventType) -> None:
    """Delete the callback for a type of event, and what waits for it."""
    _registered(event)
    _DELETE.run(**_own_callback(event))
    record(LogType.CALLBACK_DELETE, [principal().app_id], changed=[event])


@blp.get("/callbacks", returns={200: CallbacksSchema}, needs=Action.MANAGE_CALLBACKS)
def list_callbacks() -> JSON | None:
    """List the URLs of the app's callbacks, by type of event."""
    return queries.callbacks(principal().app_id)


def _own_callback(event: EventType) -> dict[str, Any]:
    return {"app": principal().app_id, "type": event.value}


def _registered(event: EventType) -> JSON:
    callback = queries.callback(principal().app_id, event.value)
    if callback is None:
        raise NotFound(f"This app has no callback for {event.value}.")
    return callback
